//! Assembles the parts of a worker, runs them and ends them. Every task and the engine's thread end with `run`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use infera_broker::Broker;
use infera_engine::{Engine, EngineDescription};
use infera_model::chat::ChatModel;
use infera_types::features::{Feature, Features};
use infera_types::ids::NodeId;
use infera_types::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::assignment::{Desk, Publisher, ResultCache, Stations, TriedAlone};
use crate::config::Config;
use crate::counts::Counts;
use crate::error::WorkerError;
use crate::executor::{BatchLimits, Executor, ExecutorLimits};
use crate::heartbeat::{Heart, Pace};
use crate::intake::Intake;
use crate::tokenizer::Tokenizer;
use crate::vitals::{Vitals, WorkerHandle};

/// The seams that a worker works on.
pub struct Seams {
    /// The broker, which carries assignments in and replicas out, and has the node's queue.
    pub broker: Arc<dyn Broker>,
    /// The engine, which decodes. Its `EngineDescription::sequences_max` may lower [`Config::slots`].
    pub engine: Box<dyn Engine>,
}

impl fmt::Debug for Seams {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Seams").field("broker", &self.broker).finish_non_exhaustive()
    }
}

/// A node's worker, ready to run.
pub struct Worker {
    config: Config,
    node: NodeId,
    queue: String,
    chat: Arc<ChatModel>,
    seams: Seams,
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
    /// Makes a worker that reads `queue`, which was declared when `node` was registered. The engine's tokens must be
    /// those of `chat`.
    #[must_use]
    pub fn new(config: Config, node: NodeId, queue: String, chat: Arc<ChatModel>, seams: Seams) -> Self {
        let sequences_max = u32::try_from(seams.engine.description().sequences_max).unwrap_or(u32::MAX);
        let slots = config.slots.min(sequences_max);
        let cache = ResultCache::new(config.result_cache_entries, config.result_cache_bytes);
        let (desk, counts, vitals) = (Desk::new(slots, cache), Arc::default(), Arc::default());
        Self { config, node, queue, chat, seams, desk, counts, vitals }
    }

    /// Returns a handle, which stays valid after `run` has taken the worker.
    #[must_use]
    pub fn handle(&self) -> WorkerHandle {
        WorkerHandle {
            counts: Arc::clone(&self.counts),
            vitals: Arc::clone(&self.vitals),
            slots: self.desk.slots(),
            free_slots: self.desk.free_slots(),
        }
    }

    /// Works until `shutdown` is cancelled, then drains: nothing new begins, running answers get `drain_ms`, and the
    /// rest is given back as `draining`. Dropping the future instead ends everything at once, as a crash would, and
    /// the broker gives out again what was not settled.
    ///
    /// # Errors
    /// [`WorkerError`]. A lost connection is no error: the worker consumes again.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), WorkerError> {
        let (config, vitals) = (self.config.clone(), Arc::clone(&self.vitals));
        let (node, queue, broker) = (self.node.clone(), self.queue.clone(), Arc::clone(&self.seams.broker));
        let stations = Arc::new(self.begin()?);
        vitals.engine.store(true, Ordering::Relaxed);
        let executor = stations.executor.clone();
        let heart = Heart {
            node,
            queue: queue.clone(),
            machine: config.machine.clone(),
            numeric_class: executor.description().numeric_class.clone(),
            features: features(executor.description()),
            slots: stations.desk.slots(),
            broker: Arc::clone(&broker),
            free_slots: stations.desk.free_slots(),
        };
        let (pace, draining) = (Pace::of(&config), stations.draining.clone());
        let stop = config.stop();
        let intake = Intake::new(stations, Arc::clone(&vitals), broker, queue, config);
        let taking = async {
            let result = intake.run(&shutdown).await;
            // This is also needed where the intake ended without draining.
            draining.cancel();
            vitals.engine.store(false, Ordering::Relaxed);
            result
        };
        let (result, ()) = tokio::join!(taking, heart.beat(pace, &draining));
        if executor.stop(stop).await { result } else { result.and(Err(WorkerError::EngineHangs)) }
    }

    /// Checks everything and starts the engine's thread.
    fn begin(self) -> Result<Stations, WorkerError> {
        let (config, Seams { broker, engine }) = (self.config, self.seams);
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(WorkerError::Config(mistakes));
        }
        let (context_max, description) = (self.chat.context_max(), engine.description());
        if description.context_max < context_max {
            return Err(WorkerError::Context { engine: description.context_max, model: context_max });
        }
        let numeric_class = description.numeric_class.clone();
        let tried_alone = TriedAlone::open(config.alone_file).map_err(WorkerError::AloneFile)?;
        let limits = ExecutorLimits {
            batch: BatchLimits {
                slots: usize::try_from(self.desk.slots()).unwrap_or(usize::MAX),
                prefill_tokens_max: config.prefill_tokens_max,
            },
            failures_max: config.engine_failures_max,
        };
        let end_tokens = self.chat.end_tokens().to_vec();
        let executor = Executor::start(engine, end_tokens, limits).map_err(WorkerError::Thread)?;
        Ok(Stations {
            desk: self.desk,
            tried_alone,
            tokenizer: Tokenizer::new(self.chat, config.tokenizer_threads, config.work_bytes_max),
            executor,
            publisher: Publisher::new(self.node, numeric_class, broker, Arc::clone(&self.counts)),
            context_max,
            counts: self.counts,
            runs: TaskTracker::new(),
            draining: CancellationToken::new(),
            giving_back: CancellationToken::new(),
        })
    }
}

/// Returns what a node announces. The worker does the sampling, outside the engine, so every engine can sample at any
/// temperature and with a seed.
fn features(engine: &EngineDescription) -> Features {
    let features = Features::default();
    if engine.caches_prefixes { features.with(Feature::PrefixCache) } else { features }
}
