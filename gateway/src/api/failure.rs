//! An error as a route gives it back: with the job that it is about.

use infera_types::ids::JobId;

use crate::api::error::ApiError;
use crate::fastapi::Unfit;

/// Holds an error, and the job that it has to do with, if there is one by then.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Says what the client is told.
    pub(crate) error: ApiError,
    /// Names the job.
    pub(crate) job: Option<JobId>,
    /// True if it is how an earlier request under the same idempotency key ended.
    pub(crate) replayed: bool,
}

impl Failure {
    /// Makes a failure that has to do with a job.
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
