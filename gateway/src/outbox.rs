//! Accepted jobs on their way to the broker. `publisher` publishes their notices in the background, so that no client
//! waits for it, and `retry` decides what happens to a notice whose publish failed. Losing a notice only costs time:
//! after five seconds without a confirmation, the sweeper publishes it again.
//!
//! A job takes a place here before it is accepted and keeps it until the broker has its notice. While the broker is
//! away, the places run out and no further job is accepted, so the gateway never promises more than it can hand on.
//!
//! Of a job, this room knows only the id and the queue, and it knows nothing of requests.

mod notice;
mod publisher;
mod retry;

use std::sync::Arc;

use infera_broker::Broker;
use infera_ledger::JobIntake;
use infera_telemetry::trace;
use infera_types::ids::JobId;
use tokio::sync::{Semaphore, mpsc};

use crate::config::OUTBOX_PLACES_MAX;
use crate::metrics::OutboxMetrics;
use notice::Notice;

pub(crate) use notice::{JobsQueue, Place};
pub(crate) use publisher::Publisher;

/// The sending half of the outbox, which takes the notices of accepted jobs.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    notices: mpsc::Sender<Notice>,
    places: Arc<Semaphore>,
    metrics: OutboxMetrics,
}

/// Makes an outbox of `max` places and its publisher. `config` has refused a number out of range.
#[must_use]
pub(crate) fn outbox(
    max: usize,
    broker: Arc<dyn Broker>,
    intake: Arc<dyn JobIntake>,
    metrics: OutboxMetrics,
) -> (Outbox, Publisher) {
    let max = max.clamp(1, OUTBOX_PLACES_MAX);
    let (notices, jobs) = mpsc::channel(max);
    let publisher = Publisher::new(jobs, broker, intake, metrics.clone());
    (Outbox { notices, places: Arc::new(Semaphore::new(max)), metrics }, publisher)
}

impl Outbox {
    /// Takes a place for one more job, without waiting. Returns none if all places are taken; then no job may be
    /// accepted.
    #[must_use]
    pub(crate) fn reserve(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(Place::new)
    }

    /// Hands the job's notice to the publisher.
    pub(crate) fn put(&self, place: Place, job: JobId, queue: JobsQueue) {
        // The channel holds as many notices as there are places, so sending fails only if the publisher has ended.
        if self.notices.try_send(Notice::new(job, queue, trace::current(), place)).is_err() {
            self.metrics.left();
            tracing::debug!(%job, "outbox closed; the sweeper will publish the notice");
        }
    }

    /// Counts a job that was refused because every place was taken.
    pub(crate) fn refused(&self) {
        self.metrics.full();
    }

    /// Updates the gauges of the outbox.
    pub(crate) fn observe(&self) {
        OutboxMetrics::places(self.len(), self.max());
    }

    /// Returns how many places are taken, by notices that the broker doesn't have and by jobs that are being
    /// accepted.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.max().saturating_sub(self.places.available_permits())
    }

    /// Returns how many places there are.
    #[must_use]
    pub(crate) fn max(&self) -> usize {
        self.notices.max_capacity()
    }
}
