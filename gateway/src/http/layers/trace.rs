//! The outermost layer: it gives each request an id and a clock, and is the only place where a reply becomes an HTTP
//! response.

use std::time::{Duration, Instant};

use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Request, Response};
use uuid::Uuid;

use crate::api::error::ApiError;
use crate::api::face::{Face, face};
use crate::api::failure::Failure;
use crate::api::reply::{Content, Reply};
use crate::api::waits;

/// The longest id of a client's that is echoed, in bytes.
const CLIENT_ID_MAX: usize = 512;

/// What the outermost layer remembers of a request.
#[derive(Debug)]
pub(super) struct Trace {
    id: String,
    client_id: Option<HeaderValue>,
    face: Face,
    begun: Instant,
    is_timed: bool,
}

/// Starts the trace of a request that is worked on since `begun`. `is_timed` says whether the reply may show how long it
/// took.
#[must_use]
pub(super) fn begin<B>(request: &Request<B>, begun: Instant, is_timed: bool) -> Trace {
    let client_id = request.headers().get("x-client-request-id");
    let is_fit = |value: &&HeaderValue| value.len() <= CLIENT_ID_MAX && value.as_bytes().is_ascii();
    Trace {
        id: format!("req_{}", Uuid::now_v7().as_simple()),
        client_id: client_id.filter(is_fit).cloned(),
        face: face(request.uri().path()),
        begun,
        is_timed,
    }
}

impl Trace {
    /// Makes the response and adds the headers that all responses have, but for `Server-Timing`, which is told last.
    pub(super) fn finish(
        self,
        outcome: Result<Reply, Failure>,
        headers: HeaderMap,
    ) -> (Response<Content>, Timing) {
        let mut content_type = HeaderValue::from_static("application/json");
        let (status, body, job, timing, own) = match outcome {
            Ok(reply) => {
                content_type = reply.content_type;
                (reply.status, reply.body, reply.job, reply.timing, reply.headers)
            }
            Err(Failure { error, job, replayed, timing }) => {
                let status = error.status(self.face);
                if error == ApiError::Internal {
                    tracing::error!(request = self.id, job = ?job, "answered with an internal error");
                }
                let body = error.body(self.face, job);
                let mut headers = if replayed { replayed_headers() } else { error_headers(&error) };
                headers
                    .push((HeaderName::from_static("x-error-code"), HeaderValue::from_static(error.code())));
                (status, Content::Whole(body.into()), job, timing, headers)
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let all = response.headers_mut();
        *all = headers;
        all.insert(CONTENT_TYPE, content_type);
        all.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // What a route sends itself takes the place of what all replies have.
        for (name, value) in own {
            all.insert(name, value);
        }
        put(all, "x-request-id", &self.id);
        if let Some(job) = job {
            put(all, "x-job-id", &job.to_string());
        }
        if let Some(client_id) = self.client_id {
            all.insert("x-client-request-id", client_id);
        }
        (response, Timing { begun: self.begun, is_told: self.is_timed, steps: timing })
    }
}

/// What a reply tells of its time.
#[derive(Debug)]
#[must_use = "a reply tells its time"]
pub(super) struct Timing {
    begun: Instant,
    is_told: bool,
    steps: Vec<(&'static str, Duration)>,
}

impl Timing {
    /// Writes `Server-Timing`, if the reply may show it. `for_body` is the time for which the client was waited for, which
    /// is no step of the gateway's.
    pub(super) fn tell(self, for_body: Duration, headers: &mut HeaderMap) {
        if self.is_told {
            let whole = self.begun.elapsed().saturating_sub(for_body);
            put(headers, "server-timing", &timings(&self.steps, whole));
        }
    }
}

/// Returns the entries of `Server-Timing`, which share out the `whole` time from when the gateway had the request's head
/// to its reply, so that their sum is what a client measures less the network and its own sending. `gateway` is the time
/// that none of the named steps took.
fn timings(steps: &[(&'static str, Duration)], whole: Duration) -> String {
    let named = steps.iter().map(|(_, cost)| *cost).sum();
    let own = [("gateway", whole.saturating_sub(named))];
    let words: Vec<String> = own
        .iter()
        .chain(steps)
        .map(|(step, cost)| format!("{step};dur={:.3}", cost.as_secs_f64() * 1000.0))
        .collect();
    words.join(", ")
}

/// Returns the headers of a replayed error, that is, one to which an earlier request under the same idempotency key
/// led. They say that a retry would lead to it again.
fn replayed_headers() -> Vec<(HeaderName, HeaderValue)> {
    vec![
        (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true")),
        (HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false")),
    ]
}

fn error_headers(error: &ApiError) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    if let Some(wait) = error.retry_after() {
        // The seconds are rounded up, so that no retry comes too early. OpenAI's SDKs read the precise value in
        // milliseconds.
        let told = wait.told(waits::next_number());
        let milliseconds = u64::try_from(told.as_millis()).unwrap_or(u64::MAX);
        headers.push((RETRY_AFTER, HeaderValue::from(milliseconds.div_ceil(1000))));
        headers.push((HeaderName::from_static("retry-after-ms"), HeaderValue::from(milliseconds)));
    }
    match error {
        ApiError::Unauthorized(_) => headers.push((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        ApiError::Encoded => {
            headers.push((ACCEPT_ENCODING, HeaderValue::from_static("gzip, identity")));
            headers.push((CONNECTION, HeaderValue::from_static("close")));
        }
        ApiError::MethodNotAllowed(methods) => headers.push((ALLOW, HeaderValue::from_static(methods))),
        // If the framing is wrong, the place where the next request begins may be wrong too.
        ApiError::BadRequest(_)
        | ApiError::HeadTooLarge
        | ApiError::TooLarge(_)
        | ApiError::SlowHead
        | ApiError::SlowBody => headers.push((CONNECTION, HeaderValue::from_static("close"))),
        // OpenAI's SDKs would retry these on their own, and get the same result.
        ApiError::Cancelled
        | ApiError::Failed(..)
        | ApiError::Damaged
        | ApiError::KeysFull(_)
        | ApiError::OverSpend { .. }
        | ApiError::KeyEnded => {
            let name = HeaderName::from_static("x-should-retry");
            let retry = if error.retry_after().is_some() { "true" } else { "false" };
            headers.push((name, HeaderValue::from_static(retry)));
        }
        _ => {}
    }
    headers
}

fn put(headers: &mut HeaderMap, name: &'static str, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entries_of_server_timing_share_out_the_whole_time() {
        let milliseconds = Duration::from_millis;
        let steps = [("accept", milliseconds(2)), ("wait", milliseconds(5))];
        assert_eq!(
            timings(&steps, Duration::from_micros(7_125)),
            "gateway;dur=0.125, accept;dur=2.000, wait;dur=5.000"
        );
        assert_eq!(timings(&[], milliseconds(1)), "gateway;dur=1.000");
    }
}
