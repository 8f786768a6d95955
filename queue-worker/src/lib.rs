//! The queue worker: takes assignments from its node's queue and answers each with a replica, on one engine.
//!
//! The rooms, the highest first: each may import the rooms below it in this list, and none above it.
//!
//! * `worker` puts the parts together, runs them and ends them.
//! * `intake` takes deliveries from the node's queue and gives each a task. It never looks into a message.
//! * `assignment` is the life of one assignment, from receipt to ack. Read it first.
//! * `heartbeat` tells verifiers that the node lives and how many of its slots are free.
//! * [`executor`] owns the engine on a thread of its own and decides who joins the next step (`batcher`, pure). It knows
//!   tokens only.
//! * `tokenizer` turns text into tokens and back.
//! * [`vitals`] shows the node's runner how the worker is, from what it counts (`counts`).
//! * `error` says why a worker ended, `config` what can be set.
//!
//! This crate is not the verifier's engine, knows no ledger and no archive, and compares nothing. Where the worker is a
//! program of its own, `program/` gets it in at a gateway and composes it.

mod assignment;
mod config;
mod counts;
mod error;
pub mod executor;
mod heartbeat;
mod intake;
mod tokenizer;
pub mod vitals;
mod worker;

pub use config::Config;
pub use counts::Counts;
pub use error::WorkerError;
pub use vitals::WorkerHandle;
pub use worker::{Seams, Worker};
