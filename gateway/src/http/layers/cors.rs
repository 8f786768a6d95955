//! Lets scripts of listed web pages read replies (CORS). A browser asks first, without a key, whether a page may send a request
//! (a preflight), and shows the page a reply only if it names the page's origin. Pages that aren't listed get no such header;
//! what they send is answered like any other request.

use hyper::Method;
use hyper::Request;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use serde_json::json;

use crate::api::error::ApiError;
use crate::api::reply::Reply;
use crate::config::CorsOrigin;

/// How long a browser may remember a preflight, in seconds: an operator who takes an origin out waits no longer.
const MAX_AGE_S: u32 = 600;

/// The methods of all routes.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PATCH, DELETE");

/// The headers of replies that scripts may read beside the usual ones.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, x-client-request-id, x-job-id, idempotent-replayed, retry-after, retry-after-ms, x-should-retry, \
     server-timing, ratelimit, ratelimit-policy, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, \
     x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens",
);

/// A listed page's origin, with which its replies are shared.
#[derive(Clone, Debug)]
pub(crate) struct Shared(HeaderValue);

impl Shared {
    /// Returns the origin that a request names, if it is listed.
    pub(crate) fn of(headers: &HeaderMap, listed: &[CorsOrigin]) -> Option<Self> {
        if listed.is_empty() {
            return None;
        }
        let origin = headers.get(ORIGIN)?;
        let text = origin.to_str().ok()?;
        listed.iter().any(|one| one.permits(text)).then(|| Self(origin.clone()))
    }

    /// Writes into a reply that this origin may read it.
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.0);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
}

/// Returns the headers that a preflight of a listed page asks for; none if the request is no such preflight.
pub(crate) fn preflight<B>(request: &Request<B>, shared: Option<&Shared>) -> Option<HeaderValue> {
    shared?;
    let headers = request.headers();
    let is_preflight =
        request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    is_preflight.then(|| asked.unwrap_or(HeaderValue::from_static("authorization, api_key, content-type")))
}

/// Returns the reply to a preflight. All headers may be sent: none of them means more from a page than from a program.
pub(super) fn reply(asked: HeaderValue) -> Result<Reply, ApiError> {
    let mut reply = Reply::json(&json!({}))?;
    reply.headers = vec![
        (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, asked),
        (ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE_S)),
    ];
    Ok(reply)
}
