//! The sentences of errors. Three kinds have theirs elsewhere: limits (429) in `too_many_requests`, refusals of nodes
//! in `refusal`, and mistakes in bodies in `unfit`.

use crate::api::error::ApiError;
use crate::api::{refusal, unfit};

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
            Self::Unauthorized => "Not authenticated: send one valid API key, as 'Authorization: Bearer <key>' or in the \
                                   header 'api_key'."
                .to_owned(),
            Self::NoPriority => NO_PRIORITY.to_owned(),
            Self::NotPermitted(denied) => denied.message(),
            Self::KeysFull(max) => {
                format!("This account has {max} valid keys, which is the most. Revoke some that are not used.")
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
                format!(
                    "This gateway does not answer as '{name}'. Ask for localhost or 127.0.0.1, or have its operator add \
                     the name to gateway.hosts."
                )
            }
            Self::ModelGone(name) => format!(
                "The model '{name}' is not served here any more; GET /v1/models lists those that are."
            ),
            // LiteLLM knows the error by the first sentence's beginning, LangChain by its code.
            Self::ContextExceeded { tokens_min, context_max } => format!(
                "This model's maximum context length is {context_max} tokens. However, your messages resulted in at least \
                 {tokens_min} tokens, which leaves no room for an answer. Shorten the messages."
            ),
            Self::HeadTooLarge => "The headers are too large.".to_owned(),
            Self::SlowHead => "The request's head did not arrive in time.".to_owned(),
            Self::TooLarge(max) => format!("The body is larger than {max} bytes."),
            Self::Encoded => "Of encoded bodies only gzip is taken, once; send it so or without Content-Encoding.".to_owned(),
            Self::SlowBody => "The body did not arrive in time.".to_owned(),
            Self::KeyReused => "This Idempotency-Key was used with another request.".to_owned(),
            Self::InProgress => "The first request with this Idempotency-Key is still running.".to_owned(),
            Self::Limited(limit, _) => limit.message().to_owned(),
            Self::LimitedBatch { limit, fitting, sent, .. } => format!(
                "{} Of these {sent} jobs {fitting} fit now; none was accepted.",
                limit.message()
            ),
            Self::InsufficientNodes => "Fewer nodes of different owners serve this model than the request asks for. Try \
                                        again later, submit it with POST /submit_job, or ask for one unverified replica."
                .to_owned(),
            Self::Overloaded => "Too many requests are waiting. Try again soon.".to_owned(),
            Self::OutboxFull => "Too many accepted jobs wait to be handed on; this one was not accepted. Try again soon.".to_owned(),
            Self::StorageFull => STORAGE_FULL.to_owned(),
            Self::LedgerAway => "The ledger is not available. Try again soon.".to_owned(),
            Self::Draining => "This gateway is shutting down; the job goes on and can be asked for by its id.".to_owned(),
            Self::Timeout => "No verified answer in the time allowed. The job may still end; ask for it by its id.".to_owned(),
            Self::Failed(_, message) => message.clone(),
            Self::Cancelled => "The job was cancelled.".to_owned(),
            Self::Expired => "The job's deadline passed before it had an answer.".to_owned(),
            Self::Damaged => "The stored record of this job is damaged, so its answer is not shown. Asking again gives the same; \
                              the operator has been told."
                .to_owned(),
            Self::Internal => "An error of ours; it was logged under this request's id.".to_owned(),
        }
    }
}
