//! Examines the raw bytes of a request's head before hyper reads them: whether the head is whole, where its body
//! ends, and what is wrong with it.
//!
//! hyper repairs some malformed heads: if a head has two lengths, it keeps one; if it has `Transfer-Encoding` and
//! `Content-Length`, it keeps the former; and it accepts a bare LF as a line's end. Other malformed heads get a bare
//! status from hyper. A request can be smuggled in a head that a proxy and a server read differently, so all of these
//! are refused here. hyper accepts every head that passes.

use std::mem::MaybeUninit;

use hyper::{Method, Uri};

use crate::api::error::ApiError;

/// The largest number of header lines in one head, which is also hyper's limit.
const HEADERS_MAX: usize = 100;

/// The refusal of a line's end that some servers don't accept as one.
pub(crate) const BARE_LINE_FEED: ApiError =
    ApiError::BadRequest("A line of the head ends with a bare LF; each ends with CRLF.");

/// The result of examining the first bytes of a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Examined {
    /// The head has no end yet.
    Partial,
    /// The head is well formed, and its body's end is unambiguous.
    Whole(Head),
    /// The head is refused. The client is at fault.
    Refused(ApiError),
}

/// A head that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The number of its bytes, from the empty lines before it to the empty line that ends it.
    pub(crate) length: usize,
    /// How its body's end is found.
    pub(crate) body: Framing,
    /// Whether the client takes interim replies, which HTTP/1.0 doesn't have.
    pub(crate) is_http_11: bool,
}

/// How a body's end is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The body has this length in bytes, which is 0 without a body.
    Length(u64),
    /// The body ends with the last of its chunks.
    Chunked,
}

/// Examines `bytes`, which begin where a request begins.
pub(crate) fn examine(bytes: &[u8]) -> Examined {
    let mut lines = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut lines) {
        Ok(httparse::Status::Partial) => Examined::Partial,
        Ok(httparse::Status::Complete(length)) => match check(&request, &bytes[..length]) {
            Ok((body, is_http_11)) => Examined::Whole(Head { length, body, is_http_11 }),
            Err(error) => Examined::Refused(error),
        },
        Err(error) => Examined::Refused(malformed(error)),
    }
}

/// Returns whether a head ends in `bytes` at or after `from`. Earlier bytes were searched before.
pub(crate) fn has_end(bytes: &[u8], from: usize) -> bool {
    let tail = &bytes[from.saturating_sub(3)..];
    let mut breaks = tail.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    breaks.any(|at| tail[at + 1..].starts_with(b"\n") || tail[at + 1..].starts_with(b"\r\n"))
}

/// Returns whether `bytes` are only empty lines, which clients may send after a request.
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

/// Returns the method and the target of a refused head, as far as it has them. The target decides on which face the
/// reply is given, and the reply has no body if the method is `HEAD`.
pub(crate) fn first_words(bytes: &[u8]) -> (&[u8], &[u8]) {
    let start = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let line = bytes[start..].split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

const fn malformed(error: httparse::Error) -> ApiError {
    ApiError::BadRequest(match error {
        httparse::Error::TooManyHeaders => return ApiError::HeadTooLarge,
        httparse::Error::Version => "The version of HTTP is 1.1 or 1.0 here.",
        httparse::Error::HeaderName | httparse::Error::HeaderValue => {
            "A header line is malformed. It is a name, a colon right after it, and a value without control characters, on \
             one line."
        }
        _ => "The request does not begin with a line of HTTP/1.1: a method, a path and the version.",
    })
}

fn check(request: &httparse::Request<'_, '_>, bytes: &[u8]) -> Result<(Framing, bool), ApiError> {
    if has_bare_line_feed(bytes) {
        return Err(BARE_LINE_FEED);
    }
    let method = request.method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    if method.is_none() || request.path.and_then(|path| Uri::try_from(path).ok()).is_none() {
        return Err(ApiError::BadRequest("The request's target is neither a path nor an address."));
    }
    let is_http_11 = request.version == Some(1);
    framing(request.headers, is_http_11).map(|body| (body, is_http_11))
}

/// Looks at all pairs without stopping at the first hit, so that the compiler can check many at once.
fn has_bare_line_feed(bytes: &[u8]) -> bool {
    let pairs = bytes.iter().zip(bytes.iter().skip(1));
    let within = pairs.fold(false, |found, (before, byte)| found | (*byte == b'\n' && *before != b'\r'));
    within || bytes.first() == Some(&b'\n')
}

fn framing(headers: &[httparse::Header<'_>], is_http_11: bool) -> Result<Framing, ApiError> {
    let mut body = None;
    for header in headers {
        let stated = if header.name.eq_ignore_ascii_case("content-length") {
            length(header.value)?
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            coding(header.value, is_http_11)?
        } else {
            continue;
        };
        if body.replace(stated).is_some() {
            return Err(ApiError::BadRequest(
                "The body's length is stated twice. Send one Content-Length, or Transfer-Encoding: chunked, and not both.",
            ));
        }
    }
    Ok(body.unwrap_or(Framing::Length(0)))
}

fn length(value: &[u8]) -> Result<Framing, ApiError> {
    let digits = Some(value).filter(|value| !value.is_empty() && value.iter().all(u8::is_ascii_digit));
    let length = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    // hyper reserves the two largest numbers; no body is that long.
    let length = length.filter(|length| *length < u64::MAX - 2);
    length
        .map(Framing::Length)
        .ok_or(ApiError::BadRequest("Content-Length must be one whole number of bytes."))
}

fn coding(value: &[u8], is_http_11: bool) -> Result<Framing, ApiError> {
    if !is_http_11 {
        return Err(ApiError::BadRequest("Transfer-Encoding is not part of HTTP/1.0."));
    }
    if !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Err(ApiError::BadRequest(
            "The only Transfer-Encoding that is taken is 'chunked', by itself.",
        ));
    }
    Ok(Framing::Chunked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        match examine(text.as_bytes()) {
            Examined::Refused(error) => error.message(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn good_heads_say_where_their_body_ends() {
        let table = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0), true),
            ("\r\n\r\nGET / HTTP/1.0\r\n\r\n", Framing::Length(0), false),
            ("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length:  007 \r\n\r\n", Framing::Length(7), true),
            ("POST /x HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n", Framing::Chunked, true),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0), true),
            ("GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0), true),
        ];
        for (text, body, is_http_11) in table {
            let expected = Head { length: text.len(), body, is_http_11 };
            assert_eq!(examine(format!("{text}GET /").as_bytes()), Examined::Whole(expected), "{text:?}");
            for cut in 0..text.len() {
                assert_eq!(examine(&text.as_bytes()[..cut]), Examined::Partial, "{:?}", &text[..cut]);
            }
        }
    }

    #[test]
    fn each_refusal_says_what_is_wrong() {
        let post = |headers: &str| format!("POST /x HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let many = (0..101).map(|n| format!("X-{n}: v\r\n")).collect::<String>();
        let table = [
            (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), "stated twice"),
            (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), "stated twice"),
            (post("Content-Length: 5\r\nContent-Length: 5\r\n"), "stated twice"),
            (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "stated twice"),
            (post("Content-Length: 5, 5\r\n"), "whole number"),
            (post("Content-Length: +5\r\n"), "whole number"),
            (post("Content-Length: -1\r\n"), "whole number"),
            (post("Content-Length: \r\n"), "whole number"),
            (post("Content-Length: 18446744073709551614\r\n"), "whole number"),
            (post("Content-Length: 99999999999999999999\r\n"), "whole number"),
            (post("Transfer-Encoding: gzip, chunked\r\n"), "'chunked', by itself"),
            (post("Transfer-Encoding: identity\r\n"), "'chunked', by itself"),
            (post("Transfer-Encoding:\r\n"), "'chunked', by itself"),
            ("POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), "HTTP/1.0"),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned(), "bare LF"),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), "bare LF"),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(), "bare LF"),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "bare LF"),
            (post("X-A: b\r\n c\r\n"), "header line"),
            (post("X-A : b\r\n"), "header line"),
            (post("X-A: b\0c\r\n"), "header line"),
            (post("X-A: b\rc\r\n"), "header line"),
            (post("no colon\r\n"), "header line"),
            (post(&many), "headers are too large"),
            ("GET / HTTP/2.0\r\n\r\n".to_owned(), "version of HTTP"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "version of HTTP"),
            ("GET /a b HTTP/1.1\r\n\r\n".to_owned(), "version of HTTP"),
            ("GET /\r\n\r\n".to_owned(), "line of HTTP/1.1"),
            ("\x16\x03\x01\x02\x00\x01".to_owned(), "line of HTTP/1.1"),
            ("GET http:// HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "neither a path"),
        ];
        for (text, expected) in table {
            assert!(refusal(&text).contains(expected), "{text:?}: {}", refusal(&text));
        }
    }

    #[test]
    fn an_end_is_seen_wherever_the_bytes_were_cut() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\nHost: a\n\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\n", false),
            ("GET / HTTP/1.1\r\n\r", false),
        ] {
            for from in 0..=text.len() {
                let seen =
                    (1..=text.len()).any(|end| end > from && has_end(&text.as_bytes()[..end], end - 1));
                assert!(!seen || expected, "{text:?} from {from}");
            }
            let bytewise = (1..=text.len()).any(|end| has_end(&text.as_bytes()[..end], end - 1));
            assert_eq!(bytewise, expected, "{text:?}");
        }
    }

    #[test]
    fn the_first_words_are_what_can_be_told_of_them() {
        assert_eq!(first_words(b"\r\nHEAD /v1/x HTTP/9\r\nHost: a"), (&b"HEAD"[..], &b"/v1/x"[..]));
        assert_eq!(first_words(b"\x16\x03"), (&b"\x16\x03"[..], &b""[..]));
        assert_eq!(first_words(b""), (&b""[..], &b""[..]));
    }
}
