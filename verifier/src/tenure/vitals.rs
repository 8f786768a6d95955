//! Shows operators how the verifier is doing: what its tasks note as they go, whether it is ready, and its metrics. Only what
//! `/readyz` says is decided by it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use infera_telemetry::metrics as names;
use infera_telemetry::readiness::{Condition, Readiness};
use metrics::gauge;
use tokio::time::Instant;

use crate::tenure::counters::Counters;
use crate::tenure::in_flight::InFlight;

/// What the tenure's tasks note.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    lease_until: Mutex<Option<Instant>>,
    in_flight: Mutex<Weak<InFlight>>,
    pub(crate) listening: AtomicBool,
    pub(crate) draining: AtomicBool,
    /// Queues whose jobs are wanted, and those of them that are consumed now.
    pub(crate) queues: AtomicUsize,
    pub(crate) consumed: AtomicUsize,
    /// Models of the catalogue whose tokenizer isn't found.
    pub(crate) unread: AtomicUsize,
}

impl Vitals {
    /// Notes until when the lease holds; none once it was given back.
    pub(crate) fn hold_lease(&self, until: Option<Instant>) {
        *self.lease_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Begins to count the jobs of a new tenure.
    pub(crate) fn watch(&self, in_flight: &Arc<InFlight>) {
        *self.in_flight.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(in_flight);
        self.consumed.store(0, Ordering::Relaxed);
        self.queues.store(0, Ordering::Relaxed);
    }

    fn jobs(&self) -> usize {
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        in_flight.map_or(0, |in_flight| in_flight.len())
    }

    fn snapshot(&self, now: Instant) -> Snapshot {
        let lease_until = *self.lease_until.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot {
            lease: lease_until.is_some_and(|until| now < until),
            listening: self.listening.load(Ordering::Relaxed),
            draining: self.draining.load(Ordering::Relaxed),
            queues: self.queues.load(Ordering::Relaxed),
            consumed: self.consumed.load(Ordering::Relaxed),
            unread: self.unread.load(Ordering::Relaxed),
        }
    }
}

/// Counts one queue of jobs as consumed while it lives.
pub(crate) struct Consuming(Arc<Vitals>);

impl Consuming {
    pub(crate) fn begin(vitals: &Arc<Vitals>) -> Self {
        vitals.consumed.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(vitals))
    }
}

impl Drop for Consuming {
    fn drop(&mut self) {
        // A tenure that began meanwhile has counted from zero again.
        let _ = self
            .0
            .consumed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(count.saturating_sub(1)));
    }
}

/// What was seen at one moment.
#[derive(Clone, Copy, Debug)]
struct Snapshot {
    lease: bool,
    listening: bool,
    draining: bool,
    queues: usize,
    consumed: usize,
    unread: usize,
}

/// Decides whether the verifier is ready. A lack of nodes plays no part: another verifier would have the same nodes.
fn decide(seen: Snapshot) -> Readiness {
    let jobs = match seen.consumed {
        consumed if consumed >= seen.queues => Condition::Fine,
        0 => Condition::Failing,
        _ => Condition::Degraded,
    };
    Readiness::new([
        ("lease", Condition::of(seen.lease, Condition::Failing)),
        ("replicas", Condition::of(seen.listening, Condition::Failing)),
        ("jobs", jobs),
        ("tokenizers", Condition::of(seen.unread == 0, Condition::Degraded)),
        ("accepting", Condition::of(!seen.draining, Condition::Failing)),
    ])
}

/// Shows how a verifier is doing, also while it runs.
#[derive(Clone, Debug)]
pub struct VerifierHandle {
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) thresholds: String,
}

impl VerifierHandle {
    /// Returns whether it can take work now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        decide(self.vitals.snapshot(Instant::now()))
    }

    /// Brings those metrics up to date that are counted in [`Counters`] or are levels.
    pub fn observe(&self) {
        self.counters.observe();
        let jobs = u32::try_from(self.vitals.jobs()).unwrap_or(u32::MAX);
        gauge!(names::VERIFIER_IN_FLIGHT).set(jobs);
        let lease = self.vitals.snapshot(Instant::now()).lease;
        gauge!(names::VERIFIER_LEASE).set(f64::from(u8::from(lease)));
        let unread = self.vitals.unread.load(Ordering::Relaxed);
        gauge!(names::VERIFIER_UNREAD_MODELS).set(u32::try_from(unread).unwrap_or(u32::MAX));
        gauge!(names::VERIFIER_THRESHOLDS, "version" => self.thresholds.clone()).set(1.0);
    }
}

#[async_trait::async_trait]
impl infera_telemetry::readiness::Watched for VerifierHandle {
    fn observe(&self) {
        Self::observe(self);
    }

    async fn readiness(&self) -> Readiness {
        Self::readiness(self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_ready_while_it_may_and_can_take_jobs() {
        let well =
            Snapshot { lease: true, listening: true, draining: false, queues: 2, consumed: 2, unread: 0 };
        let cases: [(&str, Snapshot, bool, &[&str]); 8] = [
            ("all is well", well, true, &[]),
            ("no lease", Snapshot { lease: false, ..well }, false, &[]),
            ("deaf to nodes", Snapshot { listening: false, ..well }, false, &[]),
            ("draining", Snapshot { draining: true, ..well }, false, &[]),
            ("one queue is gone", Snapshot { consumed: 1, ..well }, true, &["jobs"]),
            ("a model without a tokenizer", Snapshot { unread: 1, ..well }, true, &["tokenizers"]),
            ("no queue is consumed", Snapshot { consumed: 0, ..well }, false, &[]),
            ("an empty catalogue", Snapshot { queues: 0, consumed: 0, ..well }, true, &[]),
        ];
        for (case, seen, ready, degraded) in cases {
            let readiness = decide(seen);
            assert_eq!((readiness.is_ready(), &readiness.degraded()[..]), (ready, degraded), "{case}");
        }
    }

    #[tokio::test]
    async fn what_is_noted_is_seen_and_runs_out() {
        let vitals = Arc::new(Vitals::default());
        let now = Instant::now();
        assert!(!vitals.snapshot(now).lease);
        vitals.hold_lease(Some(now + Duration::from_secs(10)));
        assert!(vitals.snapshot(now).lease);
        assert!(!vitals.snapshot(now + Duration::from_secs(10)).lease, "not renewed");
        vitals.hold_lease(None);
        assert!(!vitals.snapshot(now).lease);
        let consuming = Consuming::begin(&vitals);
        assert_eq!(vitals.snapshot(now).consumed, 1);
        drop(consuming);
        assert_eq!(vitals.snapshot(now).consumed, 0);
        let in_flight = Arc::new(InFlight::default());
        vitals.watch(&in_flight);
        assert!(in_flight.insert(infera_types::ids::JobId::new()).is_some());
        assert_eq!(vitals.jobs(), 1);
        drop(in_flight);
        assert_eq!(vitals.jobs(), 0, "a tenure that ended has no jobs");
    }
}
