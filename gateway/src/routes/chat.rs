//! `POST /chat/completions` and `POST /v1/chat/completions`: answers a conversation while the client waits, or as long
//! as it prefers to wait.

use std::sync::Arc;

use super::call::Call;
use super::charging;
use super::order::Conversations;
use super::preferring::{Preferred, follow};
use crate::access::{self, Limits};
use crate::api::chat_request::Form;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::objects;
use crate::api::preferences::Preferences;
use crate::api::reply::Reply;
use crate::jobs::{Jobs, accept};

/// Answers a conversation that has one of these two forms.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn chat(
    jobs: &Jobs,
    conversations: &Conversations,
    limits: &Arc<Limits>,
    mut call: Call,
    form: Form,
) -> Result<Reply, Failure> {
    let preferences = Preferences::read(&call.head.headers);
    let order = conversations.order(&mut call, form).await?;
    let reserved = charging::reserve(
        limits,
        jobs,
        (&order.caller, &order.ask.request),
        access::attempt(&call.head.headers),
    )?;
    if let Some(preferred) = Preferred::of(preferences) {
        let followed = follow(jobs, order, preferred).await;
        charging::settle_followed(reserved, &followed);
        let followed = followed?;
        if !preferred.is_answered(&followed.view) {
            return Ok(preferred.told(&followed)?);
        }
        let (view, replayed) = (&followed.view, followed.replayed);
        let fail = |error| Failure { replayed, ..Failure::of_job(error, view.id) };
        let settlement = view.settlement.as_ref().ok_or(fail(ApiError::Internal))?;
        let body = objects::of_end(view, settlement).map_err(fail)?;
        return Ok(preferred.applied(Reply::json(&body)?, &followed));
    }
    let outcome = accept::answer(jobs, order).await;
    charging::settle(reserved, &outcome);
    let outcome = outcome?;
    let job = outcome.view.id;
    let fail = |error| {
        let failure = Failure { replayed: outcome.replayed, ..Failure::of_job(error, job) };
        failure.timed("accept", outcome.accepting).timed("wait", outcome.waiting)
    };
    let settlement = outcome.view.settlement.as_ref().ok_or(fail(ApiError::Internal))?;
    let body = objects::of_end(&outcome.view, settlement).map_err(fail)?;
    let reply = Reply::json(&body)?.about(job).replayed(outcome.replayed);
    Ok(reply.timed("accept", outcome.accepting).timed("wait", outcome.waiting))
}
