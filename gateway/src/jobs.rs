//! The life of jobs, from a checked request to the answer of a waiting client. `accept` tells it from top to bottom; `commit`
//! makes sure of what became of a new job, `waiters` and `completions` bring its end, `abandonment` cancels what no client
//! waits for, and `poison` makes a failed job again for an operator.
//!
//! The room knows nothing of HTTP beyond the errors that a client may be told.

mod abandonment;
pub(crate) mod accept;
mod commit;
mod completions;
mod handle;
pub mod poison;
mod waiters;

pub(crate) use abandonment::Canceller;
pub(crate) use completions::Completions;
pub(crate) use handle::{Jobs, Terms};
pub use waiters::{Damaged, Wait, Waiters};
