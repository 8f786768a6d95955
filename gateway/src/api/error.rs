//! All errors that a client may get. This is the only place where a status is chosen, and the only one where an error
//! of the ledger becomes an answer. `error_text` has the sentences and `error_body` the shapes.

use std::time::Duration;

use hyper::StatusCode;
use infera_ledger::{LedgerError, OverLimit};
use infera_types::job::FailureReason;
use infera_types::money::Price;

use crate::api::denied::Denied;
use crate::api::face::Face;
use crate::api::group_refusal::GroupRefusal;
use crate::api::too_large::TooLarge;
use crate::api::too_many_requests::{Limit, STORED_WAIT};
use crate::api::unauthorized::Unauthorized;
use crate::api::waits::Wait;
use crate::api::{refusal, unfit};
use crate::fastapi::{Mistakes, Unfit};
use infera_types::admission::Refusal;

/// The reason why a request got no proper answer. Errors with a status of 4xx are the client's fault; the others say
/// whose fault they are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ApiError {
    /// The body is not what the route takes.
    Unfit(Unfit),
    /// Some of several jobs can't be accepted, so none was.
    OfJobs {
        /// The error of the first of them, which the client would get if it had sent that job alone.
        first: Box<ApiError>,
        /// What is wrong with each, at its place in the body.
        all: Mistakes,
    },
    /// The request itself is wrong: its headers, not its body.
    BadRequest(&'static str),
    /// The key is missing or opens nothing, for this reason.
    Unauthorized(Unauthorized),
    /// The key has no right to the tier that the body asks for.
    NoPriority,
    /// The key is valid, but doesn't permit this.
    NotPermitted(Denied),
    /// The account has this number of valid keys, which is the largest that it may have.
    KeysFull(u32),
    /// The key is revoked, blocked, expired or replaced, so that it can't be changed in this way.
    KeyEnded,
    /// The code from a mail is wrong, used or too old.
    CodeNotValid,
    /// This network sends no mail.
    NoMail,
    /// The text of the job was erased.
    Erased,
    /// The job hasn't ended, so that its text can't be erased.
    NotEnded,
    /// There is nothing under that id for this account.
    NotFound,
    /// There is no such path.
    NoRoute,
    /// OpenAI has this endpoint, whose name this is, and this network doesn't.
    NoEndpoint(&'static str),
    /// The path exists, but takes other methods.
    MethodNotAllowed(&'static str),
    /// The node isn't let in.
    Node(Refusal),
    /// Something about a group of nodes isn't done.
    Group(GroupRefusal),
    /// The catalogue has no such model.
    ModelUnknown(String),
    /// The request names a host that this gateway doesn't answer for.
    WrongHost(String),
    /// The catalogue has the model, but none of the network's verifiers offers it any more.
    ModelGone(String),
    /// The model was removed from the catalogue.
    ModelRemoved(String),
    /// The model's nodes can't do what these parameters ask, beginning with the one that is named first.
    UnsupportedByModel {
        /// The model.
        model: String,
        /// The parameters.
        parameters: Vec<&'static str>,
    },
    /// The messages can't fit into the model's context, whichever way they are split into tokens.
    ContextExceeded {
        /// The least number of tokens that the messages can have.
        tokens_min: u64,
        /// The model's context, in tokens: prompt and answer together.
        context_max: u32,
    },
    /// The head has too many bytes or lines.
    HeadTooLarge,
    /// The head didn't arrive in time.
    SlowHead,
    /// The body has too many bytes.
    TooLarge(TooLarge),
    /// The body has a content encoding other than gzip.
    Encoded,
    /// The body didn't arrive in time.
    SlowBody,
    /// The idempotency key was used with another request.
    KeyReused,
    /// The first request under this idempotency key is still running.
    InProgress,
    /// The client ran into a limit. The duration says when to try again.
    Limited(Limit, Duration),
    /// The client ran into a limit with several jobs, of which only the first ones fit. None was accepted.
    LimitedBatch {
        /// The limit.
        limit: Limit,
        /// The number of jobs that fit.
        fitting: usize,
        /// The number of jobs that were sent.
        sent: usize,
        /// When to try again.
        wait: Duration,
    },
    /// The request may cost more than is left of a limit of this month.
    OverSpend {
        /// The limit, and what is missing.
        over: OverLimit,
        /// The number of jobs that fit and of those that were sent, if there were several. None was accepted.
        of_batch: Option<(usize, usize)>,
    },
    /// The model costs more than the request takes.
    PriceAboveMax {
        /// The model's price.
        price: Price,
        /// The largest price that the request takes.
        max: Price,
    },
    /// Too few owners have nodes that serve the model. The network is at fault.
    InsufficientNodes,
    /// As many clients wait as this gateway may hold, or its memory budget is used up. The gateway is at fault.
    Overloaded,
    /// As many accepted jobs wait for the broker as this gateway may hold. The gateway is at fault; nothing was
    /// accepted.
    OutboxFull,
    /// Stored requests take up all the room in the ledger that they may. The network is at fault; nothing was
    /// accepted.
    StorageFull,
    /// The ledger is away. The network is at fault; a retry is safe under an idempotency key.
    LedgerAway,
    /// This gateway is shutting down; the job goes on.
    Draining,
    /// There was no answer within the client's time; the job may still end.
    Timeout,
    /// The answer isn't the one whose beginning was streamed. The network is at fault.
    StreamOverturned,
    /// The client reads its stream too slowly. The job goes on.
    SlowReader,
    /// The job failed.
    Failed(FailureReason, String),
    /// The job's account cancelled it.
    Cancelled,
    /// The job's deadline passed.
    Expired,
    /// The stored record of the job is damaged. The network is at fault; a retry finds the same until an operator
    /// mends it.
    Damaged,
    /// A fault in the gateway.
    Internal,
}

impl From<Unfit> for ApiError {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

impl From<&LedgerError> for ApiError {
    /// Tells apart a ledger that is away, after which a retry may help, and a damaged row or file, which the operator
    /// must mend.
    fn from(error: &LedgerError) -> Self {
        if error.may_pass() { Self::LedgerAway } else { Self::Internal }
    }
}

impl ApiError {
    /// Maps an error in reading a job's own record. If the record is damaged, the client is told so.
    #[must_use]
    pub(crate) fn of_job_record(error: &LedgerError) -> Self {
        match Self::from(error) {
            Self::Internal => Self::Damaged,
            away => away,
        }
    }

    /// Returns the status on this face. The faces differ where FastAPI and OpenAI differ.
    #[must_use]
    pub(crate) fn status(&self, face: Face) -> StatusCode {
        match self {
            Self::Unfit(Unfit::Unreadable) | Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unfit(_) => match face {
                Face::Seed => StatusCode::UNPROCESSABLE_ENTITY,
                Face::OpenAi => StatusCode::BAD_REQUEST,
            },
            Self::OfJobs { first, .. } => first.status(face),
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::NoPriority => StatusCode::FORBIDDEN,
            Self::NotPermitted(_) | Self::CodeNotValid | Self::NoMail => StatusCode::FORBIDDEN,
            Self::KeysFull(_) | Self::KeyEnded | Self::NotEnded => StatusCode::CONFLICT,
            Self::Erased => StatusCode::GONE,
            Self::ContextExceeded { .. } | Self::UnsupportedByModel { .. } => StatusCode::BAD_REQUEST,
            Self::NotFound
            | Self::NoRoute
            | Self::NoEndpoint(_)
            | Self::ModelUnknown(_)
            | Self::ModelGone(_)
            | Self::ModelRemoved(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Node(refusal) => refusal::status(*refusal),
            Self::Group(GroupRefusal::NameTaken | GroupRefusal::Full(_)) => StatusCode::CONFLICT,
            Self::Group(_) => StatusCode::NOT_FOUND,
            Self::WrongHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::SlowHead | Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InProgress | Self::Cancelled => StatusCode::CONFLICT,
            Self::Limited(..) | Self::LimitedBatch { .. } | Self::OverSpend { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::PriceAboveMax { .. } => StatusCode::BAD_REQUEST,
            Self::InsufficientNodes
            | Self::Overloaded
            | Self::OutboxFull
            | Self::StorageFull
            | Self::LedgerAway
            | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout | Self::Expired => StatusCode::GATEWAY_TIMEOUT,
            Self::Failed(reason, _) => match reason {
                FailureReason::ContextLength | FailureReason::InvalidMessages => StatusCode::BAD_REQUEST,
                FailureReason::ModelRemoved => StatusCode::NOT_FOUND,
                FailureReason::InsufficientNodes => StatusCode::SERVICE_UNAVAILABLE,
                FailureReason::NoConsensus | FailureReason::TooManyMisses => StatusCode::BAD_GATEWAY,
                FailureReason::Poison | FailureReason::Unprocessable => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::StreamOverturned => StatusCode::BAD_GATEWAY,
            Self::SlowReader => StatusCode::REQUEST_TIMEOUT,
            Self::Damaged | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the code that programs compare. `codes` has what each means.
    #[must_use]
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unfit(Unfit::Syntax { .. } | Unfit::Unreadable) => "invalid_json",
            Self::Unfit(Unfit::Mistakes(mistakes)) if unfit::is_missing(mistakes) => "missing_field",
            Self::Unfit(Unfit::Mistakes(_)) => "invalid_value",
            Self::BadRequest(_) => "bad_request",
            Self::OfJobs { first, .. } => first.code(),
            Self::Unauthorized(reason) => reason.code(),
            Self::NoPriority => "priority_not_allowed",
            Self::NotPermitted(_) => "insufficient_scope",
            Self::KeysFull(_) => "too_many_keys",
            Self::KeyEnded => "key_not_valid",
            Self::CodeNotValid => "code_not_valid",
            Self::NoMail => "mail_not_sent",
            Self::Erased => "erased",
            Self::NotEnded => "job_not_ended",
            Self::NotFound => "not_found",
            Self::NoRoute => "route_not_found",
            Self::NoEndpoint(_) => "endpoint_not_supported",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::Node(refusal) => refusal.code(),
            Self::Group(refusal) => refusal.code(),
            Self::ModelUnknown(_) | Self::ModelGone(_) | Self::ModelRemoved(_) => "model_not_found",
            Self::WrongHost(_) => "wrong_host",
            Self::ContextExceeded { .. } => "context_length_exceeded",
            Self::UnsupportedByModel { .. } => "unsupported_by_model",
            Self::HeadTooLarge => "headers_too_large",
            Self::SlowHead => "headers_timeout",
            Self::TooLarge(_) => "request_too_large",
            Self::Encoded => "encoding_not_supported",
            Self::SlowBody => "body_timeout",
            Self::KeyReused => "idempotency_key_reused",
            Self::InProgress => "idempotency_in_progress",
            Self::Limited(limit, _) | Self::LimitedBatch { limit, .. } => limit.code(),
            Self::OverSpend { .. } => "insufficient_quota",
            Self::PriceAboveMax { .. } => "price_above_max",
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
                FailureReason::ModelRemoved => "model_not_found",
            },
            Self::StreamOverturned => "stream_overturned",
            Self::SlowReader => "stream_too_slow",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Damaged => "damaged",
            Self::Internal => "internal_error",
        }
    }

    /// Returns the wait after which a retry may help.
    #[must_use]
    pub(crate) fn retry_after(&self) -> Option<Wait> {
        let guessed = match self {
            Self::OfJobs { first, .. } => return first.retry_after(),
            Self::Limited(limit, wait) | Self::LimitedBatch { limit, wait, .. } => {
                return Some(limit.wait(*wait));
            }
            Self::InProgress
            | Self::Overloaded
            | Self::LedgerAway
            | Self::Draining
            | Self::Node(Refusal::BrokerAway) => Duration::from_secs(1),
            // Room in the ledger, and an operator's change of mind about nodes, take their time.
            Self::StorageFull | Self::Node(Refusal::NoAdmission) => STORED_WAIT,
            // Brokers and nodes that are away rarely come back within a second.
            Self::InsufficientNodes
            | Self::OutboxFull
            | Self::Failed(FailureReason::InsufficientNodes, _) => Duration::from_secs(5),
            _ => return None,
        };
        Some(Wait::Guessed(guessed))
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
