//! Says of a path that the table doesn't have whether OpenAI has it, so that a client learns that the network lacks the
//! endpoint and that its base URL is right.

use crate::api::error::ApiError;

/// The first segments of OpenAI's paths that this network doesn't have, and what each is called.
const ABSENT: [(&str, &str); 21] = [
    ("assistants", "assistants"),
    ("audio", "audio"),
    ("batches", "batches"),
    ("completions", "completions without messages; use /v1/chat/completions"),
    ("containers", "containers"),
    ("conversations", "stored conversations"),
    ("edits", "edits"),
    ("embeddings", "embeddings"),
    ("engines", "engines; use /v1/models"),
    ("evals", "evals"),
    ("files", "files"),
    ("fine_tuning", "fine-tuning"),
    ("images", "images"),
    ("moderations", "moderations"),
    ("organization", "organizations"),
    ("realtime", "realtime sessions"),
    ("responses", "responses; use /v1/chat/completions"),
    ("threads", "threads"),
    ("uploads", "uploads"),
    ("vector_stores", "vector stores"),
    ("videos", "videos"),
];

/// Returns the error for a path that no route has.
pub(super) fn error(path: &str) -> ApiError {
    let first = path.strip_prefix("/v1/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let absent = ABSENT.iter().find(|(segment, _)| *segment == first);
    absent.map_or(ApiError::NoRoute, |(_, name)| ApiError::NoEndpoint(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openais_endpoints_are_told_from_typing_errors() {
        for path in ["/v1/embeddings", "/v1/files/file-1/content", "/v1/fine_tuning/jobs", "/v1/responses"] {
            assert!(matches!(error(path), ApiError::NoEndpoint(_)), "{path}");
        }
        for path in ["/v1", "/v1/", "/v1/embedding", "/embeddings", "/v2/embeddings", "/v1//files", "/"] {
            assert_eq!(error(path), ApiError::NoRoute, "{path}");
        }
    }
}
