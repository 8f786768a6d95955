//! The reasons for an erasure, by the numbers with which tables hold them.

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
