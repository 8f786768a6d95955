//! `POST /submit_job`: accepts a conversation as a job and answers with the job's id. The answer is read later, at
//! `/v1/jobs/{id}`. A client with a preference gets the job object, as from `POST /v1/jobs`.

use std::sync::Arc;

use serde_json::json;

use super::call::Call;
use super::charging;
use super::order::Conversations;
use super::preferring::{Preferred, follow};
use crate::access::{self, Limits};
use crate::api::chat_form;
use crate::api::chat_request::Form;
use crate::api::failure::Failure;
use crate::api::operation::{
    Accepted, CANCEL_AFTER, Group, IDEMPOTENCY_KEY, JOB_ID, Operation, PREFER, Shape, always, body,
    json_or_accepted, sometimes,
};
use crate::api::preferences::Preferences;
use crate::api::reply::Reply;
use crate::api::shapes::{JOB, JOB_STATUS};
use crate::jobs::{Jobs, accept};

/// `POST /submit_job`.
pub(crate) static SUBMIT: Operation = Operation {
    id: "submitJob",
    group: Group::Own,
    summary: "Submit a conversation as a job",
    about: "Accepts the job and returns its id at once. `GET /v1/jobs/{id}` shows the answer later, and \
            `DELETE /v1/jobs/{id}` cancels the job. A job waits while there are too few nodes, until its deadline.",
    parameters: &[IDEMPOTENCY_KEY, PREFER, CANCEL_AFTER],
    body: Some(body(
        Shape::Conversation { fields: chat_form::SUBMIT, is_openais: false },
        r#"{"model": "infera-tiny", "messages": [{"role": "user", "content": "What is 47 + 38?"}], "max_output": 32, "temperature": 0}"#,
    )),
    reply: json_or_accepted(
        "The job was accepted, or it was accepted before under the same idempotency key. With `Prefer: wait=N`, the job, \
         which has ended.",
        Shape::Members(&[
            always("job_id", JOB_ID, "The job's id."),
            always("status", JOB_STATUS, "Its status: `queued` for a new job."),
            sometimes(
                "job_ids",
                Shape::List(&JOB_ID),
                "The ids of all jobs of a request for several answers, in their order.",
            ),
        ]),
        Accepted { about: "The job, to a client with a preference.", shape: Shape::Named(&JOB) },
    ),
    errors: &[
        "context_length_exceeded",
        "unsupported_by_model",
        "model_not_found",
        "priority_not_allowed",
        "node_group_not_found",
        "insufficient_quota",
        "price_above_max",
        "invalid_messages",
        "idempotency_in_progress",
        "insufficient_nodes",
        "idempotency_key_reused",
        "queue_full",
        "account_storage_full",
        "outbox_full",
        "storage_full",
        "damaged",
    ],
};

/// Accepts a job. The same request under the same idempotency key gets the same job, with its present status.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn submit(
    jobs: &Jobs,
    conversations: &Conversations,
    limits: &Arc<Limits>,
    mut call: Call,
) -> Result<Reply, Failure> {
    let preferences = Preferences::read(&call.head.headers);
    let order = conversations.order(&mut call, Form::Submit).await?;
    let attempt = access::attempt(&call.head.headers);
    let reserved = charging::reserve(limits, jobs, (&order.caller, &order.ask, &order.ids), attempt)?;
    if let Some(preferred) = Preferred::of(preferences) {
        let followed = follow(jobs, order, preferred).await;
        charging::settle_followed(reserved, &followed);
        return Ok(preferred.told(&followed?)?);
    }
    let submitted = accept::submit(jobs, order).await;
    charging::settle_submitted(reserved, &submitted);
    let receipt = submitted?;
    let mut told = json!({ "job_id": receipt.job(), "status": receipt.status });
    if receipt.jobs.len() > 1 {
        told["job_ids"] = json!(receipt.jobs);
    }
    let reply = Reply::json(&told)?;
    Ok(reply.about(receipt.job()).replayed(receipt.accepted_ms.is_none()).timed("accept", receipt.accepting))
}
