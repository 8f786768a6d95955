//! Everything that a client may be told instead of what it asked for. The only place where a status is chosen, and the one
//! place where an error of the ledger becomes an answer. Its texts are `error_text`'s, its shapes `error_body`'s.

use std::time::Duration;

use hyper::StatusCode;
use infera_ledger::LedgerError;
use infera_types::job::FailureReason;

use crate::api::face::Face;
use crate::api::refusal;
use crate::api::too_many_requests::{Limit, STORED_WAIT};
use crate::fastapi::Unfit;
use infera_types::admission::Refusal;

/// Says why a request has no proper answer. The doc of each says whose fault it is; 4xx are the client's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ApiError {
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

impl From<&LedgerError> for ApiError {
    /// Tells a ledger that is away, which may be tried again, from a row or a file that is damaged, which is ours to mend.
    fn from(error: &LedgerError) -> Self {
        if error.may_pass() { Self::LedgerAway } else { Self::Internal }
    }
}

impl ApiError {
    /// Says the same of a job's own record: where that is damaged, the client is told that it is.
    #[must_use]
    pub(crate) fn of_job_record(error: &LedgerError) -> Self {
        match Self::from(error) {
            Self::Internal => Self::Damaged,
            away => away,
        }
    }

    /// Returns the status on a face. They differ where FastAPI and OpenAI differ.
    #[must_use]
    pub(crate) const fn status(&self, face: Face) -> StatusCode {
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
            Self::Node(refusal) => refusal::status(*refusal),
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

    /// Returns the word that programs compare.
    #[must_use]
    pub(crate) const fn code(&self) -> &'static str {
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
            Self::Limited(limit, _) => limit.code(),
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

    /// Returns after how long a retry may help.
    #[must_use]
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_never_called_away() {
        let text = || "why".to_owned();
        for (error, of_any, of_job) in [
            (LedgerError::Unavailable(text()), ApiError::LedgerAway, ApiError::LedgerAway),
            (LedgerError::Refused(text()), ApiError::LedgerAway, ApiError::LedgerAway),
            (LedgerError::Unknown(text()), ApiError::LedgerAway, ApiError::LedgerAway),
            (LedgerError::Row(text()), ApiError::Internal, ApiError::Damaged),
            (LedgerError::Damaged(text()), ApiError::Internal, ApiError::Damaged),
        ] {
            assert_eq!(ApiError::from(&error), of_any, "{error}");
            assert_eq!(ApiError::of_job_record(&error), of_job, "{error}");
            assert_eq!(
                of_any.status(Face::OpenAi).as_u16(),
                if error.may_pass() { 503 } else { 500 },
                "{error}"
            );
        }
    }
}
