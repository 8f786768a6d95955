//! `POST /v1/jobs` and `POST /v1/jobs/cancel`: accepts or cancels one job or up to a thousand in one commit.

use std::sync::Arc;
use std::time::Instant;

use hyper::StatusCode;
use infera_ledger::{BatchCancelled, EndKind, JobFilter, JobsQuestion, MANY_MAX};
use infera_types::ids::{AccountId, JobId};
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use super::call::Call;
use super::charging;
use super::order::{Asked, Conversations};
use super::preferring::{Preferred, follow};
use crate::access::{self, Limits, Used};
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::jobs_request::{CANCEL_MATCHING, CANCEL_THESE, CancelRequest, read_cancel};
use crate::api::operation::{
    Accepted, CANCEL_AFTER, Group, IDEMPOTENCY_KEY, JOB_ID, Member, Operation, PREFER, Shape, always, body,
    json as in_json, json_or_accepted, sometimes,
};
use crate::api::preferences::Preferences;
use crate::api::reply::Reply;
use crate::api::shapes::{JOB, JOB_STATUS};
use crate::jobs::Jobs;
use crate::jobs::batch::{BatchJob, submit_all};

/// `POST /v1/jobs`.
pub(crate) static SUBMIT: Operation = Operation {
    id: "createJobs",
    group: Group::Jobs,
    summary: "Submit jobs",
    about: "Accepts one job, whose body is that of `POST /v1/chat/completions`, or up to a thousand, as `{\"jobs\": [...]}`: \
            then all are accepted or none. The client doesn't wait, unless it prefers to wait for one job.",
    parameters: &[IDEMPOTENCY_KEY, PREFER, CANCEL_AFTER],
    body: Some(body(
        Shape::Jobs,
        r#"{"model": "infera-tiny", "messages": [{"role": "user", "content": "What is 47 + 38?"}], "max_completion_tokens": 32, "metadata": {"run": "7"}}"#,
    )),
    reply: json_or_accepted(
        "The job, which has ended.",
        Shape::Named(&JOB),
        Accepted {
            about: "The job, or the list of jobs in the order of the body.",
            shape: Shape::Either(&[
                Shape::Named(&JOB),
                Shape::Members(&[
                    always("object", Shape::Words(&["list"]), "The kind of object."),
                    always("data", Shape::List(&Shape::Members(SUBMITTED)), "The jobs."),
                ]),
            ]),
        },
    ),
    errors: &[
        "context_length_exceeded",
        "unsupported_by_model",
        "invalid_messages",
        "model_not_found",
        "priority_not_allowed",
        "node_group_not_found",
        "insufficient_quota",
        "price_above_max",
        "idempotency_key_reused",
        "idempotency_in_progress",
        "queue_full",
        "account_storage_full",
        "insufficient_nodes",
        "outbox_full",
        "storage_full",
        "shutting_down",
        "damaged",
    ],
};

const SUBMITTED: &[Member] = &[
    always("id", JOB_ID, "The job's id."),
    always("object", Shape::Words(&["job"]), "The kind of object."),
    always("status", JOB_STATUS, "Its status."),
    always("replayed", Shape::Flag, "Whether it was accepted before, under the same idempotency key."),
    sometimes(
        "job_ids",
        Shape::List(&JOB_ID),
        "The ids of all jobs of a new request for several answers, in their order.",
    ),
];

/// `POST /v1/jobs/cancel`.
pub(crate) static CANCEL: Operation = Operation {
    id: "cancelJobs",
    group: Group::Jobs,
    summary: "Cancel jobs",
    about: "Cancels the jobs that are named, or those that a filter shows and that have not ended: up to a thousand, the newest \
            first. While `has_more` is true, the same with `after` goes on.",
    parameters: &[],
    body: Some(body(
        Shape::Either(&[Shape::Closed(CANCEL_THESE), Shape::Closed(CANCEL_MATCHING)]),
        r#"{"ids": ["job_01993a5f2c7e7b6c9d1f0a2b3c4d5e6f"]}"#,
    )),
    reply: in_json(
        "What became of each job.",
        Shape::Members(&[
            always("object", Shape::Words(&["list"]), "The kind of object."),
            always(
                "data",
                Shape::List(&Shape::Members(&[
                    always("id", Shape::Text, "The job's id, as it was sent."),
                    always("object", Shape::Words(&["job"]), "The kind of object."),
                    always("status", Shape::Text, "`cancelled`, how it had ended before, or `not_found`."),
                ])),
                "The jobs.",
            ),
            always("cancelled", Shape::Count, "How many were cancelled now."),
            always("ended_before", Shape::Count, "How many had ended."),
            always("not_found", Shape::Count, "How many the account doesn't have."),
            always("has_more", Shape::Flag, "Whether the filter may show more."),
            always("last_id", Shape::Maybe(&JOB_ID), "Where to go on."),
        ]),
    ),
    errors: &[],
};

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
            let reserved = charging::reserve(limits, jobs, (&order.caller, &order.ask, &order.ids), attempt)?;
            let followed = follow(jobs, *order, preferred).await;
            charging::settle_followed(reserved, &followed);
            return Ok(preferred.told(&followed?)?);
        }
        Asked::Many(batch) => batch,
    };
    let begun = Instant::now();
    let mut reserved = Vec::with_capacity(batch.jobs.len());
    let mut reserve = |job: &BatchJob| {
        charging::reserve(limits, jobs, (&batch.caller, &job.ask, &job.ids), attempt)
            .map(|of_job| reserved.push(of_job))
    };
    let submitted = match batch.jobs.iter().try_for_each(&mut reserve) {
        Ok(()) => submit_all(jobs, batch).await,
        Err(failure) => Err(failure),
    };
    for (place, reserved) in reserved.into_iter().enumerate() {
        // A job that was there before has its tokens counted already.
        let is_new =
            submitted.as_ref().is_ok_and(|receipts| receipts.get(place).is_some_and(|one| one.is_new));
        if !is_new {
            reserved.give_back();
        }
    }
    let receipts = submitted?;
    let data: Vec<Value> = receipts
        .iter()
        .map(|receipt| {
            let mut told =
                json!({ "id": receipt.job, "object": "job", "status": receipt.status, "replayed": !receipt.is_new });
            if receipt.jobs.len() > 1 {
                told["job_ids"] = json!(receipt.jobs);
            }
            told
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
                limits.settle(settlement.job_id, Used::default());
                // A client that waits for this job is told at once, not at the next poll.
                jobs.waiters.complete(settlement);
                "cancelled"
            }
            BatchCancelled::Before(kind) => {
                // It may have been cancelled a moment ago, with another answer of its request.
                if kind == EndKind::Cancelled
                    && let Ok(job) = id.parse()
                {
                    limits.settle(job, Used::default());
                }
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
