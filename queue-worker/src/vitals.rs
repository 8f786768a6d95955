//! Shows the node's runner the state of the worker: what its parts note, what follows from it, and its metrics; and takes the
//! runner's orders of models to come and go. Verifiers learn of it by heartbeats alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use infera_telemetry::readiness::{Condition, Readiness};
use infera_types::ids::ModelName;
use tokio::sync::{mpsc, oneshot, watch};

use crate::capacity::Capacity;
use crate::counts::Counts;
use crate::error::ModelError;
use crate::model::{Model, Order};

/// The state that the worker's parts note as they go.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    pub(crate) engine: AtomicBool,
    pub(crate) consuming: AtomicBool,
    pub(crate) draining: AtomicBool,
}

/// The worker's state at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// Whether the engines of all models are loaded and work.
    pub engine: bool,
    /// Whether the node's queue is consumed.
    pub consuming: bool,
    /// Whether the worker is shutting down.
    pub draining: bool,
    /// Whether the broker would let the node in, that is, whether its token is still valid.
    pub token: bool,
}

/// Decides whether the node is ready. Each of these conditions alone keeps it from answering.
#[must_use]
pub fn decide(seen: Snapshot) -> Readiness {
    Readiness::new([
        ("engine", Condition::of(seen.engine, Condition::Failing)),
        ("queue", Condition::of(seen.consuming, Condition::Failing)),
        ("token", Condition::of(seen.token, Condition::Failing)),
        ("accepting", Condition::of(!seen.draining, Condition::Failing)),
    ])
}

/// A handle that shows the state of a worker, also while it runs.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    pub(crate) counts: Arc<Counts>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) capacity: Arc<Capacity>,
    pub(crate) orders: mpsc::Sender<Order>,
}

impl WorkerHandle {
    /// Returns the event counters.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns a receiver of the number of free slots of all models together.
    #[must_use]
    pub fn free_slots(&self) -> watch::Receiver<u32> {
        self.capacity.free_slots()
    }

    /// Returns the names of the models that are served.
    #[must_use]
    pub fn models(&self) -> Vec<ModelName> {
        self.capacity.names()
    }

    /// Serves one more model from now on, and returns once it is announced.
    ///
    /// # Errors
    /// [`ModelError`]; nothing has changed then.
    pub async fn add(&self, model: Model) -> Result<(), ModelError> {
        self.order(|outcome| Order::Add(model, outcome)).await
    }

    /// Serves a model no more, and returns once it is unloaded. It is announced no more at once; its running answers get
    /// `drain_ms`, and the rest is given back as `draining`.
    ///
    /// # Errors
    /// [`ModelError::Unknown`], [`ModelError::Hangs`] or [`ModelError::Ending`].
    pub async fn remove(&self, model: &ModelName) -> Result<(), ModelError> {
        self.order(|outcome| Order::Remove(model.clone(), outcome)).await
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), ModelError>>) -> Order,
    ) -> Result<(), ModelError> {
        let (outcome, told) = oneshot::channel();
        self.orders.send(order(outcome)).await.map_err(|_| ModelError::Ending)?;
        told.await.unwrap_or(Err(ModelError::Ending))
    }

    /// Returns the worker's present state. The caller fetches the node's token, so it says whether `token` is valid.
    #[must_use]
    pub fn look(&self, token: bool) -> Snapshot {
        let noted = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        Snapshot {
            engine: noted(&self.vitals.engine),
            consuming: noted(&self.vitals.consuming),
            draining: noted(&self.vitals.draining),
            token,
        }
    }

    /// Updates the metrics that are counted here and the gauges.
    pub fn observe(&self) {
        self.counts.observe();
        self.capacity.observe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_them_alone_makes_it_unready() {
        let well = Snapshot { engine: true, consuming: true, draining: false, token: true };
        assert!(decide(well).is_ready());
        for seen in [
            Snapshot { engine: false, ..well },
            Snapshot { consuming: false, ..well },
            Snapshot { draining: true, ..well },
            Snapshot { token: false, ..well },
        ] {
            assert!(!decide(seen).is_ready(), "{seen:?}");
        }
    }
}
