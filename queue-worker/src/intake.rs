//! Takes deliveries from the node's own queue and gives each its own task, consumes again when the connection was
//! lost, and drains at shutdown. It never looks into a message and never touches the engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use infera_broker::{Broker, BrokerError, Consumer, Delivery};
use infera_telemetry::trace;
use infera_types::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{Instrument as _, field, info_span};

use crate::assignment::{self, Stations};
use crate::config::Config;
use crate::error::WorkerError;
use crate::vitals::Vitals;

/// The waits between two tries to consume, in milliseconds. The first are short, because a broken connection is
/// usually back at once.
const RECONNECT_MS: [u64; 5] = [100, 500, 1_000, 2_000, 5_000];

/// The node's queue, and the tasks of the deliveries that were taken from it.
pub(crate) struct Intake {
    stations: Arc<Stations>,
    vitals: Arc<Vitals>,
    broker: Arc<dyn Broker>,
    queue: String,
    config: Config,
    engines_gone: watch::Receiver<Option<String>>,
    /// Changes when a model comes or goes.
    changes: watch::Receiver<()>,
    /// One task per delivery, so at most as many as the prefetch. Dropping the set aborts them.
    tasks: JoinSet<()>,
}

/// The parts that an intake works with.
pub(crate) struct IntakeParts {
    pub(crate) stations: Arc<Stations>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) queue: String,
    pub(crate) config: Config,
    /// The reason why no model is served any more, once that is so.
    pub(crate) engines_gone: watch::Receiver<Option<String>>,
}

/// The reason why taking from one consumer ended.
enum Ended {
    /// The connection or the queue is gone.
    Lost,
    /// The worker was told to shut down.
    Shutdown,
    /// The last engine is gone, for this reason.
    EngineGone(String),
}

impl Intake {
    pub(crate) fn new(parts: IntakeParts) -> Self {
        let IntakeParts { stations, vitals, broker, queue, config, engines_gone } = parts;
        let changes = stations.changes();
        Self { stations, vitals, broker, queue, config, engines_gone, changes, tasks: JoinSet::new() }
    }

    /// Takes deliveries until `shutdown` or until no more can be taken or answered, then drains. When it returns,
    /// none of its tasks is left.
    pub(crate) async fn run(mut self, shutdown: &Shutdown) -> Result<(), WorkerError> {
        let mut consumer = None;
        let result = loop {
            let taken_from = match self.connect(shutdown).await {
                Ok(Some(connected)) => consumer.insert(connected),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            self.note_consuming(true);
            let ended = self.take(taken_from, shutdown).await;
            self.note_consuming(false);
            match ended {
                Ended::Lost => consumer = None,
                Ended::Shutdown => break Ok(()),
                Ended::EngineGone(why) => break Err(WorkerError::EngineGone(why)),
            }
        };
        self.drain(consumer).await;
        result
    }

    fn note_consuming(&self, consuming: bool) {
        self.vitals.consuming.store(consuming, Ordering::Relaxed);
    }

    /// Returns a consumer, however long the broker or the queue is away. A broker that pauses for seconds, or hasn't
    /// noticed yet that the last connection ended, makes the queue seem stuck or taken; ending then would mean
    /// loading the model again. Returns none if `shutdown` came first.
    async fn connect(&mut self, shutdown: &Shutdown) -> Result<Option<Box<dyn Consumer>>, WorkerError> {
        let mut tries = 0;
        loop {
            self.stations.begin_consuming();
            self.changes.mark_unchanged();
            match self.broker.consume(&self.queue, self.stations.prefetch()).await {
                Ok(consumer) => return Ok(Some(consumer)),
                Err(
                    error @ (BrokerError::Unavailable(_) | BrokerError::Stuck(_) | BrokerError::Exclusive(_)),
                ) => {
                    if tries == 0 {
                        tracing::warn!(queue = self.queue, %error, "can't consume; trying until it works");
                    }
                }
                Err(error) => return Err(WorkerError::Queue(error)),
            }
            let wait = RECONNECT_MS[tries.min(RECONNECT_MS.len() - 1)];
            tries += 1;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait)) => {}
                () = shutdown.cancelled() => return Ok(None),
            }
        }
    }

    async fn take(&mut self, consumer: &mut Box<dyn Consumer>, shutdown: &Shutdown) -> Ended {
        // A clone has seen what the original has: the models on connecting.
        let (mut engines_gone, mut changes) = (self.engines_gone.clone(), self.changes.clone());
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ended::Shutdown,
                why = reason(&mut engines_gone) => return Ended::EngineGone(why),
                Ok(()) = changes.changed() => consumer.set_prefetch(self.stations.prefetch()).await,
                Some(ended) = self.tasks.join_next() => note_end(ended),
                delivery = consumer.next() => match delivery {
                    Some(delivery) => self.begin(delivery),
                    None => return Ended::Lost,
                },
            }
        }
    }

    fn begin(&mut self, delivery: Delivery) {
        let span = info_span!(
            target: trace::TARGET,
            parent: None,
            "assignment",
            otel.kind = "consumer",
            trace_id = field::Empty,
        );
        trace::continue_from(&span, delivery.message.trace.as_deref());
        self.tasks.spawn(assignment::live(Arc::clone(&self.stations), delivery).instrument(span));
    }

    /// Takes nothing new, refuses what still arrives, lets running work finish in its time and gives the rest back.
    async fn drain(mut self, mut consumer: Option<Box<dyn Consumer>>) {
        self.vitals.draining.store(true, Ordering::Relaxed);
        self.stations.draining.cancel();
        if let Some(consumer) = &mut consumer {
            consumer.set_prefetch(0).await;
        }
        let patience = tokio::time::timeout(self.config.drain(), self.finish(&mut consumer)).await;
        if patience.is_err() {
            tracing::info!(assignments = self.tasks.len(), "drain time is over; giving back what runs");
            self.stations.giving_back.cancel();
            // Assignments that can't even be refused in this time are dropped unsettled, so the queue keeps them.
            let _ = tokio::time::timeout(self.config.stop(), self.finish(&mut consumer)).await;
        }
        self.stations.giving_back.cancel();
        self.tasks.shutdown().await;
        // No assignment waits for a run any more, so each run ends at once.
        let runs_end = async {
            for station in self.stations.all() {
                station.runs.close();
                station.runs.wait().await;
            }
        };
        let _ = tokio::time::timeout(self.config.stop(), runs_end).await;
    }

    /// Returns when every delivery that was taken is settled.
    async fn finish(&mut self, consumer: &mut Option<Box<dyn Consumer>>) {
        loop {
            tokio::select! {
                biased;
                // This comes first, so that deliveries that were already on their way are refused and not left over.
                delivery = next(consumer) => match delivery {
                    Some(delivery) => self.begin(delivery),
                    None => *consumer = None,
                },
                ended = self.tasks.join_next() => match ended {
                    Some(ended) => note_end(ended),
                    None => return,
                },
            }
        }
    }
}

/// Returns the reason why no model is served any more, once that is so.
async fn reason(engines_gone: &mut watch::Receiver<Option<String>>) -> String {
    let why = engines_gone.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
    why.unwrap_or_else(|| "its thread ended".to_owned())
}

/// Returns the next delivery, or waits forever if there is no consumer.
async fn next(consumer: &mut Option<Box<dyn Consumer>>) -> Option<Delivery> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}

/// Logs a panic in an assignment's task, which is a bug of ours. The delivery stays unsettled and is given out again
/// when this consumer ends.
fn note_end(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "an assignment's task panicked");
    }
}
