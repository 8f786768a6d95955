//! `POST /submit_job`: accepts a conversation as a job and answers with the job's id. The answer is read later, at
//! `/v1/jobs/{id}`.

use serde_json::json;

use super::call::Call;
use super::order::Conversations;
use crate::api::chat_request::Form;
use crate::api::failure::Failure;
use crate::api::reply::Reply;
use crate::jobs::{Jobs, accept};

/// Accepts a job. The same request under the same idempotency key gets the same job, with its present status.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn submit(
    jobs: &Jobs,
    conversations: &Conversations,
    mut call: Call,
) -> Result<Reply, Failure> {
    let order = conversations.order(&mut call, Form::Submit).await?;
    let receipt = accept::submit(jobs, order).await?;
    let reply = Reply::json(&json!({ "job_id": receipt.job, "status": receipt.status }))?;
    Ok(reply.about(receipt.job).replayed(receipt.accepted_ms.is_none()).timed("accept", receipt.accepting))
}
