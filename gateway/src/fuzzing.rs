//! The parsers of what strangers send over HTTP, each with what must hold for any bytes. Fuzz targets call them
//! (`infra/fuzz`), and so does the test that replays their corpus. No program has this module.
//!
//! A function panics if a promise is broken.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use infera_types::ids::{Digest, JobId};
use infera_types::job::JobRequest;

use crate::access::ApiKey;
use crate::api::chat_request::{self, AnswerBounds, Form};
use crate::api::error::ApiError;
use crate::api::face::Face;
use crate::config::{ClientAddress, Config, TrustedProxies};
use crate::fastapi::{self, Field, Kind, Unfit, check};
use crate::http::{Chunks, Examined, client_address, examine};

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
        Err(unfit) => {
            let error = ApiError::Unfit(unfit);
            for face in [Face::OpenAi, Face::Seed] {
                let reply = error.body(face, None);
                assert!(reply.len() <= REFUSAL_MAX_BYTES, "a refusal of {} bytes", reply.len());
                assert!(serde_json::from_str::<serde_json::Value>(&reply).is_ok(), "no JSON: {reply}");
                assert!(error.status(face).is_client_error());
            }
        }
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
