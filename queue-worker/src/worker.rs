//! Puts the parts of a worker together, runs them and ends them. Every task and the engine's thread end with `run`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use infera_broker::{Broker, BrokerError};
use infera_engine::{Engine, EngineDescription};
use infera_model::chat::ChatModel;
use infera_types::ids::NodeId;
use infera_types::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::assignment::Stations;
use crate::batcher::BatchLimits;
use crate::cache::ResultCache;
use crate::config::Config;
use crate::consumer::Intake;
use crate::counts::Counts;
use crate::desk::Desk;
use crate::executor::{Executor, ExecutorLimits};
use crate::heartbeat::Heart;
use crate::publisher::Publisher;
use crate::redelivery::TriedAlone;
use crate::tokenizer::Tokenizer;
use crate::vitals::{Vitals, WorkerHandle};

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

/// A node's worker, ready to run.
pub struct Worker {
    config: Config,
    node: NodeId,
    queue: String,
    broker: Arc<dyn Broker>,
    chat: Arc<ChatModel>,
    engine: Box<dyn Engine>,
    desk: Arc<Desk>,
    counts: Arc<Counts>,
    vitals: Arc<Vitals>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker that reads `queue`, which whoever registered the node has declared, and answers with `engine`, whose
    /// tokens are those of `chat`. `EngineDescription::sequences_max` lowers `config.slots`.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "what a worker consists of; none of it is optional")]
    pub fn new(
        config: Config,
        node: NodeId,
        queue: String,
        broker: Arc<dyn Broker>,
        chat: Arc<ChatModel>,
        engine: Box<dyn Engine>,
    ) -> Self {
        let sequences_max = u32::try_from(engine.description().sequences_max).unwrap_or(u32::MAX);
        let slots = config.slots.min(sequences_max);
        let cache = ResultCache::new(config.result_cache_entries, config.result_cache_bytes);
        let (desk, counts, vitals) = (Desk::new(slots, cache), Arc::default(), Arc::default());
        Self { config, node, queue, broker, chat, engine, desk, counts, vitals }
    }

    /// A handle that stays good when `run` has taken the worker.
    #[must_use]
    pub fn handle(&self) -> WorkerHandle {
        WorkerHandle {
            counts: Arc::clone(&self.counts),
            vitals: Arc::clone(&self.vitals),
            slots: self.desk.slots(),
            free_slots: self.desk.free_slots(),
        }
    }

    /// Works until `shutdown` is cancelled, then drains: nothing new is begun, running answers get `drain_ms`, the
    /// rest is given back as `draining`. Dropping the future instead ends everything at once, as a crash would: the
    /// broker gives out again what was not settled.
    ///
    /// # Errors
    /// See [`WorkerError`]. A lost connection is none: the worker consumes again.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), WorkerError> {
        let (node, queue, broker, config) =
            (self.node.clone(), self.queue.clone(), Arc::clone(&self.broker), self.config.clone());
        let vitals = Arc::clone(&self.vitals);
        let stations = Arc::new(self.begin()?);
        vitals.engine.store(true, Ordering::Relaxed);
        let executor = stations.executor.clone();
        let heart = Heart {
            node,
            queue: queue.clone(),
            numeric_class: executor.description().numeric_class.clone(),
            slots: stations.desk.slots(),
            broker: Arc::clone(&broker),
            free_slots: stations.desk.free_slots(),
        };
        let draining = stations.draining.clone();
        let intake = Intake::new(stations, broker, queue, config.clone());
        let taking = async {
            let result = intake.run(&shutdown).await;
            // Also where it ended without draining.
            draining.cancel();
            vitals.engine.store(false, Ordering::Relaxed);
            result
        };
        let (result, ()) = tokio::join!(taking, heart.beat(&config, &draining));
        if executor.stop(config.stop()).await { result } else { result.and(Err(WorkerError::EngineHangs)) }
    }

    /// Checks everything and starts the engine's thread.
    fn begin(self) -> Result<Stations, WorkerError> {
        let config = &self.config;
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(WorkerError::Config(mistakes));
        }
        let engine: &EngineDescription = self.engine.description();
        let (context_max, numeric_class) = (self.chat.context_max(), engine.numeric_class.clone());
        if engine.context_max < context_max {
            return Err(WorkerError::Context { engine: engine.context_max, model: context_max });
        }
        let tried_alone = TriedAlone::open(config.alone_file.clone()).map_err(WorkerError::AloneFile)?;
        let limits = ExecutorLimits {
            batch: BatchLimits {
                slots: usize::try_from(self.desk.slots()).unwrap_or(usize::MAX),
                prefill_tokens_max: config.prefill_tokens_max,
            },
            failures_max: config.engine_failures_max,
        };
        let end_tokens = self.chat.end_tokens().to_vec();
        let executor = Executor::start(self.engine, end_tokens, limits).map_err(WorkerError::Thread)?;
        Ok(Stations {
            desk: self.desk,
            tried_alone,
            tokenizer: Tokenizer::new(self.chat, config.tokenizer_threads, config.work_bytes_max),
            executor,
            publisher: Publisher::new(self.node, numeric_class, self.broker, Arc::clone(&self.counts)),
            context_max,
            counts: self.counts,
            vitals: self.vitals,
            runs: TaskTracker::new(),
            draining: CancellationToken::new(),
            giving_back: CancellationToken::new(),
        })
    }
}
