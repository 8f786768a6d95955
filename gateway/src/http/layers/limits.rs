//! Limits that can be checked by a request's head alone, before its body is read: the form of the head, and the
//! declared size and encoding of the body. `gate` checks beforehand whether the head is well-formed and arrived in
//! time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Version;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HOST};
use hyper::http::request::Parts;

use crate::api::error::ApiError;
use crate::api::too_large::{Holds, TooLarge};

/// The largest size of all headers' names and values together, in bytes. hyper bounds its buffer instead, and may
/// exceed that bound by one read.
const HEADERS_MAX_BYTES: usize = 32 * 1024;

/// How much of a refused body is read, in bytes and in time, so that the client gets the reply.
const DISCARDED_MAX_BYTES: usize = 32 * 1024 * 1024;
const DISCARDED_WITHIN: Duration = Duration::from_secs(2);

/// Refuses requests that the head alone shows to be wrong.
///
/// # Errors
/// The client's fault: [`ApiError::BadRequest`], [`ApiError::Encoded`], [`ApiError::HeadTooLarge`].
pub(crate) fn check_head(head: &Parts) -> Result<(), ApiError> {
    let hosts = head.headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11) {
        return Err(ApiError::BadRequest("Exactly one Host header is needed."));
    }
    let size: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size > HEADERS_MAX_BYTES {
        return Err(ApiError::HeadTooLarge);
    }
    encoding(head)?;
    if head.headers.get(EXPECT).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(ApiError::BadRequest("Only 'Expect: 100-continue' is understood."));
    }
    Ok(())
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is.
    Identity,
    /// By gzip, once.
    Gzip,
}

/// Returns how a request's body is encoded.
///
/// # Errors
/// [`ApiError::Encoded`] for any other encoding, and for more than one.
pub(super) fn encoding(head: &Parts) -> Result<Encoding, ApiError> {
    let mut gzips = 0;
    for value in head.headers.get_all(CONTENT_ENCODING) {
        for name in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") {
                gzips += 1;
            } else if !name.eq_ignore_ascii_case(b"identity") {
                return Err(ApiError::Encoded);
            }
        }
    }
    match gzips {
        0 => Ok(Encoding::Identity),
        1 => Ok(Encoding::Gzip),
        _ => Err(ApiError::Encoded),
    }
}

/// Makes the error of a body of more than `max_bytes`, whose length is `sent_bytes` if that is known.
pub(super) fn too_large(head: &Parts, max_bytes: usize, sent_bytes: Option<u64>) -> ApiError {
    ApiError::TooLarge(TooLarge { max_bytes, sent_bytes, holds: Holds::at(head.uri.path()) })
}

/// Refuses a body whose declared length is larger than its route takes.
///
/// # Errors
/// [`ApiError::TooLarge`].
pub(super) fn check_length(head: &Parts, max_bytes: usize) -> Result<(), ApiError> {
    let declared =
        head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match declared.filter(|length| *length > max_bytes as u64) {
        Some(length) => Err(too_large(head, max_bytes, Some(length))),
        None => Ok(()),
    }
}

/// Reads and discards what a refused client still sends, for a bounded time. Closing a connection with unread bytes
/// resets it, and the client would get the reset instead of the reply. A client that asked first
/// (`Expect: 100-continue`) sends no body until it is told to.
pub(super) async fn discard(head: &Parts, body: &mut Incoming) {
    if head.headers.contains_key(EXPECT) {
        return;
    }
    let all = async {
        let mut size = 0;
        while size < DISCARDED_MAX_BYTES {
            match body.frame().await {
                Some(Ok(frame)) => size += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => return,
            }
        }
    };
    // The reply is the same whether or not all of it came.
    let _ = tokio::time::timeout(DISCARDED_WITHIN, all).await;
}
