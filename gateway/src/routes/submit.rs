//! `POST /submit_job`: a conversation in, a job's id out. The answer is asked for later, at `/v1/jobs/{id}`.

use serde_json::json;

use crate::accept::{self, Failure};
use crate::ask::Form;
use crate::layers::Call;
use crate::reply::Reply;

/// The route. Sending it again under the same idempotency key gives the same job, as it stands then.
///
/// # Errors
/// [`Failure`].
pub async fn submit(mut call: Call) -> Result<Reply, Failure> {
    let order = super::order(&mut call, Form::Submit).await?;
    let receipt = accept::submit(&call.state, order).await?;
    let reply = Reply::json(&json!({ "job_id": receipt.job, "status": receipt.status }))?;
    Ok(reply.about(receipt.job).replayed(receipt.accepted_ms.is_none()).timed("accept", receipt.accepting))
}
