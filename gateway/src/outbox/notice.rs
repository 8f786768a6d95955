//! An entry of the outbox: a job's notice and the place that it takes.

use infera_types::ids::{JobId, ModelName};
use tokio::sync::OwnedSemaphorePermit;

/// The notice of one accepted job, with the trace of the span in which the job was accepted.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) job: JobId,
    pub(crate) model: ModelName,
    pub(crate) trace: Option<String>,
    /// Whether an earlier publish of this notice ended without an outcome.
    pub(crate) is_tried: bool,
    /// The notice's place. It is freed when the broker has the notice, or when the notice is left to the sweeper.
    _place: Place,
}

impl Notice {
    /// Makes a notice that was not published yet.
    pub(crate) const fn new(job: JobId, model: ModelName, trace: Option<String>, place: Place) -> Self {
        Self { job, model, trace, is_tried: false, _place: place }
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
