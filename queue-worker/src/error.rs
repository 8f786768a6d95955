//! The reason why a worker ended. Each error says whether its runner, the node's registration or the engine is at
//! fault.

use std::io;

use infera_broker::BrokerError;

/// The reason why a worker ended or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The runner's settings have these mistakes.
    #[error("worker configuration: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The engine's context is smaller than the model's. Answers would end too early, which verifiers count as a
    /// fault of the node.
    #[error("the engine holds {engine} tokens per sequence, the model's context is {model}")]
    Context {
        /// The tokens that the engine holds per sequence.
        engine: usize,
        /// The model's context, in tokens.
        model: usize,
    },
    /// The queue can't be consumed, and a retry doesn't help: it is gone (register the node again), or it isn't of
    /// the expected kind.
    #[error("the node's queue: {0}")]
    Queue(#[source] BrokerError),
    /// The engine failed for good; a restart of the process may help.
    #[error("the engine is gone: {0}")]
    EngineGone(String),
    /// The engine doesn't return from a step. Only the end of the process frees it.
    #[error("the engine hangs in a step")]
    EngineHangs,
    /// The operating system gave no thread for the engine.
    #[error("no thread for the engine: {0}")]
    Thread(#[source] io::Error),
    /// The file of assignments run alone can't be read.
    #[error("alone_file: {0}")]
    AloneFile(#[source] io::Error),
}
