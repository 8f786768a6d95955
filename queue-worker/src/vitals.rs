//! Shows the node's runner how the worker is: what its parts note, what a look at it comes to, and its metrics. Verifiers
//! learn of it by heartbeats alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use infera_telemetry::metrics::{WORKER_SLOTS, WORKER_SLOTS_FREE};
use infera_telemetry::readiness::{Condition, Readiness};
use metrics::gauge;
use tokio::sync::watch;

use crate::counts::Counts;

/// What the worker's parts note as they go.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    pub(crate) engine: AtomicBool,
    pub(crate) consuming: AtomicBool,
    pub(crate) draining: AtomicBool,
}

/// What one look at the worker saw.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// The engine is loaded and works.
    pub engine: bool,
    /// The node's queue is consumed.
    pub consuming: bool,
    /// The worker is shutting down.
    pub draining: bool,
    /// The broker would let the node in: its token has not expired.
    pub token: bool,
}

/// Decides by a look whether the node is ready: each of these conditions alone keeps it from answering.
#[must_use]
pub fn decide(seen: Snapshot) -> Readiness {
    Readiness::new([
        ("engine", Condition::of(seen.engine, Condition::Failing)),
        ("queue", Condition::of(seen.consuming, Condition::Failing)),
        ("token", Condition::of(seen.token, Condition::Failing)),
        ("accepting", Condition::of(!seen.draining, Condition::Failing)),
    ])
}

/// Shows how a worker is doing, also while it runs.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    pub(crate) counts: Arc<Counts>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) slots: u32,
    pub(crate) free_slots: watch::Receiver<u32>,
}

impl WorkerHandle {
    /// Returns what was counted so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns how many slots are free, and when that changes.
    #[must_use]
    pub fn free_slots(&self) -> watch::Receiver<u32> {
        self.free_slots.clone()
    }

    /// Looks at the worker. The caller knows whether the node's token is good, because it fetches the token.
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

    /// Brings the metrics up to date that are counted here or that are levels.
    pub fn observe(&self) {
        self.counts.observe();
        gauge!(WORKER_SLOTS).set(self.slots);
        gauge!(WORKER_SLOTS_FREE).set(*self.free_slots.borrow());
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
