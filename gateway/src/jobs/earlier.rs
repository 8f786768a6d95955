//! Finds the request for which an idempotency key was used before, by the first of its jobs, which alone has the key.

use std::time::{Duration, Instant};

use infera_ledger::{Accepted, Idempotency, JobView};
use infera_types::ids::{AccountId, JobId};

use super::ends::has_ended;
use super::handle::Jobs;
use super::order::{Order, Outcome, Receipt};
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

/// Returns the receipt of the job that the same request of an account, with its key, made before, or else the error for which there
/// is no new job.
pub(super) async fn earlier_or(
    jobs: &Jobs,
    (account, idempotency): (&AccountId, Option<&Idempotency>),
    no_job: ApiError,
    begun: Instant,
) -> Result<Receipt, Failure> {
    let job = earlier(jobs, account, idempotency).await?.ok_or(no_job)?;
    Ok(Receipt::of(vec![job], begun))
}

/// Answers with the job that the same request made before, or else with the error `no_room`. A lack of room for a new
/// job is no reason to withhold the answer of an earlier one.
pub(super) async fn answer_earlier_or(
    jobs: &Jobs,
    order: &Order,
    no_room: ApiError,
) -> Result<Outcome, Failure> {
    let (account, begun) = (&order.caller.account, Instant::now());
    match earlier(jobs, account, order.idempotency.as_ref()).await? {
        Some(job) => answer_earlier(jobs, account, job, begun.elapsed()).await,
        None => Err(no_room.into()),
    }
}

/// Answers with the end of what the same request made before, or with 409 while that runs.
pub(super) async fn answer_earlier(
    jobs: &Jobs,
    account: &AccountId,
    job: JobId,
    accepting: Duration,
) -> Result<Outcome, Failure> {
    let views = read_all(jobs, account, job).await?;
    if views.is_empty() || !has_ended(&views) {
        return Err(Failure::of_job(ApiError::InProgress, job));
    }
    Ok(Outcome { views, replayed: true, accepting, waiting: Duration::ZERO })
}
