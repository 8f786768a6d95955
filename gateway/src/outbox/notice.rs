//! What lies in the outbox: a job's notice, and the place that it takes.

use infera_types::ids::{JobId, ModelName};
use tokio::sync::OwnedSemaphorePermit;

/// Is one accepted job's notice, with the span that the job was accepted in.
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

impl Notice {
    /// Makes a notice that is not published yet.
    pub(crate) const fn new(job: JobId, model: ModelName, trace: Option<String>, place: Place) -> Self {
        Self { job, model, trace, is_tried: false, _place: place }
    }
}

/// Is room for one notice. Dropping it gives the room back.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Place {
    /// Holds a permit of the outbox.
    pub(crate) const fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(permit)
    }
}
