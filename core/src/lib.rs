//! Words and seams of Infera. Everything that two roles share is here, and nothing that one role does.
//!
//! Read in this order: what things are called (`ids`, `time`), what a client may ask and what a settled job is
//! (`job`), what crosses the broker (`messages`), then the seams, each a small trait with its contract in the
//! doc comment and its implementations beside it (`broker`, `ledger`, `archive`, `engine`), and last the
//! plumbing that every program needs (`config`, `program`, `telemetry`, `shutdown`).
//!
//! This crate never imports a role.

pub mod ids;
pub mod time;

pub mod job;
pub mod messages;
pub mod sampling;

pub mod archive;
pub mod broker;
pub mod engine;
pub mod ledger;

#[cfg(any(feature = "chat", feature = "onnx"))]
pub mod model_folder;

#[cfg(feature = "chat")]
pub mod chat;

pub mod config;
#[cfg(feature = "operations")]
pub mod operations;
#[cfg(feature = "program")]
pub mod program;
pub mod shutdown;
pub mod telemetry;
#[cfg(feature = "tls")]
pub mod tls;
