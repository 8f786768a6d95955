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
                // FastAPI's shape has no code for programs. One is added where a client may try again or ask otherwise, or
                // where a job is concerned, because the client must then know which error it got.
                if job.is_some()
                    || matches!(error, Self::Node(_) | Self::ContextExceeded { .. } | Self::NoPriority)
                    || error.retry_after().is_some()
                {
                    out.push_str(",\"code\":");
                    write_text(error.code(), &mut out);
                }
            }
            (Face::OpenAi, error) => {
                let object = error.object();
                out.push_str(&format!("{{\"error\":{object}"));
                if let Self::Unfit(Unfit::Mistakes(mistakes)) = error
                    && unfit::is_of_several(mistakes)
                {
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
        let (param, code) = match self {
            Self::Unfit(Unfit::Mistakes(mistakes)) => {
                let code = if unfit::is_missing(mistakes) { "missing_field" } else { self.code() };
                (unfit::param(mistakes), code)
            }
            Self::ModelUnknown(_) | Self::ModelGone(_) => (Some("model".to_owned()), self.code()),
            Self::NoPriority => (Some("service_tier".to_owned()), self.code()),
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
            Self::Limited(Limit::Tokens, _) => "tokens",
            Self::Limited(..) | Self::LimitedBatch { .. } => "requests",
            error if error.status(Face::OpenAi).is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }
}
