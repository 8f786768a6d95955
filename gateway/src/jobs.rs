//! The life of a job, from a checked request to the answer of a waiting client. `accept` tells it from top to bottom.
//! `pools` says which nodes it may go to, `standby` how it waits for its turn, `prompt` estimates its tokens, `pricing`
//! says what it may cost, `earlier` finds what an idempotency key was used for, `new_job` makes its row (`order` holds what is asked for and what comes of it), `commit` makes
//! sure of what became of it, `waiters` and `completions` bring its end, `ends` puts those of a request's several answers together, `shown` says what is shown of them, `abandonment` cancels jobs that no client waits
//! for, and `poison` lets an operator replay a failed job. `batch` accepts several jobs at once, `following` follows a
//! job that goes on without its client, and `collecting` waits for the ends of any. `streams` brings what is released of answers in
//! progress, `passing` knows what was heard of one, `mark` what a client has of it, and `silence` when more is asked for; `joining`
//! waits for the jobs of an earlier request, which `reading` reads, and tells a stream which these are; `parting` ends those whose client
//! hung up.
//!
//! Of HTTP, this room knows only the errors that a client may get.

mod abandonment;
pub(crate) mod accept;
pub(crate) mod batch;
mod collecting;
mod commit;
mod completions;
mod earlier;
pub(crate) mod ends;
pub(crate) mod following;
mod handle;
mod joining;
mod mark;
mod new_job;
mod order;
mod parting;
mod passing;
pub mod poison;
mod pools;
mod pricing;
pub(crate) mod prompt;
mod reading;
mod shown;
mod silence;
mod standby;
mod streams;
mod waiters;

pub(crate) use abandonment::Canceller;
pub(crate) use collecting::{Collectors, Wish};
pub(crate) use completions::Completions;
pub(crate) use handle::{Jobs, Terms};
pub(crate) use joining::{Joined, Joins};
pub(crate) use mark::{Mark, Overturned};
pub(crate) use parting::Parting;
pub(crate) use passing::Passing;
pub(crate) use streams::{Following, Streams};
pub use waiters::{Damaged, Wait, Waiters};
