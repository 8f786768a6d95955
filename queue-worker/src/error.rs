//! The reason why a worker ended, or why a model isn't served. Each error says whether its runner, the node's registration or
//! the engine is at fault.

use std::io;

use infera_broker::BrokerError;
use infera_types::ids::ModelName;

/// The reason why a worker ended or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The runner's settings have these mistakes.
    #[error("worker configuration: {}", .0.join("; "))]
    Config(Vec<String>),
    /// One of the models can't be served.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The queue can't be consumed, and a retry doesn't help: it is gone (register the node again), or it isn't of
    /// the expected kind.
    #[error("the node's queue: {0}")]
    Queue(#[source] BrokerError),
    /// The engine failed for good, and no other model is served; a restart of the process may help.
    #[error("the engine is gone: {0}")]
    EngineGone(String),
    /// The engine doesn't return from a step. Only the end of the process frees it.
    #[error("the engine hangs in a step")]
    EngineHangs,
    /// The file of assignments run alone can't be read.
    #[error("alone_file: {0}")]
    AloneFile(#[source] io::Error),
}

/// The reason why a model isn't served, or isn't unloaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The engine's context is smaller than the model's. Answers would end too early, which verifiers count as a
    /// fault of the node.
    #[error("{name}: the engine holds {engine} tokens per sequence, the model's context is {model}")]
    Context {
        /// The model.
        name: ModelName,
        /// The tokens that the engine holds per sequence.
        engine: usize,
        /// The model's context, in tokens.
        model: usize,
    },
    /// Two models have one name.
    #[error("two models are called {0}: give one folder another name, or leave one out")]
    SameName(ModelName),
    /// Two models are the same by their digest, by which assignments name them.
    #[error("{0} and {1} are the same model, by their digest: leave one out")]
    SameModel(ModelName, ModelName),
    /// There are more models than a heartbeat announces.
    #[error("a worker serves at most {max} models; {0} is one too many", max = crate::config::MODELS_MAX)]
    TooMany(ModelName),
    /// No model is served under the name.
    #[error("no model called {0} is served")]
    Unknown(ModelName),
    /// The operating system gave no thread for the engine.
    #[error("{0}: no thread for the engine: {1}")]
    Thread(ModelName, #[source] io::Error),
    /// The engine doesn't return from a step, so that its memory isn't free before the process ends.
    #[error("{0}: the engine hangs in a step; its memory is free once the process ends")]
    Hangs(ModelName),
    /// The worker is shutting down or has ended.
    #[error("the worker is ending")]
    Ending,
}
