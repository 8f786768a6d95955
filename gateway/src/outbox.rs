//! Accepted jobs on their way to the broker. `publisher` takes their notices there in the background, so that no client
//! waits for it; `retry` says what becomes of a publish that failed. Losing any of it costs time only: what is never marked
//! as confirmed is published again by the sweeper after five seconds.
//!
//! A job has a place here from before it is accepted until the broker has its notice. While the broker is away places
//! run out, and then no job is accepted: what is promised to clients is bounded by what can be handed on.
//!
//! The room knows of a job no more than its id and model, and nothing of requests.

mod notice;
mod publisher;
mod retry;

use std::sync::Arc;

use infera_broker::Broker;
use infera_ledger::JobIntake;
use infera_telemetry::trace;
use infera_types::ids::{JobId, ModelName};
use tokio::sync::{Semaphore, mpsc};

use crate::config::OUTBOX_PLACES_MAX;
use crate::metrics::OutboxMetrics;
use notice::Notice;

pub(crate) use notice::Place;
pub(crate) use publisher::Publisher;

/// Takes the notices of accepted jobs.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    notices: mpsc::Sender<Notice>,
    places: Arc<Semaphore>,
    metrics: OutboxMetrics,
}

/// Makes an outbox of `max` places and its publisher. Settings that are out of range were refused before (`config`).
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
    /// Takes a place for one more job, without waiting. None: nothing may be accepted.
    #[must_use]
    pub(crate) fn reserve(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(Place::new)
    }

    /// Publishes the job's notice soon.
    pub(crate) fn put(&self, place: Place, job: JobId, model: ModelName) {
        // There are as many places as the channel holds, so only a publisher that has ended doesn't take it.
        if self.notices.try_send(Notice::new(job, model, trace::current(), place)).is_err() {
            self.metrics.left();
            tracing::debug!(%job, "outbox closed; the sweeper will publish the notice");
        }
    }

    /// Counts a job that was refused because every place was taken.
    pub(crate) fn refused(&self) {
        self.metrics.full();
    }

    /// Shows operators how full it is.
    pub(crate) fn observe(&self) {
        OutboxMetrics::places(self.len(), self.max());
    }

    /// Returns how many places are taken: by notices that the broker doesn't have, and by jobs that are being accepted.
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
