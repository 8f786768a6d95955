//! Everything that a client may be told instead of what it asked for. The only place where a status is chosen, and
//! where a mistake gets the shape of its face: FastAPI's `{"detail": …}` on the seed's paths, OpenAI's
//! `{"error": {…}}` under `/v1`. A reply that has to do with a job names it.

mod unfit;

use std::time::Duration;

use hyper::StatusCode;
use infera_ledger::LedgerError;
use infera_types::ids::JobId;
use infera_types::job::FailureReason;
use serde_json::{Value, json};

use crate::nodes::Refusal;
use crate::validation::Unfit;
use crate::validation::echo::write_text;

/// Which of the API's two shapes a path speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// The network's own, as FastAPI would print it.
    Seed,
    /// OpenAI's.
    OpenAi,
}

/// Room comes back as old requests are pruned, which goes on all the time; asking more often only costs requests.
pub const STORED_WAIT: Duration = Duration::from_secs(60);

/// Which limit a client ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Requests per minute.
    Rate,
    /// Requests at once.
    InFlight,
    /// Jobs that wait.
    Waiting,
    /// Bytes of requests that are stored.
    Stored,
    /// Sign-ups from one address.
    Signups,
    /// Nodes from one address.
    Nodes,
    /// Connections of one address.
    Connections,
}

/// Why a request has no proper answer. The doc of each says whose fault it is; 4xx are the client's.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiError {
    /// The body is not what the route takes.
    Unfit(Unfit),
    /// The request as such is wrong: headers, not body.
    BadRequest(&'static str),
    /// No key, or not one of ours. One answer for all reasons.
    Unauthorized,
    /// No such path, or nothing under that id for this account.
    NotFound,
    /// The path takes other methods.
    MethodNotAllowed(&'static str),
    /// A node isn't let in.
    Node(Refusal),
    /// The catalogue has no such model.
    ModelUnknown(String),
    /// The request is for a host that this gateway doesn't answer for.
    WrongHost(String),
    /// The catalogue has the model, but none of the network's verifiers offers it any more.
    ModelGone(String),
    /// The messages can't fit into the model's context.
    ContextExceeded {
        /// They have no fewer tokens.
        tokens_min: u64,
        /// Prompt and answer together, in tokens.
        context_max: u32,
    },
    /// The headers are too large.
    HeadTooLarge,
    /// The head didn't come in time.
    SlowHead,
    /// The body is too large.
    TooLarge(usize),
    /// The body is encoded.
    Encoded,
    /// The body didn't come in time.
    SlowBody,
    /// The idempotency key was used with another body.
    KeyReused,
    /// The first request under this idempotency key still runs.
    InProgress,
    /// Too much at once.
    Limited(Limit, Duration),
    /// Not three owners' nodes serve the model: the network's.
    InsufficientNodes,
    /// More clients wait than this gateway holds: ours.
    Overloaded,
    /// More accepted jobs wait for the broker than this gateway holds: ours. Nothing was accepted.
    OutboxFull,
    /// Requests take up as much of the ledger as they may: ours. Nothing was accepted.
    StorageFull,
    /// The ledger is away: ours; a retry is safe under an idempotency key.
    LedgerAway,
    /// This gateway shuts down; the job goes on.
    Draining,
    /// No answer in the time that the client gave; the job may still end.
    Timeout,
    /// The job failed.
    Failed(FailureReason, String),
    /// The job was cancelled, by its account.
    Cancelled,
    /// The job's deadline passed.
    Expired,
    /// What is stored of the job is not what was stored: ours. A retry finds the same until an operator mends it.
    Damaged,
    /// A mistake of ours.
    Internal,
}

impl From<Unfit> for ApiError {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

impl ApiError {
    /// What a client is told whose job can't be read: that the ledger is away, or that the job's record is damaged.
    #[must_use]
    pub const fn of_reading(error: &LedgerError) -> Self {
        if error.may_pass() { Self::LedgerAway } else { Self::Damaged }
    }

    /// The status on a face. They differ where FastAPI and OpenAI differ.
    #[must_use]
    pub const fn status(&self, face: Face) -> StatusCode {
        match self {
            Self::Unfit(Unfit::Unreadable) | Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unfit(_) => match face {
                Face::Seed => StatusCode::UNPROCESSABLE_ENTITY,
                Face::OpenAi => StatusCode::BAD_REQUEST,
            },
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ContextExceeded { .. } => StatusCode::BAD_REQUEST,
            Self::NotFound | Self::ModelUnknown(_) | Self::ModelGone(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Node(refusal) => refusal.status(),
            Self::WrongHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::SlowHead | Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InProgress | Self::Cancelled => StatusCode::CONFLICT,
            Self::Limited(..) => StatusCode::TOO_MANY_REQUESTS,
            Self::InsufficientNodes
            | Self::Overloaded
            | Self::OutboxFull
            | Self::StorageFull
            | Self::LedgerAway
            | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout | Self::Expired => StatusCode::GATEWAY_TIMEOUT,
            Self::Failed(reason, _) => match reason {
                FailureReason::ContextLength | FailureReason::InvalidMessages => StatusCode::BAD_REQUEST,
                FailureReason::InsufficientNodes => StatusCode::SERVICE_UNAVAILABLE,
                FailureReason::NoConsensus | FailureReason::TooManyMisses => StatusCode::BAD_GATEWAY,
                FailureReason::Poison | FailureReason::Unprocessable => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Damaged | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The word that programs compare.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unfit(Unfit::Syntax { .. } | Unfit::Unreadable) => "invalid_json",
            Self::Unfit(Unfit::Mistakes(_)) => "invalid_value",
            Self::BadRequest(_) => "bad_request",
            Self::Unauthorized => "invalid_api_key",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::Node(refusal) => refusal.code(),
            Self::ModelUnknown(_) | Self::ModelGone(_) => "model_not_found",
            Self::WrongHost(_) => "wrong_host",
            Self::ContextExceeded { .. } => "context_length_exceeded",
            Self::HeadTooLarge => "headers_too_large",
            Self::SlowHead => "headers_timeout",
            Self::TooLarge(_) => "request_too_large",
            Self::Encoded => "encoding_not_supported",
            Self::SlowBody => "body_timeout",
            Self::KeyReused => "idempotency_key_reused",
            Self::InProgress => "idempotency_in_progress",
            Self::Limited(limit, _) => limit_code(*limit),
            Self::InsufficientNodes => "insufficient_nodes",
            Self::Overloaded => "overloaded",
            Self::OutboxFull => "outbox_full",
            Self::StorageFull => "storage_full",
            Self::LedgerAway => "ledger_unavailable",
            Self::Draining => "shutting_down",
            Self::Timeout => "timeout",
            Self::Failed(reason, _) => match reason {
                FailureReason::Poison => "poison",
                FailureReason::NoConsensus => "no_consensus",
                FailureReason::TooManyMisses => "too_many_misses",
                FailureReason::InsufficientNodes => "insufficient_nodes",
                FailureReason::ContextLength => "context_length_exceeded",
                FailureReason::InvalidMessages => "invalid_messages",
                FailureReason::Unprocessable => "unprocessable",
            },
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Damaged => "damaged",
            Self::Internal => "internal_error",
        }
    }

    /// One sentence or two for a person: what is wrong and, where something can be done, what.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Unfit(unfit) => unfit::message(unfit),
            Self::BadRequest(message) => (*message).to_owned(),
            Self::Unauthorized => "Not authenticated: send one valid API key, as 'Authorization: Bearer <key>' or in the \
                                   header 'api_key'."
                .to_owned(),
            Self::NotFound => "Not Found".to_owned(),
            Self::MethodNotAllowed(_) => "Method Not Allowed".to_owned(),
            Self::Node(refusal) => refusal.message().to_owned(),
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
            Self::ContextExceeded { tokens_min, context_max } => format!(
                "This model's context is {context_max} tokens, and the messages have at least {tokens_min}, which leaves \
                 no room for an answer. Shorten them."
            ),
            Self::HeadTooLarge => "The headers are too large.".to_owned(),
            Self::SlowHead => "The request's head did not arrive in time.".to_owned(),
            Self::TooLarge(max) => format!("The body is larger than {max} bytes."),
            Self::Encoded => "Encoded bodies are not taken; send it without Content-Encoding.".to_owned(),
            Self::SlowBody => "The body did not arrive in time.".to_owned(),
            Self::KeyReused => "This Idempotency-Key was used with another request.".to_owned(),
            Self::InProgress => "The first request with this Idempotency-Key is still running.".to_owned(),
            Self::Limited(limit, _) => limit_message(*limit).to_owned(),
            Self::InsufficientNodes => "Fewer nodes of different owners serve this model than the request asks for. Try \
                                        again later, submit it with POST /submit_job, or ask for one unverified replica."
                .to_owned(),
            Self::Overloaded => "Too many requests are waiting. Try again soon.".to_owned(),
            Self::OutboxFull => "Too many accepted jobs wait to be handed on; this one was not accepted. Try again soon.".to_owned(),
            Self::StorageFull => "The requests that are stored take up all the room that they may; this one was not accepted. \
                                  Room comes back as older ones are archived. Try again later."
                .to_owned(),
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

    /// After how long a retry may help.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited(_, wait) => Some(*wait),
            Self::InProgress
            | Self::Overloaded
            | Self::LedgerAway
            | Self::Draining
            | Self::Node(Refusal::BrokerAway) => Some(Duration::from_secs(1)),
            Self::StorageFull => Some(STORED_WAIT),
            // A broker or nodes that are away rarely are for less than seconds.
            Self::InsufficientNodes
            | Self::OutboxFull
            | Self::Failed(FailureReason::InsufficientNodes, _) => Some(Duration::from_secs(5)),
            _ => None,
        }
    }

    /// The body on a face, as JSON.
    #[must_use]
    pub fn body(&self, face: Face, job: Option<JobId>) -> String {
        let mut out = String::new();
        match (face, self) {
            (Face::Seed, Self::Unfit(unfit)) => {
                out.push_str("{\"detail\":");
                unfit::write_detail(unfit, &self.message(), &mut out);
            }
            (Face::Seed, error) => {
                out.push_str("{\"detail\":");
                write_text(&error.message(), &mut out);
                // FastAPI has no word for programs. Where a client may try again, or a job is at stake, it must know what it met.
                if job.is_some()
                    || matches!(error, Self::Node(_) | Self::ContextExceeded { .. })
                    || error.retry_after().is_some()
                {
                    out.push_str(",\"code\":");
                    write_text(error.code(), &mut out);
                }
            }
            (Face::OpenAi, error) => {
                let object = error.object();
                out.push_str(&format!("{{\"error\":{object}"));
            }
        }
        if let Some(job) = job {
            out.push_str(&format!(",\"job_id\":\"{job}\""));
        }
        out.push('}');
        out
    }

    /// OpenAI's error object.
    #[must_use]
    pub fn object(&self) -> Value {
        let (param, code) = match self {
            Self::Unfit(Unfit::Mistakes(mistakes)) => {
                let code = if unfit::is_missing(mistakes) { "missing_field" } else { self.code() };
                (unfit::param(mistakes), code)
            }
            Self::ModelUnknown(_) | Self::ModelGone(_) => (Some("model".to_owned()), self.code()),
            Self::ContextExceeded { .. }
            | Self::Failed(FailureReason::ContextLength | FailureReason::InvalidMessages, _) => {
                (Some("messages".to_owned()), self.code())
            }
            _ => (None, self.code()),
        };
        json!({ "message": self.message(), "type": self.kind(), "param": param, "code": code })
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Limited(..) => "requests",
            error if error.status(Face::OpenAi).is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }
}

/// Which limit it was, for programs.
const fn limit_code(limit: Limit) -> &'static str {
    match limit {
        Limit::Rate => "rate_limit_exceeded",
        Limit::InFlight => "concurrency_limit_exceeded",
        Limit::Waiting => "queue_full",
        Limit::Stored => "account_storage_full",
        Limit::Signups => "signup_limit_exceeded",
        Limit::Nodes => "node_limit_exceeded",
        Limit::Connections => "connection_limit_exceeded",
    }
}

const fn limit_message(limit: Limit) -> &'static str {
    match limit {
        Limit::Rate => "Too many requests per minute for this key.",
        Limit::InFlight => "Too many requests at once for this key.",
        Limit::Waiting => "Too many jobs of this account are waiting; let some end first.",
        Limit::Stored => {
            "This account's requests take up all the room that they may; room comes back a day after their jobs ended. \
             Send fewer or smaller ones."
        }
        Limit::Signups => "Too many sign-ups from this address.",
        Limit::Nodes => "Too many registrations and checks of nodes from this address.",
        Limit::Connections => "Too many connections from this address, each in the middle of a request.",
    }
}
