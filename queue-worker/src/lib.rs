//! The queue worker: takes assignments from its node's queue and answers each with a replica, on the engine of its model.
//!
//! The rooms, the highest first. Each may import the rooms below it in this list, and none above it.
//!
//! * `worker` assembles the parts, runs them and ends them.
//! * `intake` takes deliveries from the node's queue and gives each its own task. It never looks into a message.
//! * `models` lets models come and go, and notices engines that are gone.
//! * `heartbeat` tells verifiers that the node is alive, and how many slots of each model are free.
//! * `assignment` has the life of one assignment, from receipt to ack. Read it first.
//! * `framing` tells verifiers the tokens of streamed answers while they are written.
//! * [`executor`] owns an engine on a thread of its own and decides which sequences join the next step (`batcher`,
//!   pure). It knows tokens only.
//! * `tokenizer` turns text into tokens and back.
//! * [`vitals`] shows the node's runner the worker's state and its event counters (`counts`), and takes its orders.
//! * `model` is a model as it is handed over, `capacity` how many of each one's slots are free.
//! * `error` has the reasons why a worker ended, and `config` its settings.
//!
//! This crate is not the engine that a verifier uses. It knows no ledger and no archive, and compares no answers.
//! Where the worker is a program of its own, `program/` has a gateway let it in and assembles it.

mod assignment;
mod capacity;
mod config;
mod counts;
mod error;
pub mod executor;
mod framing;
mod heartbeat;
mod intake;
mod model;
mod models;
mod tokenizer;
pub mod vitals;
mod worker;

pub use config::{Config, MODELS_MAX};
pub use counts::Counts;
pub use error::{ModelError, WorkerError};
pub use model::Model;
pub use vitals::WorkerHandle;
pub use worker::{Seams, Worker};
