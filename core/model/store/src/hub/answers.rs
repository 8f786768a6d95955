//! Reads a Hub's refusals: its codes, and its own words.

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::names::shown;
use crate::source::SourceError;

/// The most of a refusal's body that is read for its sentence.
const BODY_MAX_BYTES: usize = 16 << 10;
/// How long a refusal's body is waited for.
const BODY_WITHIN: Duration = Duration::from_secs(5);
/// The longest pause that a source can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// The repository that is asked about.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its name with the endpoint's, for messages.
    pub(super) name: String,
    /// Its name.
    pub(super) repository: String,
}

impl Place {
    /// Makes the error of a source whose answer can't be used.
    pub(super) fn refused(&self, said: impl fmt::Display) -> SourceError {
        SourceError::Refused { place: self.name.clone(), said: said.to_string() }
    }
}

/// What a request was about.
#[derive(Clone, Copy, Debug)]
pub(super) enum About<'a> {
    /// The listing of a revision.
    Listing {
        /// The revision.
        revision: &'a str,
    },
    /// A file.
    File {
        /// The revision.
        revision: &'a str,
        /// The file's path.
        path: &'a str,
    },
}

/// Reads a refusal whole.
pub(super) async fn refusal(answer: Response<Incoming>, place: &Place, about: &About<'_>) -> SourceError {
    let (head, body) = answer.into_parts();
    let body = tokio::time::timeout(BODY_WITHIN, Limited::new(body, BODY_MAX_BYTES).collect()).await;
    // Without the body its status still says enough.
    let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    meaning(head.status, &head.headers, &body, (place, about))
}

/// Returns what a refusal means.
fn meaning(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    (place, about): (&Place, &About<'_>),
) -> SourceError {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let said = said(status, header("x-error-message"), body);
    let (name, said) = (place.name.clone(), said);
    let code = header("x-error-code").unwrap_or_default();
    let (About::Listing { revision } | About::File { revision, .. }) = about;
    let no_revision =
        |said| SourceError::NoRevision { place: name.clone(), revision: (*revision).to_owned(), said };
    match (code, status.as_u16(), about) {
        ("GatedRepo", ..) => SourceError::Gated { place: name, said },
        ("RepoNotFound", ..) => SourceError::NoRepository { place: name, said },
        ("RevisionNotFound", ..) => no_revision(said),
        ("", 401 | 403, _) => SourceError::Gated { place: name, said },
        ("EntryNotFound", _, About::File { path, .. }) | ("", 404 | 410, About::File { path, .. }) => {
            SourceError::NoFile {
                place: name,
                revision: (*revision).to_owned(),
                path: (*path).to_owned(),
                said,
            }
        }
        ("", 404 | 410, About::Listing { .. }) => SourceError::NoRepository { place: name, said },
        (_, 416, _) => SourceError::Unresumable { said },
        (_, 408 | 425 | 429 | 500..=599, _) => {
            let seconds = header(RETRY_AFTER.as_str()).and_then(|value| value.trim().parse().ok());
            let wait = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
            SourceError::Away { said: format!("{name}: {said}"), wait }
        }
        _ => place.refused(said),
    }
}

/// Returns a refusal's own words: its header's, its body's, or its status.
fn said(status: StatusCode, header: Option<&str>, body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let words = header.or_else(|| json.get("error").and_then(Value::as_str)).map(shown);
    match words.filter(|words| !words.is_empty()) {
        Some(words) => format!("{}: {words}", status.as_u16()),
        None => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn refusals_are_told_apart_in_the_hubs_own_words() {
        let place = Place { name: "https://hub/o/m".to_owned(), repository: "o/m".to_owned() };
        let file = About::File { revision: "main", path: "config.json" };
        let listing = About::Listing { revision: "main" };
        let read = |status: u16, code: &str, body: &str, about: &About<'_>| {
            let mut headers = HeaderMap::new();
            if !code.is_empty() {
                headers.insert("x-error-code", HeaderValue::from_str(code).expect("a code"));
            }
            headers.insert(RETRY_AFTER, HeaderValue::from_static("3600"));
            let status = StatusCode::from_u16(status).expect("a status");
            meaning(status, &headers, body.as_bytes(), (&place, about))
        };
        let words = r#"{"error":"Access to model o/m is restricted. You must be\u001b authenticated."}"#;
        for (status, code) in [(401, "GatedRepo"), (403, "GatedRepo"), (401, ""), (403, "")] {
            let told = read(status, code, words, &file);
            assert!(matches!(told, SourceError::Gated { .. }) && !told.may_pass(), "{status} {code}");
            let told = told.to_string();
            assert!(
                told.contains("is restricted") && told.contains("HF_TOKEN") && !told.contains('\u{1b}'),
                "{told}"
            );
        }
        assert!(matches!(read(401, "RepoNotFound", "", &listing), SourceError::NoRepository { .. }));
        assert!(matches!(read(404, "", "", &listing), SourceError::NoRepository { .. }));
        assert!(matches!(read(404, "RevisionNotFound", "", &listing), SourceError::NoRevision { .. }));
        assert!(matches!(read(404, "EntryNotFound", "", &file), SourceError::NoFile { .. }));
        assert!(matches!(read(404, "", "<html>", &file), SourceError::NoFile { .. }));
        assert!(matches!(read(416, "", "", &file), SourceError::Unresumable { .. }));
        assert!(matches!(read(403, "DisabledRepo", "", &file), SourceError::Refused { .. }));
        assert!(matches!(read(418, "", "", &file), SourceError::Refused { .. }));
        for status in [408, 429, 500, 502, 503, 504] {
            let SourceError::Away { wait, .. } = read(status, "", "", &file) else { panic!("{status}") };
            assert_eq!(wait, Some(RETRY_AFTER_MAX));
        }
    }
}
