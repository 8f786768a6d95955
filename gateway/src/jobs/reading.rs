//! Reads the jobs of an earlier request.

use infera_ledger::JobView;
use infera_types::ids::{AccountId, JobId};

use super::handle::Jobs;
use crate::api::error::ApiError;
use crate::api::failure::Failure;

/// Reads a job for which an idempotency key was used before.
pub(super) async fn read(jobs: &Jobs, account: &AccountId, job: JobId) -> Result<Option<JobView>, Failure> {
    jobs.reader.job(account, job).await.map_err(|error| {
        tracing::error!(%job, %error, "a job under an idempotency key could not be read");
        Failure::of_job(ApiError::of_job_record(&error), job)
    })
}

/// Reads the jobs of the request that `job` belongs to, in the order of the answers; none if the account doesn't have it.
pub(super) async fn read_all(jobs: &Jobs, account: &AccountId, job: JobId) -> Result<Vec<JobView>, Failure> {
    let Some(view) = read(jobs, account, job).await? else { return Ok(Vec::new()) };
    let others = view.choice.others(job);
    let mut views = vec![view];
    for other in others {
        views.extend(read(jobs, account, other).await?);
    }
    views.sort_unstable_by_key(|view| view.choice.index);
    Ok(views)
}
