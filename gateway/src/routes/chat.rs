//! `POST /chat/completions` and `POST /v1/chat/completions`: answers a conversation while the client waits, or as long
//! as it prefers to wait.

use std::sync::Arc;

use serde_json::json;

use super::call::Call;
use super::charging;
use super::order::Conversations;
use super::preferring::{Preferred, follow};
use super::streaming::{self, Held};
use crate::access::{self, Limits};
use crate::api::chat_form;
use crate::api::chat_request::Form;
use crate::api::failure::Failure;
use crate::api::objects;
use crate::api::operation::{
    Accepted, CANCEL_AFTER, Group, IDEMPOTENCY_KEY, Operation, PREFER, Parameter, Shape, body,
    streamed_or_accepted,
};
use crate::api::preferences::Preferences;
use crate::api::reply::Reply;
use crate::api::shapes::{CHAT_COMPLETION, JOB};
use crate::fastapi::{Flaw, Json, Mistakes, Step, Unfit};
use crate::jobs::{Jobs, Joins, accept};

/// The errors of a request that waits for its job's end.
const ERRORS: &[&str] = &[
    "context_length_exceeded",
    "unsupported_by_model",
    "invalid_messages",
    "model_not_found",
    "priority_not_allowed",
    "node_group_not_found",
    "insufficient_quota",
    "price_above_max",
    "idempotency_in_progress",
    "idempotency_key_reused",
    "cancelled",
    "erased",
    "queue_full",
    "account_storage_full",
    "insufficient_nodes",
    "outbox_full",
    "storage_full",
    "shutting_down",
    "timeout",
    "expired",
    "no_consensus",
    "too_many_misses",
    "poison",
    "unprocessable",
    "damaged",
];

const PARAMETERS: &[Parameter] = &[IDEMPOTENCY_KEY, PREFER, CANCEL_AFTER];

const ACCEPTED: Accepted = Accepted {
    about: "The job, to a client that prefers not to wait for its answer.",
    shape: Shape::Named(&JOB),
};

/// `POST /v1/chat/completions`.
pub(crate) static OPENAI: Operation = Operation {
    id: "createChatCompletion",
    group: Group::OpenAi,
    summary: "Answer a conversation",
    about: "Waits until the answer is verified and returns it whole, in OpenAI's format, or streams it by `stream`. Options that would change the answer \
            and are not supported are refused by name. The job of a client that hangs up is cancelled, unless \
            the same request comes again soon, has an `Idempotency-Key`, or prefers not to wait.",
    parameters: PARAMETERS,
    body: Some(body(
        Shape::Conversation { fields: chat_form::OPENAI, is_openais: true },
        r#"{"model": "infera-tiny", "messages": [{"role": "user", "content": "What is 47 + 38?"}], "max_completion_tokens": 32}"#,
    )),
    reply: streamed_or_accepted("The answer.", Shape::Named(&CHAT_COMPLETION), ACCEPTED),
    errors: ERRORS,
};

/// `POST /chat/completions`.
pub(crate) static OWN: Operation = Operation {
    id: "chatCompletions",
    group: Group::Own,
    summary: "Answer a conversation",
    about: "The same with the network's own body, in which the length and the temperature are required. A body that is plainly \
             OpenAI's is read as one.",
    parameters: PARAMETERS,
    body: Some(body(
        Shape::Conversation { fields: chat_form::CHAT, is_openais: false },
        r#"{"model": "infera-tiny", "messages": [{"role": "user", "content": "What is 47 + 38?"}], "max_tokens": 32, "temperature": 0}"#,
    )),
    reply: streamed_or_accepted("The answer.", Shape::Named(&CHAT_COMPLETION), ACCEPTED),
    errors: ERRORS,
};

/// Refuses more answers than a key can have in flight at all: no later try would be any better.
fn check_choices(limits: &Limits, choices: u32) -> Result<(), Unfit> {
    let Some(most) = limits.in_flight_most().filter(|most| choices > *most) else { return Ok(()) };
    let message = format!(
        "Input should be less than or equal to {most}: each answer that a client waits for counts as a request in flight, and a key \
         may have {most} at once. Ask for fewer, or submit the request as a job"
    );
    let flaw = Flaw::new("less_than_equal", message).with(json!({ "le": most }));
    let mut mistakes = Mistakes::default();
    mistakes.add(&[Step::name("n")], flaw, &Json::Int(choices.into()));
    Ok(mistakes.none_or(())?)
}

/// Answers a conversation that has one of these two forms.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn chat(
    jobs: &Arc<Jobs>,
    conversations: &Conversations,
    limits: &Arc<Limits>,
    mut call: Call,
    form: Form,
) -> Result<Reply, Failure> {
    let preferences = Preferences::read(&call.head.headers);
    let order = conversations.order(&mut call, form).await?;
    let attempt = access::attempt(&call.head.headers);
    check_choices(limits, order.ask.choices)?;
    // Each answer is a request in flight.
    let turns = limits.admit_more(&order.caller, order.ask.choices.saturating_sub(1), attempt)?;
    let reserved = charging::reserve(limits, jobs, (&order.caller, &order.ask, &order.ids), attempt)?;
    if let Some(preferred) = Preferred::of(preferences) {
        let followed = follow(jobs, order, preferred).await;
        charging::settle_followed(reserved, &followed);
        let followed = followed?;
        if !preferred.is_answered(&followed.views) {
            return Ok(preferred.told(&followed)?);
        }
        let fail = |error| {
            let failure = Failure { replayed: followed.replayed, ..Failure::of_job(error, followed.job()) };
            failure.timed("accept", followed.accepting).timed("wait", followed.waiting)
        };
        let body = objects::of_ends(&followed.views).map_err(fail)?;
        return Ok(preferred.applied(Reply::json(&body)?, &followed));
    }
    if let Some(asked) = order.ask.stream {
        let held = Held { reserved, turns };
        return streaming::stream(jobs, order, held, asked.has_usage).await;
    }
    let outcome = accept::answer(jobs, order, Joins::NONE).await;
    charging::settle(reserved, &outcome);
    let outcome = outcome?;
    let job = outcome.job();
    let fail = |error| {
        let failure = Failure { replayed: outcome.replayed, ..Failure::of_job(error, job) };
        failure.timed("accept", outcome.accepting).timed("wait", outcome.waiting)
    };
    let body = objects::of_ends(&outcome.views).map_err(fail)?;
    let reply = Reply::json(&body)?.about(job).replayed(outcome.replayed);
    Ok(reply.timed("accept", outcome.accepting).timed("wait", outcome.waiting))
}
