//! The steps of an erasure, by the numbers with which tables hold them.

/// Returns the number of an erasure's step in the tables: `set`, its time is set; `bare`, the text is gone from the ledger;
/// `replaced`, it is gone from the segment's present object, and the old one is to be removed; `done`, nothing is left.
///
/// It is a literal, for the reasons that [`crate::job_state!`] gives, and never changes.
#[macro_export]
macro_rules! erasure_step {
    (set) => {
        0
    };
    (bare) => {
        1
    };
    (replaced) => {
        2
    };
    (done) => {
        3
    };
}
