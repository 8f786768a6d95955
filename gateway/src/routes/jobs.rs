//! `GET` and `DELETE /v1/jobs/{id}`: shows a job, at once or at its end, or cancels it. Jobs of other accounts are
//! answered as unknown.

use std::time::Duration;

use infera_ledger::{BatchCancelled, Cancelled, EndKind, LedgerError};
use infera_types::ids::{AccountId, JobId};
use infera_types::time::Timestamp;

use super::call::Call;
use super::job_lists::WAIT_MAX_S;
use crate::access::{Limits, Used};
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::objects;
use crate::api::operation::{Group, JOB_ID, Operation, Parameter, Place, Shape, json_of_job};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::shapes::JOB;
use crate::jobs::Jobs;
use crate::jobs::following::follow;

pub(super) const ID: Parameter = Parameter {
    place: Place::Path,
    name: "id",
    shape: JOB_ID,
    about: "The job's id. Ids of other accounts' jobs, and malformed ones, are answered as unknown.",
    example: "job_01993a5f2c7e7b6c9d1f0a2b3c4d5e6f",
};

const WAIT: Parameter = Parameter {
    place: Place::Query,
    name: "wait",
    shape: Shape::Between(0, WAIT_MAX_S),
    about: "The longest time that the reply waits for the job's end, in seconds.",
    example: "10",
};

/// `GET /v1/jobs/{id}`.
pub(crate) static SHOW: Operation = Operation {
    id: "retrieveJob",
    group: Group::Jobs,
    summary: "Show a job",
    about: "Shows the job's status and, once it has ended, its answer or the reason why there is none. The end stays for as \
            long as the ledger does, unless its text is erased: then the reply is 410. The request's own text is deleted from \
            there a day after the end.",
    parameters: &[ID, WAIT],
    body: None,
    reply: json_of_job("The job.", Shape::Named(&JOB)),
    errors: &["not_found", "erased", "damaged", "invalid_value", "overloaded"],
};

/// `DELETE /v1/jobs/{id}`.
pub(crate) static CANCEL: Operation = Operation {
    id: "cancelJob",
    group: Group::Jobs,
    summary: "Cancel a job",
    about: "Cancels the job unless it has ended, and with it the other answers of its request, and shows it either way. To cancel a job twice changes nothing. What is \
            stored of it stays; `DELETE /v1/jobs/{id}/data` erases that.",
    parameters: &[ID],
    body: None,
    reply: json_of_job("The job, which has ended.", Shape::Named(&JOB)),
    errors: &["not_found", "erased", "damaged"],
};

/// Shows the job object. With `wait` in the query it does so when the job has ended, or after that many seconds.
///
/// # Errors
/// [`ApiError::NotFound`]; the ledger's error, or that the job's record is damaged.
pub(crate) async fn show(jobs: &Jobs, call: Call) -> Result<Reply, Failure> {
    let mut query = Query::read(call.head.uri.query(), &["wait"]);
    let wait = query.number("wait", 0..=WAIT_MAX_S, 0);
    let patience = Duration::from_secs(query.none_wrong(wait)?);
    shown(jobs, &call, patience).await
}

async fn shown(jobs: &Jobs, call: &Call, patience: Duration) -> Result<Reply, Failure> {
    let id = id(call)?;
    let caller = call.caller()?;
    let seen = follow(jobs, &caller.account, id, patience).await.map_err(|error| failed(id, &error))?;
    let view = seen.view.ok_or(ApiError::NotFound)?;
    if view.kept.erased_ms.is_some() {
        return Err(Failure::of_job(ApiError::Erased, id));
    }
    let reply = Reply::json(&objects::job(&view))?.about(id);
    Ok(if seen.waiting.is_zero() { reply } else { reply.timed("wait", seen.waiting) })
}

/// Cancels the job unless it has ended, and shows the job object either way.
///
/// # Errors
/// As [`show`].
pub(crate) async fn cancel(jobs: &Jobs, limits: &Limits, call: Call) -> Result<Reply, Failure> {
    let id = id(&call)?;
    let caller = call.caller()?;
    let cancelled = jobs.intake.cancel(&caller.account, id, Timestamp::now()).await;
    match cancelled.map_err(|error| failed(id, &error))? {
        // A client that waits for this job is told at once, not at the next poll.
        Cancelled::Now(settlement) => {
            limits.settle(id, Used::default());
            jobs.waiters.complete(settlement);
        }
        Cancelled::Before(_) => {}
        Cancelled::Unknown => return Err(ApiError::NotFound.into()),
    }
    cancel_others(jobs, limits, (&caller.account, id)).await?;
    shown(jobs, &call, Duration::ZERO).await
}

/// Cancels the other answers of a job's request that have not ended, also if the job itself had.
async fn cancel_others(
    jobs: &Jobs,
    limits: &Limits,
    (account, id): (&AccountId, JobId),
) -> Result<(), Failure> {
    let view = jobs.reader.job(account, id).await.map_err(|error| failed(id, &error))?;
    let others = view.map_or_else(Vec::new, |view| view.choice.others(id));
    if others.is_empty() {
        return Ok(());
    }
    let cancelled = jobs.batches.cancel_all(account, &others, Timestamp::now()).await;
    for (other, outcome) in others.iter().zip(cancelled.map_err(|error| failed(id, &error))?) {
        match outcome {
            BatchCancelled::Now(settlement) => {
                limits.settle(*other, Used::default());
                jobs.waiters.complete(settlement);
            }
            // It was cancelled with the job.
            BatchCancelled::Before(EndKind::Cancelled) => limits.settle(*other, Used::default()),
            BatchCancelled::Before(_) | BatchCancelled::Unknown => {}
        }
    }
    Ok(())
}

/// Reads the id in the path. A malformed id is treated as an unknown one.
pub(super) fn id(call: &Call) -> Result<JobId, ApiError> {
    call.id.parse().map_err(|_| ApiError::NotFound)
}

/// Logs that a job could not be read or cancelled, and returns what its client is told.
pub(super) fn failed(job: JobId, error: &LedgerError) -> Failure {
    tracing::error!(%job, %error, "a job could not be read or cancelled");
    Failure::of_job(ApiError::of_job_record(error), job)
}
