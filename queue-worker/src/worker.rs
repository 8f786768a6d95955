//! Assembles the parts of a worker, runs them and ends them. Every task and the engines' threads end with `run`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use infera_broker::Broker;
use infera_types::ids::NodeId;
use infera_types::shutdown::Shutdown;
use tokio::sync::mpsc;

use crate::assignment::{Publisher, SharedCache, SharedParts, Stations, TriedAlone};
use crate::capacity::Capacity;
use crate::config::Config;
use crate::counts::Counts;
use crate::error::WorkerError;
use crate::framing::Framer;
use crate::heartbeat::{Heart, Pace};
use crate::intake::{Intake, IntakeParts};
use crate::model::{Model, Order};
use crate::models::{Loader, Models, stop_engines};
use crate::vitals::{Vitals, WorkerHandle};

/// The largest number of orders of models that wait. They come from one hand, which waits for each.
const ORDERS_MAX: usize = 1;

/// The seams that a worker works on.
pub struct Seams {
    /// The broker, which carries assignments in and replicas out, and has the node's queue.
    pub broker: Arc<dyn Broker>,
    /// The models, at least one, each with its engine.
    pub models: Vec<Model>,
}

impl fmt::Debug for Seams {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { broker, models } = self;
        formatter.debug_struct("Seams").field("broker", broker).field("models", models).finish()
    }
}

/// A node's worker, ready to run.
pub struct Worker {
    config: Config,
    node: NodeId,
    queue: String,
    seams: Seams,
    capacity: Arc<Capacity>,
    counts: Arc<Counts>,
    vitals: Arc<Vitals>,
    orders: (mpsc::Sender<Order>, mpsc::Receiver<Order>),
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Worker {
    /// Makes a worker that reads `queue`, which was declared when `node` was registered.
    #[must_use]
    pub fn new(config: Config, node: NodeId, queue: String, seams: Seams) -> Self {
        let (capacity, counts, vitals) = (Arc::default(), Arc::default(), Arc::default());
        Self { config, node, queue, seams, capacity, counts, vitals, orders: mpsc::channel(ORDERS_MAX) }
    }

    /// Returns a handle, which stays valid after `run` has taken the worker.
    #[must_use]
    pub fn handle(&self) -> WorkerHandle {
        WorkerHandle {
            counts: Arc::clone(&self.counts),
            vitals: Arc::clone(&self.vitals),
            capacity: Arc::clone(&self.capacity),
            orders: self.orders.0.clone(),
        }
    }

    /// Works until `shutdown` is cancelled, then drains: nothing new begins, running answers get `drain_ms`, and the
    /// rest is given back as `draining`. Dropping the future instead ends everything at once, as a crash would, and
    /// the broker gives out again what was not settled.
    ///
    /// # Errors
    /// [`WorkerError`]. A lost connection is no error: the worker consumes again. The end of one engine is none while others
    /// work: its model is served no more, and [`Snapshot::engine`](crate::vitals::Snapshot::engine) says so.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), WorkerError> {
        let (config, vitals, queue) = (self.config.clone(), Arc::clone(&self.vitals), self.queue.clone());
        let heart = Heart {
            node: self.node.clone(),
            queue: queue.clone(),
            machine: config.machine.clone(),
            broker: Arc::clone(&self.seams.broker),
            capacity: Arc::clone(&self.capacity),
        };
        let broker = Arc::clone(&self.seams.broker);
        let (stations, models) = self.begin()?;
        vitals.engine.store(true, Ordering::Relaxed);
        let (pace, draining, stop) = (Pace::of(&config), stations.draining.clone(), config.stop());
        let intake = Intake::new(IntakeParts {
            stations: Arc::clone(&stations),
            vitals: Arc::clone(&vitals),
            broker,
            queue,
            config,
            engines_gone: models.engines_gone(),
        });
        let taking = async {
            let result = intake.run(&shutdown).await;
            // This is also needed where the intake ended without draining.
            draining.cancel();
            vitals.engine.store(false, Ordering::Relaxed);
            result
        };
        // Answers are told until all are given back or published.
        let framing = Shutdown::new();
        let _ends = framing.clone().drop_guard();
        tokio::spawn(Arc::clone(&stations.framer).run(framing));
        let (result, (), ()) = tokio::join!(taking, heart.beat(pace, &draining), models.serve(&draining));
        if stop_engines(&stations, stop).await { result } else { result.and(Err(WorkerError::EngineHangs)) }
    }

    /// Checks everything and starts the engines' threads.
    fn begin(self) -> Result<(Arc<Stations>, Models), WorkerError> {
        let (config, Seams { broker, models }) = (self.config, self.seams);
        let mut mistakes = config.mistakes();
        if models.is_empty() {
            mistakes.push("a worker serves at least one model".to_owned());
        }
        if !mistakes.is_empty() {
            return Err(WorkerError::Config(mistakes));
        }
        let tried_alone = TriedAlone::open(config.alone_file.clone()).map_err(WorkerError::AloneFile)?;
        let stations = Arc::new(Stations::new(SharedParts {
            tried_alone,
            framer: Framer::new(self.node.clone(), Arc::clone(&broker)),
            publisher: Publisher::new(self.node, broker, Arc::clone(&self.counts)),
            counts: self.counts,
            capacity: self.capacity,
            cache: SharedCache::new(config.result_cache_entries, config.result_cache_bytes),
        }));
        let loader = Loader::new(Arc::clone(&stations), config);
        for model in models {
            loader.load(model)?;
        }
        Ok((stations, Models::new(loader, self.vitals, self.orders.1)))
    }
}
