//! The queue worker: assignments in, replicas out, on one node with one engine.
//!
//! The life of an assignment is `assignment.rs`; read it first. Around it, in the order that the data moves:
//! `consumer` takes deliveries from the node's own queue and gives each a task, `admission` decides what becomes of
//! it (pure), `desk` knows what is running and what was answered already (`cache`), `tokenizer` turns text into
//! tokens and back, `batcher` decides who joins the next step (pure), `executor` owns the engine and takes that step, `publisher` says the
//! answer or the refusal, and `heartbeat` says that the node lives. `redelivery` remembers what may have killed us.
//!
//! Where the worker is a program of its own, on a stranger's machine, `registration` gets it in at a gateway and
//! `program` composes it.
//!
//! This crate is not the verifier's engine, knows no ledger and no archive, and compares nothing.

mod admission;
mod answer;
mod assignment;
pub mod batcher;
mod cache;
mod config;
mod consumer;
mod counts;
mod desk;
pub mod executor;
mod heartbeat;
mod publisher;
mod redelivery;
mod tokenizer;
pub mod vitals;
mod worker;

pub use config::Config;
pub use counts::CountsSnapshot;
pub use vitals::WorkerHandle;
pub use worker::{Worker, WorkerError};
