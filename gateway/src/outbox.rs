//! Accepted jobs on their way to the broker: published in the background (`courier`), so that no client waits for that.
//! Losing any of it costs time only: what is never marked as confirmed is published again by the sweeper after five
//! seconds.
//!
//! A job has a place here from before it is accepted until the broker has its notice. While the broker is away places
//! run out, and then no job is accepted: what is promised to clients is bounded by what can be handed on.

use std::sync::Arc;

use infera_telemetry::trace;
use infera_types::ids::{JobId, ModelName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::courier::Courier;
use crate::meters::Meters;
use crate::state::Seams;

/// One accepted job's notice, and the span that it was accepted in.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) job: JobId,
    pub(crate) model: ModelName,
    pub(crate) trace: Option<String>,
    /// Whether a publish of it ended without an outcome before.
    pub(crate) is_tried: bool,
    /// Given back when the broker has the notice, or it is left to the sweeper.
    _place: Place,
}

/// Room for one notice. Dropping it gives it back.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// Where accepted jobs are put.
#[derive(Clone, Debug)]
pub struct Outbox {
    notices: mpsc::Sender<Notice>,
    places: Arc<Semaphore>,
    meters: Arc<Meters>,
}

/// An outbox of `max` notices and its courier.
#[must_use]
pub fn outbox(max: usize, seams: &Seams, meters: &Arc<Meters>) -> (Outbox, Courier) {
    let max = max.clamp(1, Semaphore::MAX_PERMITS);
    let (notices, jobs) = mpsc::channel(max);
    let (broker, intake) = (Arc::clone(&seams.broker), Arc::clone(&seams.intake));
    let courier = Courier::new(jobs, (broker, intake), Arc::clone(meters));
    (Outbox { notices, places: Arc::new(Semaphore::new(max)), meters: Arc::clone(meters) }, courier)
}

impl Outbox {
    /// Room for one more job; none: accept nothing. Never waits.
    #[must_use]
    pub fn reserve(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(Place)
    }

    /// Publishes the job's notice soon.
    pub fn put(&self, place: Place, job: JobId, model: ModelName) {
        let notice = Notice { job, model, trace: trace::current(), is_tried: false, _place: place };
        // There are as many places as the channel holds, so only a courier that has ended doesn't take it.
        if self.notices.try_send(notice).is_err() {
            self.meters.left();
            tracing::debug!(%job, "outbox closed; the sweeper will publish the notice");
        }
    }
}

impl Outbox {
    /// How many places are taken: notices that the broker doesn't have, and jobs that are being accepted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.max().saturating_sub(self.places.available_permits())
    }

    /// Whether none is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many places there are.
    #[must_use]
    pub fn max(&self) -> usize {
        self.notices.max_capacity()
    }
}
