//! A model as it is handed to a worker, and the orders by which models come and go while it runs.

use std::fmt;
use std::sync::Arc;

use infera_engine::Engine;
use infera_model::chat::ChatModel;
use infera_types::ids::ModelName;
use tokio::sync::oneshot;

use crate::error::ModelError;

/// One model: its name, its text's side and its engine, whose tokens must be those of `chat`.
pub struct Model {
    /// The name, for logs, metrics and [`WorkerHandle`](crate::WorkerHandle); assignments name models by digest.
    pub name: ModelName,
    /// The tokenizer and the chat template.
    pub chat: Arc<ChatModel>,
    /// The engine, which decodes. Its `EngineDescription::sequences_max` may lower [`Config::slots`](crate::Config::slots).
    pub engine: Box<dyn Engine>,
}

impl fmt::Debug for Model {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Model").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An order to a running worker, and where its outcome goes.
#[derive(Debug)]
pub(crate) enum Order {
    /// Serve one more model.
    Add(Model, oneshot::Sender<Result<(), ModelError>>),
    /// Serve this model no more.
    Remove(ModelName, oneshot::Sender<Result<(), ModelError>>),
}
