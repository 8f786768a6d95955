//! Why a worker ended. Each error says whether its runner, the node's registration or the engine has to be mended.

use std::io;

use infera_broker::BrokerError;

/// Why a worker ended, or didn't begin.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The runner's settings; all mistakes at once.
    #[error("worker configuration: {}", .0.join("; "))]
    Config(Vec<String>),
    /// Answers would end too early, which verifiers count as a fault of the node.
    #[error("the engine holds {engine} tokens per sequence, the model's context is {model}")]
    Context {
        /// What the engine holds.
        engine: usize,
        /// What the model folder says.
        model: usize,
    },
    /// The queue can't be consumed and won't be: gone (register the node again), or not what it should be.
    #[error("the node's queue: {0}")]
    Queue(#[source] BrokerError),
    /// The engine failed for good; a restart of the process may help.
    #[error("the engine is gone: {0}")]
    EngineGone(String),
    /// The engine doesn't come back from a step; only the end of the process frees it.
    #[error("the engine hangs in a step")]
    EngineHangs,
    /// No thread for the engine.
    #[error("no thread for the engine: {0}")]
    Thread(#[source] io::Error),
    /// The file of assignments run alone can't be read.
    #[error("alone_file: {0}")]
    AloneFile(#[source] io::Error),
}
