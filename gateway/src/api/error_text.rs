//! The sentences of errors. Three kinds have theirs elsewhere: limits (429) in `too_many_requests`, refusals of nodes
//! in `refusal`, and mistakes in bodies in `unfit`.

use infera_ledger::{OverLimit, Payer};
use infera_types::money::cost_text;

use crate::api::error::ApiError;
use crate::api::{amounts, refusal, unfit};

/// What a client is told that asks for something that isn't there.
const WHAT_EXISTS: &str = "Chat completions, models and jobs exist under /v1; GET /openapi.json lists every path, and \
                           /docs shows them.";

/// What a client is told whose request finds no room in the store.
const STORAGE_FULL: &str = "The requests that are stored take up all the room that they may; this one was not accepted. \
                            Room comes back as older ones are archived. Try again later.";
/// What an erased job is answered with.
const ERASED: &str = "The text of this job was erased, as its account, its key or its request asked for. How it ended, and what it \
                      used, are still known.";

/// What the erasure of a job that runs is answered with.
const NOT_ENDED: &str =
    "This job has not ended. Cancel it first, with DELETE /v1/jobs/{id}, or wait for its end.";

/// What a key without that right is told.
const NO_PRIORITY: &str = "This key may not ask for service_tier 'priority'. The network's operator can give a key that right \
                           (account allow-priority); or ask for 'auto', 'default' or 'flex', or leave it out.";

/// What the change of a key that is over is answered with.
const KEY_ENDED: &str =
    "This key is revoked, blocked, expired or replaced already. Create another one with POST /v1/keys.";

/// What a request is answered with for which there are too few nodes.
const INSUFFICIENT_NODES: &str = "Fewer nodes of different owners serve this model than the request asks for. Try again later, submit it with POST \
     /submit_job, or ask for one unverified replica.";

/// What is told of a job whose record is damaged.
const DAMAGED: &str = "The stored record of this job is damaged, so its answer is not shown. Asking again gives the same; the \
                       operator has been told.";

/// What is to be done about a name that the gateway doesn't answer to.
const HOSTS: &str = "Ask for localhost or 127.0.0.1, or have its operator add the name to gateway.hosts.";

/// What an encoding other than gzip is answered with.
const ENCODED: &str = "Of encoded bodies only gzip is taken, once; send it so or without Content-Encoding.";

/// What is told where no more jobs can be handed on.
const OUTBOX_FULL: &str =
    "Too many accepted jobs wait to be handed on; this one was not accepted. Try again soon.";

/// What is told of a job that a gateway leaves behind when it ends.
const DRAINING: &str = "This gateway is shutting down; the job goes on and can be asked for by its id.";

/// What a client is told whose stream began otherwise than the answer.
const OVERTURNED: &str =
    "The nodes' answer is not the one whose beginning was shown: forget what came, and read the job.";
/// What a client is told that reads too slowly.
const SLOW_READER: &str =
    "The stream was read too slowly, so it ends here. The job goes on: read its end by its id.";

/// What is told of a job that took too long.
const TIMEOUT: &str = "No verified answer in the time allowed. The job may still end; ask for it by its id.";

/// What a code that proves nothing is answered with.
const CODE_NOT_VALID: &str =
    "This code is not valid: it was used already, is too old, or isn't whole. Ask for another mail.";

/// What is told where no mail is set up.
const NO_MAIL: &str = "This network sends no mail, so that no address is proven and no lost key replaced by it. Its operator can \
                       prove an account and make a key.";

impl ApiError {
    /// Returns one or two sentences for a person: what is wrong and, if something can be done, what to do.
    #[must_use]
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Unfit(unfit) => unfit::message(unfit),
            Self::BadRequest(message) => (*message).to_owned(),
            Self::OfJobs { all, .. } => unfit::sentence(all),
            Self::Unauthorized(reason) => reason.message().to_owned(),
            Self::NoPriority => NO_PRIORITY.to_owned(),
            Self::NotPermitted(denied) => denied.message(),
            Self::KeysFull(max) => {
                format!("This account has {max} valid keys, the most that it may have. Revoke some.")
            }
            Self::KeyEnded => KEY_ENDED.to_owned(),
            Self::CodeNotValid => CODE_NOT_VALID.to_owned(),
            Self::NoMail => NO_MAIL.to_owned(),
            Self::Erased => ERASED.to_owned(),
            Self::NotEnded => NOT_ENDED.to_owned(),
            Self::NotFound => "Not Found".to_owned(),
            Self::NoRoute => format!("Not Found: there is no such path. {WHAT_EXISTS}"),
            Self::NoEndpoint(name) => format!("This network has no endpoint for {name}. {WHAT_EXISTS}"),
            Self::MethodNotAllowed(_) => "Method Not Allowed".to_owned(),
            Self::Node(refusal) => refusal::message(*refusal).to_owned(),
            Self::Group(refusal) => refusal.message().to_owned(),
            Self::ModelUnknown(name) => {
                let name: String = name.chars().take(100).collect();
                format!("The model '{name}' does not exist; GET /v1/models lists those that do.")
            }
            Self::WrongHost(name) => {
                let name: String = name.chars().take(100).collect();
                format!("This gateway does not answer as '{name}'. {HOSTS}")
            }
            Self::ModelGone(name) => format!(
                "The model '{name}' is not served here any more; GET /v1/models lists those that are."
            ),
            Self::ModelRemoved(name) => format!(
                "The model '{name}' is no longer served: it was removed from this network. GET /v1/models lists those that \
                 are served."
            ),
            Self::UnsupportedByModel { model, parameters } => unsupported_by_model(model, parameters),
            Self::ContextExceeded { tokens_min, context_max } => context_exceeded(*tokens_min, *context_max),
            Self::HeadTooLarge => "The headers are too large.".to_owned(),
            Self::SlowHead => "The request's head did not arrive in time.".to_owned(),
            Self::TooLarge(body) => body.message(),
            Self::Encoded => ENCODED.to_owned(),
            Self::SlowBody => "The body did not arrive in time.".to_owned(),
            Self::KeyReused => "This Idempotency-Key was used with another request.".to_owned(),
            Self::InProgress => "The first request with this Idempotency-Key is still running.".to_owned(),
            Self::Limited(limit, _) => limit.message().to_owned(),
            Self::LimitedBatch { limit, fitting, sent, .. } => {
                format!("{} Of these {sent} jobs {fitting} fit now; none was accepted.", limit.message())
            }
            Self::OverSpend { over, of_batch } => over_spend(*over, *of_batch),
            Self::PriceAboveMax { price, max } => format!(
                "This model costs {}, which is more than max_price: {}. Allow more, or ask another model.",
                amounts::price_text(*price),
                amounts::max_price_text(*max)
            ),
            Self::InsufficientNodes => INSUFFICIENT_NODES.to_owned(),
            Self::Overloaded => "Too many requests are waiting. Try again soon.".to_owned(),
            Self::OutboxFull => OUTBOX_FULL.to_owned(),
            Self::StorageFull => STORAGE_FULL.to_owned(),
            Self::LedgerAway => "The ledger is not available. Try again soon.".to_owned(),
            Self::Draining => DRAINING.to_owned(),
            Self::Timeout => TIMEOUT.to_owned(),
            Self::StreamOverturned => OVERTURNED.to_owned(),
            Self::SlowReader => SLOW_READER.to_owned(),
            Self::Failed(_, message) => message.clone(),
            Self::Cancelled => "The job was cancelled.".to_owned(),
            Self::Expired => "The job's deadline passed before it had an answer.".to_owned(),
            Self::Damaged => DAMAGED.to_owned(),
            Self::Internal => "An error of ours; it was logged under this request's id.".to_owned(),
        }
    }
}

/// Says which parameters ask for what a model's nodes can't do.
fn unsupported_by_model(model: &str, parameters: &[&str]) -> String {
    let model: String = model.chars().take(100).collect();
    let parameters = parameters.join(", ");
    format!(
        "The nodes that serve the model '{model}' can't do what is asked by: {parameters}. Leave that out, or ask another model."
    )
}

/// Says that messages are too long. LiteLLM knows the error by the first sentence's beginning, LangChain by its code.
fn context_exceeded(tokens_min: u64, context_max: u32) -> String {
    format!(
        "This model's maximum context length is {context_max} tokens. However, your messages resulted in at least {tokens_min} \
         tokens, which leaves no room for an answer. Shorten the messages."
    )
}

/// Says what is left of a limit and what it would take.
fn over_spend(over: OverLimit, of_batch: Option<(usize, usize)>) -> String {
    let OverLimit { payer, limit, used, needed } = over;
    let [limit, used, needed] = [limit, used, needed].map(cost_text);
    let (whose, remedy) = match payer {
        Payer::Key => ("This key's", "A key without a limit can raise it (PATCH /v1/keys/{id})"),
        Payer::Account => ("This account's", "Its operator can raise it"),
    };
    let which = match of_batch {
        Some((fitting, sent)) => {
            format!("of these {sent} jobs, of which none was accepted, {fitting} fit; the next one")
        }
        None => "this request".to_owned(),
    };
    format!(
        "{whose} spend limit of {limit} for this calendar month (UTC) has too little left: {used} is spent or reserved, and \
         {which} may cost {needed}. {remedy}. Ask for a shorter answer, or wait for running jobs to end or for the next month."
    )
}
