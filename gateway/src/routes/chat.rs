//! `POST /chat/completions` and `POST /v1/chat/completions`: answers a conversation while the client waits.

use super::call::Call;
use super::order::Conversations;
use crate::api::chat_request::Form;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::objects;
use crate::api::reply::Reply;
use crate::jobs::{Jobs, accept};

/// Answers a conversation that has one of these two forms.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn chat(
    jobs: &Jobs,
    conversations: &Conversations,
    mut call: Call,
    form: Form,
) -> Result<Reply, Failure> {
    let order = conversations.order(&mut call, form).await?;
    let outcome = accept::answer(jobs, order).await?;
    let job = outcome.view.id;
    let fail = |error| Failure { replayed: outcome.replayed, ..Failure::of_job(error, job) };
    let settlement = outcome.view.settlement.as_ref().ok_or(fail(ApiError::Internal))?;
    let body = objects::of_end(&outcome.view, settlement).map_err(fail)?;
    let reply = Reply::json(&body)?.about(job).replayed(outcome.replayed);
    Ok(reply.timed("accept", outcome.accepting).timed("wait", outcome.waiting))
}
