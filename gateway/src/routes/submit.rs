//! `POST /submit_job`: accepts a conversation as a job and answers with the job's id. The answer is read later, at
//! `/v1/jobs/{id}`. A client with a preference gets the job object, as from `POST /v1/jobs`.

use std::sync::Arc;

use serde_json::json;

use super::call::Call;
use super::charging;
use super::order::Conversations;
use super::preferring::{Preferred, follow};
use crate::access::{self, Limits};
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
    limits: &Arc<Limits>,
    mut call: Call,
) -> Result<Reply, Failure> {
    let preferences = Preferences::read(&call.head.headers);
    let order = conversations.order(&mut call, Form::Submit).await?;
    let attempt = access::attempt(&call.head.headers);
    let reserved = charging::reserve(limits, jobs, (&order.caller, &order.ask.request), attempt)?;
    if let Some(preferred) = Preferred::of(preferences) {
        let followed = follow(jobs, order, preferred).await;
        charging::settle_followed(reserved, &followed);
        return Ok(preferred.told(&followed?)?);
    }
    let receipt = accept::submit(jobs, order).await?;
    // An earlier job has its tokens counted already.
    if receipt.accepted_ms.is_some() {
        reserved.until_end_of(receipt.job);
    }
    let reply = Reply::json(&json!({ "job_id": receipt.job, "status": receipt.status }))?;
    Ok(reply.about(receipt.job).replayed(receipt.accepted_ms.is_none()).timed("accept", receipt.accepting))
}
