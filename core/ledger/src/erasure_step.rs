//! The steps of an erasure and the reasons for it, by the numbers with which tables hold them.

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

/// Returns the number of the reason for an erasure in the tables: `retention`, that of the job's key is over; `unstored`, the job
/// is not to be stored; `ordered`, its account or an operator asked for it. Of two reasons the greater counts: a record whose
/// retention alone is over goes with its whole segment, which is not rewritten for it.
#[macro_export]
macro_rules! erasure_reason {
    (retention) => {
        0
    };
    (unstored) => {
        1
    };
    (ordered) => {
        2
    };
}
