//! The two shapes of an error: FastAPI's `{"detail": …}` on the seed's paths, and OpenAI's `{"error": {…}}` under
//! `/v1`.

use infera_types::ids::JobId;
use infera_types::job::FailureReason;
use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::face::Face;
use crate::api::too_many_requests::Limit;
use crate::api::unfit;
use crate::fastapi::Unfit;
use crate::fastapi::echo::write_text;

impl ApiError {
    /// Returns the error's body on this face, as JSON. It names the job that the error concerns.
    #[must_use]
    pub(crate) fn body(&self, face: Face, job: Option<JobId>) -> String {
        let mut out = String::new();
        match (face, self) {
            (Face::Seed, Self::Unfit(unfit)) => {
                out.push_str("{\"detail\":");
                unfit::write_detail(unfit, &self.message(), &mut out);
            }
            (Face::Seed, error) => {
                out.push_str("{\"detail\":");
                write_text(&error.message(), &mut out);
                // FastAPI's shape has no code for programs. One is added where FastAPI itself says nothing else; a
                // list of mistakes stays as FastAPI prints it, and has its code in the header `x-error-code` alone.
                out.push_str(",\"code\":");
                write_text(error.code(), &mut out);
            }
            (Face::OpenAi, error) => {
                let object = error.object();
                out.push_str(&format!("{{\"error\":{object}"));
                let several = match error {
                    Self::Unfit(Unfit::Mistakes(mistakes)) if unfit::is_of_several(mistakes) => {
                        Some(mistakes)
                    }
                    Self::OfJobs { all, .. } => Some(all),
                    _ => None,
                };
                if let Some(mistakes) = several {
                    out.push_str(&format!(",\"errors\":{}", unfit::list(mistakes)));
                }
            }
        }
        if let Some(job) = job {
            out.push_str(&format!(",\"job_id\":\"{job}\""));
        }
        out.push('}');
        out
    }

    /// Returns OpenAI's error object.
    #[must_use]
    pub(crate) fn object(&self) -> Value {
        let param = match self {
            Self::Unfit(Unfit::Mistakes(mistakes)) | Self::OfJobs { all: mistakes, .. } => {
                unfit::param(mistakes)
            }
            error => error.member().map(str::to_owned),
        };
        json!({ "message": self.message(), "type": self.kind(), "param": param, "code": self.code() })
    }

    /// Returns the member of a conversation that the error is about, whatever its value.
    #[must_use]
    pub(crate) fn member(&self) -> Option<&'static str> {
        match self {
            Self::ModelUnknown(_)
            | Self::ModelGone(_)
            | Self::ModelRemoved(_)
            | Self::Failed(FailureReason::ModelRemoved, _) => Some("model"),
            Self::UnsupportedByModel { parameters, .. } => parameters.first().copied(),
            Self::NoPriority => Some("service_tier"),
            Self::PriceAboveMax { .. } => Some("max_price"),
            Self::ContextExceeded { .. }
            | Self::Failed(FailureReason::ContextLength | FailureReason::InvalidMessages, _) => {
                Some("messages")
            }
            _ => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::OfJobs { first, .. } => first.kind(),
            Self::Limited(Limit::Tokens, _) => "tokens",
            Self::Limited(..) | Self::LimitedBatch { .. } => "requests",
            Self::OverSpend { .. } => "insufficient_quota",
            error if error.status(Face::OpenAi).is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }
}
