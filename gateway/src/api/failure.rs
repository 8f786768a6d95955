//! The error that a route returns, with the job that it concerns.

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
}

impl Failure {
    /// Makes a failure that concerns a job.
    #[must_use]
    pub(crate) const fn of_job(error: ApiError, job: JobId) -> Self {
        Self { error, job: Some(job), replayed: false }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { error, job: None, replayed: false }
    }
}

impl From<Unfit> for Failure {
    fn from(unfit: Unfit) -> Self {
        ApiError::Unfit(unfit).into()
    }
}
