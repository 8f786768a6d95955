//! `POST /chat/completions` and `POST /v1/chat/completions`: a conversation in, a checked answer out, while the
//! client waits.

use crate::accept::{self, Failure};
use crate::ask::Form;
use crate::completion;
use crate::layers::Call;
use crate::reply::Reply;

/// The seed's route.
///
/// # Errors
/// [`Failure`].
pub async fn seed(call: Call) -> Result<Reply, Failure> {
    chat(call, Form::Chat).await
}

/// OpenAI's route.
///
/// # Errors
/// [`Failure`].
pub async fn openai(call: Call) -> Result<Reply, Failure> {
    chat(call, Form::OpenAi).await
}

async fn chat(mut call: Call, form: Form) -> Result<Reply, Failure> {
    let order = super::order(&mut call, form).await?;
    let outcome = accept::answer(&call.state, order).await?;
    let job = outcome.view.id;
    let fail = |error| Failure { replayed: outcome.replayed, ..Failure::of_job(error, job) };
    let settlement = outcome.view.settlement.as_ref().ok_or(fail(crate::error::ApiError::Internal))?;
    let body =
        completion::of_end(settlement, outcome.view.accepted_ms, outcome.view.dispute).map_err(fail)?;
    let reply = Reply::json(&body)?.about(job).replayed(outcome.replayed);
    Ok(reply.timed("accept", outcome.accepting).timed("wait", outcome.waiting))
}
