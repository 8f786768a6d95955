//! Limits on what a client may make us read: the head's form, the body's size, time and encoding. hyper itself holds
//! the limits on the head's size and time (`server`).

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Version;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use hyper::http::request::Parts;

use crate::config::Config;
use crate::error::ApiError;

/// What can be refused by the head alone.
///
/// # Errors
/// The client's fault: [`ApiError::BadRequest`], [`ApiError::Encoded`], [`ApiError::TooLarge`].
pub fn check_head(head: &Parts, config: &Config) -> Result<(), ApiError> {
    let hosts = head.headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11) {
        return Err(ApiError::BadRequest("Exactly one Host header is needed."));
    }
    // A proxy in front might believe the other one: the way requests are smuggled.
    let lengths = head.headers.get_all(CONTENT_LENGTH).iter().count();
    if lengths > 1 || (lengths == 1 && head.headers.contains_key(TRANSFER_ENCODING)) {
        return Err(ApiError::BadRequest("The body's length is stated twice."));
    }
    let is_plain = |value: &hyper::header::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !head.headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
        return Err(ApiError::Encoded);
    }
    if head.headers.get(EXPECT).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(ApiError::BadRequest("Only 'Expect: 100-continue' is understood."));
    }
    let declared =
        head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > config.body_max_bytes as u64) {
        return Err(ApiError::TooLarge(config.body_max_bytes));
    }
    Ok(())
}

/// The whole body, within its size and time.
///
/// # Errors
/// The client's fault: [`ApiError::TooLarge`], [`ApiError::SlowBody`], [`ApiError::BadRequest`].
pub async fn read_body(body: Incoming, config: &Config) -> Result<Bytes, ApiError> {
    let whole = Limited::new(body, config.body_max_bytes).collect();
    match tokio::time::timeout(config.body_timeout(), whole).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge(config.body_max_bytes)),
        Ok(Err(_)) => Err(ApiError::BadRequest("The body is broken off or badly framed.")),
        Err(_) => Err(ApiError::SlowBody),
    }
}
