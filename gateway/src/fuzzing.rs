//! The parsers of what strangers send over HTTP, each with what must hold for any bytes. Fuzz targets call them
//! (`infra/fuzz`), and so does the test that replays their corpus. No program has this module.
//!
//! A function panics if a promise is broken.

use std::time::Duration;

use hyper::Request;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use infera_types::ids::{Digest, JobId};
use infera_types::job::JobRequest;

use crate::access::{self, ApiKey};
use crate::api::chat_request::{self, AnswerBounds, Form};
use crate::api::error::ApiError;
use crate::api::face::Face;
use crate::api::jobs_request::{self, CancelRequest, ITEMS_MAX, JobsRequest};
use crate::api::preferences::{self, Preferences};
use crate::api::recognition;
use crate::config::{ClientAddress, Config, CorsOrigin, TrustedProxies};
use crate::fastapi::{self, Field, Kind, Unfit, check, query};
use crate::http::{self, Chunks, Examined, Outline, client_address, examine, fuzzed};
use crate::memory::MemoryBudget;
use crate::routes::{self, job_lists, usage};

/// The largest reply to a wrong body, in bytes.
const REFUSAL_MAX_BYTES: usize = 80 * 1024;

const SIGN_UP: &[Field] = &[Field::required("email", Kind::Email)];

/// Reads a body as a route does that takes one; the first byte chooses which. A body that is refused leads to a bounded
/// reply in JSON on both faces. A conversation that is taken is stored as JSON, and must be the same when it is read.
pub fn body(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    let json = HeaderValue::from_static("application/json");
    let read = fastapi::read(Some(&json), body);
    let outcome = read.and_then(|value| {
        let form = match choice % 4 {
            0 => Form::OpenAi,
            1 => Form::Chat,
            2 => Form::Submit,
            _ => return check(&value, SIGN_UP).map(|_| None).map_err(Unfit::from),
        };
        chat_request::read(form, &value, AnswerBounds::from(&Config::default())).map(Some)
    });
    match outcome {
        Ok(None) => {}
        Ok(Some(asked)) => {
            let stored = serde_json::to_vec(&asked.request).unwrap_or_default();
            let again: Option<JobRequest> = serde_json::from_slice(&stored).ok();
            assert_eq!(again.as_ref(), Some(&asked.request), "a stored request is read as another one");
            assert!(!asked.request.messages.is_empty() && asked.policy.quorum <= asked.policy.replicas);
        }
        Err(unfit) => is_told(unfit),
    }
}

/// Checks the reply to a mistake: it is bounded, JSON on both faces, and calls the mistake the client's.
fn is_told(unfit: Unfit) {
    let error = ApiError::Unfit(unfit);
    for face in [Face::OpenAi, Face::Seed] {
        let reply = error.body(face, None);
        assert!(reply.len() <= REFUSAL_MAX_BYTES, "a refusal of {} bytes", reply.len());
        assert!(serde_json::from_str::<serde_json::Value>(&reply).is_ok(), "no JSON: {reply}");
        assert!(error.status(face).is_client_error());
    }
}

/// Reads a body that asks for jobs or cancels some; the first byte chooses which. What is taken is within its bounds, and
/// what is refused leads to a bounded reply.
pub fn jobs(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    let json = HeaderValue::from_static("application/json");
    let read = fastapi::read(Some(&json), body);
    let outcome = read.and_then(|value| match choice % 2 {
        0 => {
            jobs_request::read(&value, AnswerBounds::from(&Config::default())).map(|request| match request {
                JobsRequest::One(_) => 1,
                JobsRequest::Many(items) => items.len(),
            })
        }
        _ => jobs_request::read_cancel(&value).map(|request| match request {
            CancelRequest::These(ids) => ids.len(),
            CancelRequest::Matching { filter, .. } => {
                assert!(filter.end.is_none(), "a job that has ended can't be cancelled");
                1
            }
        }),
    });
    match outcome {
        Ok(count) => assert!((1..=ITEMS_MAX).contains(&count), "{count} jobs"),
        Err(unfit) => is_told(unfit),
    }
}

/// Reads a query as each path does that takes one.
pub fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    job_lists::examine(text).into_iter().flatten().for_each(is_told);
    usage::examine(text);
    match query::integer(Some(text), "time_frame", 1..=720) {
        Ok(hours) => assert!((1..=720).contains(&hours)),
        Err(mistakes) => is_told(mistakes.into()),
    }
}

/// Reads the headers, one a line as `name: value`, that say what a request means: its key, its host, its origin, what its
/// client prefers. Errors are the client's, and what is told back of a header is a header again.
pub fn headers(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let preferences = Preferences::read(&headers);
    if let Some((_, applied)) = preferences.applied() {
        let mut again = HeaderMap::new();
        again.insert("prefer", applied);
        assert_eq!(Preferences::read(&again), preferences, "what was applied is read as something else");
    }
    let longest = Duration::from_secs(3_600);
    let refused = [
        preferences::cancel_after(&headers, longest)
            .map(|after| assert!(after.is_none_or(|after| after <= longest))),
        routes::idempotency_key(&headers)
            .map(|key| assert!(key.is_none_or(|key| (1..=255).contains(&key.len())))),
        access::credential(&headers).map(|key| assert!(key.is_none_or(|key| !key.is_empty()))),
        fuzzed::check_host(&hyper::Uri::from_static("/"), &headers, true, &[]),
    ];
    for error in refused.into_iter().filter_map(Result::err) {
        assert!(error.status(Face::OpenAi).is_client_error() && !error.body(Face::Seed, None).is_empty());
    }
    let _ = (access::attempt(&headers), recognition::is_openais_client(&headers));
    let listed = CorsOrigin::try_from("https://app.example".to_owned()).into_iter().collect::<Vec<_>>();
    let shared = fuzzed::Shared::of(&headers, &listed);
    assert!(shared.is_none() || headers["origin"].as_bytes().eq_ignore_ascii_case(b"https://app.example"));
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    let _ = fuzzed::preflight(&request, shared.as_ref());
    let (head, ()) = request.into_parts();
    if let Err(error) = fuzzed::check_head(&head) {
        assert!(error.status(Face::OpenAi).is_client_error());
    }
}

/// Inflates a body, which stays within its bound and returns what it took of the memory budget.
pub fn gzip(bytes: &[u8]) {
    const MAX_BYTES: usize = 64 * 1024;
    let memory = MemoryBudget::new(MAX_BYTES);
    if let Ok(body) = fuzzed::inflated(bytes, MAX_BYTES, &memory) {
        assert!(body.bytes().len() <= MAX_BYTES);
    }
    let mut reservation = None;
    assert!(memory.reserve(&mut reservation, MAX_BYTES), "an inflated body kept its memory");
}

/// Reads the header of the PROXY protocol. Its end doesn't depend on how the bytes come, or on what follows.
pub fn proxy(bytes: &[u8]) {
    let outline = http::outline(bytes);
    let Outline::Whole(length) = outline else {
        if outline == Outline::Strange {
            assert_eq!(http::outline(&[bytes, b"\r\n"].concat()), outline, "more bytes make a header of it");
        }
        return;
    };
    let header = &bytes[..length];
    assert_eq!(http::outline(header), outline, "what follows changes a header");
    for end in 0..length {
        assert_eq!(http::outline(&header[..end]), Outline::Partial, "a header that is whole before its end");
    }
    if let Ok(Some(address)) = http::proxied_client(header) {
        assert!(!address.to_string().is_empty());
    }
}

/// Examines a request's head and the chunks of its body. However the bytes are cut, the outcome is the same.
pub fn head(bytes: &[u8]) {
    if let Examined::Whole(head) = examine(bytes) {
        assert!(head.length <= bytes.len());
        assert_eq!(examine(&bytes[..head.length]), Examined::Whole(head), "what follows changes a head");
        let before = examine(&bytes[..head.length - 1]);
        assert_eq!(before, Examined::Partial, "a head that is whole before its end");
    }
    let (mut whole, mut pieces) = (Chunks::BEGINNING, Chunks::BEGINNING);
    let taken = whole.take(bytes);
    let mut taken_in_pieces = 0;
    for byte in bytes {
        let count = pieces.take(std::slice::from_ref(byte));
        taken_in_pieces += count;
        if count == 0 {
            break;
        }
    }
    assert_eq!((taken, whole), (taken_in_pieces, pieces), "chunks depend on how they are cut");
}

/// Reads what a trusted proxy says of its client's address. The result is an address, whatever it says.
pub fn address(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let proxy = std::net::IpAddr::from([10, 0, 0, 1]);
    for (name, from) in
        [("x-forwarded-for", ClientAddress::XForwardedFor), ("forwarded", ClientAddress::Forwarded)]
    {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), value.clone());
        let address = client_address(&TrustedProxies::default(), proxy, from, &headers);
        assert_eq!(address, address.to_canonical(), "one client under two addresses");
    }
}

/// Reads an API key, a job's id and a digest. Each is written as it was read.
pub fn key(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(key) = ApiKey::parse(text) {
        assert_eq!(key.expose(), text);
        assert!(!format!("{key:?}").contains(text), "a key is shown whole");
    }
    if let Ok(job) = text.parse::<JobId>() {
        assert_eq!(job.to_string(), text.to_ascii_lowercase(), "two spellings of a job's id");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text.to_ascii_lowercase());
    }
}
