//! Finds the job for which an idempotency key was used before.

use infera_ledger::{Accepted, Idempotency, JobView};
use infera_types::ids::{AccountId, JobId};

use super::handle::Jobs;
use crate::api::error::ApiError;
use crate::api::failure::Failure;

/// Returns the job that the same request made before, if it came under an idempotency key and was accepted.
pub(super) async fn earlier(
    jobs: &Jobs,
    account: &AccountId,
    idempotency: Option<&Idempotency>,
) -> Result<Option<JobId>, ApiError> {
    let Some(idempotency) = idempotency else { return Ok(None) };
    match jobs.reader.earlier_use(account, idempotency).await {
        Ok(Some(Accepted::Existing(job))) => Ok(Some(job)),
        Ok(Some(Accepted::KeyReused)) => Err(ApiError::KeyReused),
        Ok(_) => Ok(None),
        Err(error) => {
            tracing::error!(%error, "an idempotency key could not be looked up");
            Err(ApiError::of_job_record(&error))
        }
    }
}

/// Reads a job for which an idempotency key was used before.
pub(super) async fn read(jobs: &Jobs, account: &AccountId, job: JobId) -> Result<Option<JobView>, Failure> {
    jobs.reader.job(account, job).await.map_err(|error| {
        tracing::error!(%job, %error, "a job under an idempotency key could not be read");
        Failure::of_job(ApiError::of_job_record(&error), job)
    })
}
