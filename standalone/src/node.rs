//! One node within this process: its queue, its engine and its worker. The worker decides what a node answers.

use std::sync::Arc;

use infera_broker::{Broker, topology};
use infera_engine::EngineError;
use infera_engine_onnx::config::{EngineConfig, EngineKind};
use infera_engine_onnx::fitting::NoRoom;
use infera_model::chat::ChatError;
use infera_model::folder::{FolderError, model_digest, onnx_file};
use infera_types::ids::{Digest, NodeId};
use infera_types::shutdown::Shutdown;
use infera_worker::{Model, Worker, WorkerError};

use crate::residents::ResidentsError;

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its tokenizer or template cannot be used.
    #[error("the model: {0}")]
    Chat(#[from] ChatError),
    /// Its files cannot be read.
    #[error("the model: {0}")]
    Folder(#[from] FolderError),
    /// Its engine cannot be loaded.
    #[error("the engine: {0}")]
    Engine(#[from] EngineError),
    /// Loading it ended by a panic, which is a bug of ours.
    #[error("loading a model ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
    /// The list of models has mistakes.
    #[error("{0}")]
    Settings(String),
    /// There is no room for all of them.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// Returns the digests that may answer under the model's name: first that of the configured file, then that of the
/// plain-operator export beside it, whose honest answers differ only within tolerance.
///
/// # Errors
/// [`FolderError`], which names the file.
pub fn digests(config: &EngineConfig) -> Result<Vec<Digest>, FolderError> {
    if config.kind == EngineKind::Stub {
        return Ok(vec![config.stub.model_digest]);
    }
    let file = |variant: &str| onnx_file(&config.folder, variant);
    let mut digests = vec![model_digest(&config.folder, &file(&config.variant)?)?];
    if let Ok(plain) = file(PLAIN_VARIANT) {
        digests.push(model_digest(&config.folder, &plain)?);
    }
    Ok(digests)
}

/// The name of the export that uses standard operators only.
pub const PLAIN_VARIANT: &str = "plain";

/// Declares the node's queue and returns its name. The suffix is fixed, because in this process no stranger can read
/// it.
///
/// # Errors
/// [`ResidentsError::Queue`].
pub async fn declare_queue(broker: &dyn Broker, node: &NodeId) -> Result<String, ResidentsError> {
    let queue = topology::node(node, "resident");
    broker.declare(&queue).await?;
    Ok(queue.name)
}

/// A node that is about to run.
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its connection to the network.
    pub broker: Arc<dyn Broker>,
    /// Its models, each with an engine.
    pub models: Vec<Model>,
}

impl Node {
    /// Serves until the shutdown.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn run(
        self,
        config: infera_worker::Config,
        queue: String,
        shutdown: Shutdown,
    ) -> Result<(), WorkerError> {
        let seams = infera_worker::Seams { broker: self.broker, models: self.models };
        Worker::new(config, self.id, queue, seams).run(shutdown).await
    }
}
