//! An entry of the outbox: a job's notice and the place that it takes.

use infera_types::ids::{JobId, ModelName};
use infera_types::service::Lane;
use tokio::sync::OwnedSemaphorePermit;

/// The queue that a job's notice belongs in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct JobsQueue {
    /// The model.
    pub(crate) model: ModelName,
    /// The lane.
    pub(crate) lane: Lane,
}

/// The notice of one accepted job, with the trace of the span in which the job was accepted.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) job: JobId,
    pub(crate) queue: JobsQueue,
    pub(crate) trace: Option<String>,
    /// Whether an earlier publish of this notice ended without an outcome.
    pub(crate) is_tried: bool,
    /// The notice's place. It is freed when the broker has the notice, or when the notice is left to the sweeper.
    _place: Place,
}

impl Notice {
    /// Makes a notice that was not published yet.
    pub(crate) const fn new(job: JobId, queue: JobsQueue, trace: Option<String>, place: Place) -> Self {
        Self { job, queue, trace, is_tried: false, _place: place }
    }
}

/// A place for one notice. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Place {
    /// Makes a place from a permit of the outbox.
    pub(crate) const fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(permit)
    }
}
