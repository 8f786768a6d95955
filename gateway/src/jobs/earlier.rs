//! Finds the request for which an idempotency key was used before, by the first of its jobs, which alone has the key.

use std::time::{Duration, Instant};

use infera_ledger::{Accepted, Idempotency};
use infera_types::ids::{AccountId, JobId};

use super::ends::has_ended;
use super::handle::Jobs;
use super::joining::{Joining, Joins};
use super::order::{Order, Outcome, Receipt};
use super::reading::read_all;
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
    joins: Joins,
) -> Result<Outcome, Failure> {
    let (account, begun) = (&order.caller.account, Instant::now());
    match earlier(jobs, account, order.idempotency.as_ref()).await? {
        Some(job) => {
            let earlier = (job, begun.elapsed());
            answer_earlier(jobs, account, earlier, (joins, order.ask.timeout)).await
        }
        None => Err(no_room.into()),
    }
}

/// Answers with the end of what the same request made before. While that runs, a request that may join it waits for its end for at
/// most `patience`; another gets 409.
pub(super) async fn answer_earlier(
    jobs: &Jobs,
    account: &AccountId,
    (job, accepting): (JobId, Duration),
    (joins, patience): (Joins, Duration),
) -> Result<Outcome, Failure> {
    let views = read_all(jobs, account, job).await?;
    if !views.is_empty() && has_ended(&views) {
        return Ok(Outcome { views, replayed: true, accepting, waiting: Duration::ZERO });
    }
    if views.is_empty() || !joins.may_join() {
        return Err(Failure::of_job(ApiError::InProgress, job));
    }
    let ids: Vec<JobId> = views.iter().map(|view| view.id).collect();
    joins.tell(&ids, true);
    let outcome = Joining::begin(jobs, account, &ids).await?.ended(jobs, patience).await?;
    Ok(Outcome { replayed: true, accepting, ..outcome })
}
