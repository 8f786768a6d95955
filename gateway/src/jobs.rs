//! The life of a job, from a checked request to the answer of a waiting client. `accept` tells it from top to bottom.
//! `standby` says how it waits for its turn, `commit` makes sure of what became of a new job, `waiters` and `completions` bring its end, `abandonment` cancels
//! jobs that no client waits for, and `poison` lets an operator replay a failed job.
//!
//! Of HTTP, this room knows only the errors that a client may get.

mod abandonment;
pub(crate) mod accept;
mod commit;
mod completions;
mod handle;
pub mod poison;
mod standby;
mod waiters;

pub(crate) use abandonment::Canceller;
pub(crate) use completions::Completions;
pub(crate) use handle::{Jobs, Terms};
pub use waiters::{Damaged, Wait, Waiters};
