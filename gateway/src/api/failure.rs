//! The error that a route returns, with the job that it concerns.

use std::time::Duration;

use infera_types::ids::JobId;

use crate::api::error::ApiError;
use crate::fastapi::Unfit;

/// An error, and the job that it concerns, if there is one yet.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The error that the client is told.
    pub(crate) error: ApiError,
    /// The job that the error concerns.
    pub(crate) job: Option<JobId>,
    /// Whether this error is the result of an earlier request under the same idempotency key.
    pub(crate) replayed: bool,
    /// The steps of the work and the time that each took, for `Server-Timing`.
    pub(crate) timing: Vec<(&'static str, Duration)>,
}

impl Failure {
    /// Makes a failure that concerns a job.
    #[must_use]
    pub(crate) const fn of_job(error: ApiError, job: JobId) -> Self {
        Self { error, job: Some(job), replayed: false, timing: Vec::new() }
    }

    /// Adds the time that one step took.
    #[must_use]
    pub(crate) fn timed(mut self, step: &'static str, cost: Duration) -> Self {
        self.timing.push((step, cost));
        self
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { error, job: None, replayed: false, timing: Vec::new() }
    }
}

impl From<Unfit> for Failure {
    fn from(unfit: Unfit) -> Self {
        ApiError::Unfit(unfit).into()
    }
}
