//! `POST /submit_job`: accepts a conversation as a job and answers with the job's id. The answer is read later, at
//! `/v1/jobs/{id}`. A client with a preference gets the job object, as from `POST /v1/jobs`.

use serde_json::json;

use super::call::Call;
use super::order::Conversations;
use super::preferring::{Preferred, follow};
use crate::api::chat_request::Form;
use crate::api::failure::Failure;
use crate::api::preferences::Preferences;
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
    let preferences = Preferences::read(&call.head.headers);
    let order = conversations.order(&mut call, Form::Submit).await?;
    if let Some(preferred) = Preferred::of(preferences) {
        return Ok(preferred.told(&follow(jobs, order, preferred).await?)?);
    }
    let receipt = accept::submit(jobs, order).await?;
    let reply = Reply::json(&json!({ "job_id": receipt.job, "status": receipt.status }))?;
    Ok(reply.about(receipt.job).replayed(receipt.accepted_ms.is_none()).timed("accept", receipt.accepting))
}
