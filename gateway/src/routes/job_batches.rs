//! `POST /v1/jobs` and `POST /v1/jobs/cancel`: accepts or cancels one job or up to a thousand in one commit.

use std::sync::Arc;
use std::time::Instant;

use hyper::StatusCode;
use infera_ledger::{BatchCancelled, JobFilter, JobsQuestion, MANY_MAX};
use infera_types::ids::{AccountId, JobId};
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use super::call::Call;
use super::charging;
use super::order::{Asked, Conversations};
use super::preferring::{Preferred, follow};
use crate::access::{self, Limits};
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::jobs_request::{CancelRequest, read_cancel};
use crate::api::preferences::Preferences;
use crate::api::reply::Reply;
use crate::jobs::Jobs;
use crate::jobs::batch::{BatchJob, submit_all};

/// Accepts the jobs that the body asks for. One job is answered with its object, several with their ids in order.
///
/// # Errors
/// [`Failure`]; no job was accepted, unless the failure names one.
pub(crate) async fn submit(
    jobs: &Jobs,
    conversations: &Conversations,
    limits: &Arc<Limits>,
    mut call: Call,
) -> Result<Reply, Failure> {
    let preferences = Preferences::read(&call.head.headers);
    let attempt = access::attempt(&call.head.headers);
    let batch = match conversations.jobs(&mut call).await? {
        Asked::One(order) => {
            let preferred = Preferred::or_none(preferences);
            let reserved = charging::reserve(limits, jobs, (&order.caller, &order.ask.request), attempt)?;
            let followed = follow(jobs, order, preferred).await;
            charging::settle_followed(reserved, &followed);
            return Ok(preferred.told(&followed?)?);
        }
        Asked::Many(batch) => batch,
    };
    let begun = Instant::now();
    let reserve =
        |job: &BatchJob| charging::reserve(limits, jobs, (&batch.caller, &job.ask.request), attempt);
    // Dropped again if one of them doesn't fit, or if the jobs aren't accepted.
    let reserved = batch.jobs.iter().map(reserve).collect::<Result<Vec<_>, _>>()?;
    let receipts = submit_all(jobs, batch).await?;
    for (reserved, receipt) in reserved.into_iter().zip(&receipts) {
        if receipt.is_new {
            reserved.until_end_of(receipt.job);
        }
    }
    let data: Vec<Value> = receipts
        .iter()
        .map(|receipt| {
            json!({ "id": receipt.job, "object": "job", "status": receipt.status, "replayed": !receipt.is_new })
        })
        .collect();
    let reply = Reply::json(&json!({ "object": "list", "data": data }))?.with_status(StatusCode::ACCEPTED);
    Ok(reply.timed("accept", begun.elapsed()))
}

/// Cancels the jobs that the body names, or those that its filter shows and that have not ended.
///
/// # Errors
/// The client's fault, or the ledger's error; then the same may be sent again.
pub(crate) async fn cancel(jobs: &Jobs, limits: &Limits, call: Call) -> Result<Reply, Failure> {
    let account = call.caller()?.account.clone();
    let (asked, next) = match read_cancel(&call.json()?)? {
        CancelRequest::These(ids) => (ids, None),
        CancelRequest::Matching { filter, after } => {
            let (found, next) = matching(jobs, &account, filter, after).await?;
            (found.into_iter().map(Ok).collect(), next)
        }
    };
    let known: Vec<JobId> = asked.iter().filter_map(|id| id.as_ref().ok().copied()).collect();
    let outcomes = jobs.batches.cancel_all(&account, &known, Timestamp::now()).await;
    let mut outcomes = outcomes.map_err(|error| failed(&error))?.into_iter();
    let (mut cancelled, mut ended, mut unknown) = (0_u32, 0_u32, 0_u32);
    let mut data = Vec::with_capacity(asked.len());
    for id in asked {
        let (id, outcome) = match id {
            Ok(id) => (id.to_string(), outcomes.next().unwrap_or(BatchCancelled::Unknown)),
            Err(text) => (text, BatchCancelled::Unknown),
        };
        let status = match outcome {
            BatchCancelled::Now(settlement) => {
                cancelled += 1;
                limits.settle(settlement.job_id, 0);
                // A client that waits for this job is told at once, not at the next poll.
                jobs.waiters.complete(settlement);
                "cancelled"
            }
            BatchCancelled::Before(kind) => {
                ended += 1;
                kind.word()
            }
            BatchCancelled::Unknown => {
                unknown += 1;
                "not_found"
            }
        };
        data.push(json!({ "id": id, "object": "job", "status": status }));
    }
    Ok(Reply::json(&json!({
        "object": "list",
        "data": data,
        "cancelled": cancelled,
        "ended_before": ended,
        "not_found": unknown,
        "has_more": next.is_some(),
        "last_id": next,
    }))?)
}

/// Returns the jobs that a filter shows and that have not ended, and where to go on if there may be more.
async fn matching(
    jobs: &Jobs,
    account: &AccountId,
    filter: JobFilter,
    after: Option<JobId>,
) -> Result<(Vec<JobId>, Option<JobId>), Failure> {
    let question =
        JobsQuestion { account: account.clone(), filter, after, newest_first: true, limit: MANY_MAX };
    let page = jobs.lists.list(&question).await.map_err(|error| failed(&error))?;
    let live = page.jobs.iter().filter(|job| job.end.is_none()).map(|job| job.id).collect();
    Ok((live, page.next))
}

fn failed(error: &infera_ledger::LedgerError) -> ApiError {
    tracing::error!(%error, "jobs could not be cancelled");
    ApiError::from(error)
}
