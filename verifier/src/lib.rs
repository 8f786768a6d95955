//! Runs a verifier: owns jobs, judges the nodes' answers, settles.
//!
//! Read `job` first: the life of a job, top to bottom. What decides in it are the pure functions of [`decisions`]; the rule
//! that draws a group is [`decisions::group_draw`]. Everything else is around the two, each room importing only from those
//! before it:
//!
//! 1. [`decisions`]: pure functions of values and a `now`.
//! 2. `config`, `error`, `seams`, [`catalogue`]: the settings, what can be wrong with them, the traits to the outside, and the
//!    models on offer.
//! 3. `nodes`: which nodes are alive, how they stand, and where their messages go.
//! 4. `tenure`: what all tasks of one verifier id share.
//! 5. `job`: one job's life, from the taken row to the closed group.
//! 6. `intake`: reads the queues; it begins jobs, and brings nodes' answers to them.
//! 7. `background`: the tasks that serve no single job: sweeper, projector, archiver, warden, and the like.
//! 8. `run` starts the tasks of one tenure and keeps its lease; `verifier` runs one tenure after the other.

mod background;
pub mod catalogue;
mod config;
pub mod decisions;
mod error;
mod intake;
mod job;
mod nodes;
mod run;
mod seams;
mod streams;
mod tenure;
mod verifier;

pub use crate::config::{Config, ConfigError};
pub use crate::error::VerifierError;
pub use crate::seams::{Gate, Seams};
pub use crate::tenure::{Counters, VerifierHandle};
pub use crate::verifier::Verifier;
