//! The events of one job, as server-sent events. Each has an id from which a client that lost its connection goes on, at any
//! gateway: the job's state as it was told last, and how much of the answer's text the client has. This file only shapes values.

use bytes::Bytes;
use infera_types::ids::JobId;
use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::jobs_request::STATUSES;

/// The most digits of a text's length in bytes, which no answer needs.
const LENGTH_DIGITS_MAX: usize = 9;

/// The hexadecimal digits of the beginning of a text's hash.
const HASH_DIGITS: usize = 16;

/// The place up to which a client has a job's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventId {
    /// The state that was told last.
    pub(crate) status: &'static str,
    /// The length of the text that was shown, in bytes of UTF-8.
    pub(crate) bytes: usize,
    /// The beginning of the SHA-256 of that text.
    pub(crate) hash: u64,
}

impl EventId {
    /// Writes it. Its form is not promised to clients.
    #[must_use]
    pub(crate) fn text(self) -> String {
        let Self { status, bytes, hash } = self;
        format!("{status}.{bytes}.{hash:016x}")
    }

    /// Reads what [`EventId::text`] wrote.
    #[must_use]
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (status, bytes, hash) = (parts.next()?, parts.next()?, parts.next()?);
        let is_number = bytes.len() <= LENGTH_DIGITS_MAX && bytes.bytes().all(|byte| byte.is_ascii_digit());
        let is_hash = hash.len() == HASH_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let status = STATUSES.iter().find(|known| **known == status)?;
        if parts.next().is_some() || !is_number || !is_hash {
            return None;
        }
        Some(Self { status, bytes: bytes.parse().ok()?, hash: u64::from_str_radix(hash, 16).ok()? })
    }
}

/// Returns the path of a job's events.
#[must_use]
pub(crate) fn url(job: JobId) -> String {
    format!("/v1/jobs/{job}/events")
}

/// Returns the event of a job's state.
#[must_use]
pub(crate) fn status(id: EventId, job: JobId) -> Bytes {
    event(id, "status", &json!({ "job_id": job, "status": id.status }))
}

/// Returns the event of a piece of the answer's text.
#[must_use]
pub(crate) fn text(id: EventId, text: &str) -> Bytes {
    event(id, "text", &json!({ "text": text }))
}

/// Returns the event of a job's end: the job object, without what the answer says.
#[must_use]
pub(crate) fn end(id: EventId, mut job: Value) -> Bytes {
    if let Some(choices) = job.pointer_mut("/result/choices").and_then(Value::as_array_mut) {
        for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
            choice.retain(|name, _| ["index", "finish_reason"].contains(&name.as_str()));
        }
    }
    event(id, "end", &job)
}

/// Returns the event of an error, after which nothing follows. The job may go on.
#[must_use]
pub(crate) fn error(id: EventId, error: &ApiError, job: JobId) -> Bytes {
    let mut value = json!({ "error": error.object(), "job_id": job });
    value["job_url"] = format!("/v1/jobs/{job}").into();
    event(id, "error", &value)
}

fn event(id: EventId, kind: &str, data: &Value) -> Bytes {
    // JSON in one line: no newline of a text stands for itself.
    Bytes::from(format!("id: {}\nevent: {kind}\ndata: {data}\n\n", id.text()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::event_stream::{EVENT_MAX_BYTES, PIECE_MAX_BYTES};

    const ID: EventId = EventId { status: "running", bytes: 17, hash: 0xab };

    #[test]
    fn ids_are_read_as_they_are_written() {
        assert_eq!(ID.text(), "running.17.00000000000000ab");
        for status in STATUSES {
            let id = EventId { status, ..ID };
            assert_eq!(EventId::read(&id.text()), Some(id));
        }
        let whole = ID.text();
        for (end, _) in whole.char_indices() {
            assert_eq!(EventId::read(&whole[..end]), None, "{}", &whole[..end]);
        }
        for wrong in [
            "running.17.00000000000000ab.",
            "running.-1.00000000000000ab",
            "running.+1.00000000000000ab",
            "running.1234567890.00000000000000ab",
            "running.17.+0000000000000ab",
            "asleep.17.00000000000000ab",
            "RUNNING.17.00000000000000ab",
        ] {
            assert_eq!(EventId::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_largest_piece_fits_into_an_event() {
        let job = JobId::from_bytes([255; 16]);
        let id = EventId { status: "succeeded", bytes: 999_999_999, hash: u64::MAX };
        let worst = "\u{1}".repeat(PIECE_MAX_BYTES);
        let chunks =
            crate::api::chunks::Chunks::new(job, u64::MAX, infera_types::ids::ModelName::new("m"), true);
        for event in [text(id, &worst), chunks.text(usize::MAX, &worst)] {
            assert!(event.len() + 256 <= EVENT_MAX_BYTES, "{}", event.len());
        }
    }

    #[test]
    fn events_have_an_id_a_kind_and_one_line_of_json() {
        let job = JobId::from_bytes([7; 16]);
        let object = json!({ "result": { "choices": [{
            "index": 0, "finish_reason": "stop", "message": { "content": "a\nb" }, "logprobs": null,
        }], "usage": {} } });
        for (event, kind, data) in [
            (status(ID, job), "status", json!({ "job_id": job, "status": "running" })),
            (text(ID, "a\n\nb"), "text", json!({ "text": "a\n\nb" })),
            (
                end(ID, object),
                "end",
                json!({ "result": { "choices": [{ "index": 0, "finish_reason": "stop" }], "usage": {} } }),
            ),
        ] {
            let lines: Vec<&str> = std::str::from_utf8(&event).unwrap().split('\n').collect();
            let [id, named, told, "", ""] = lines[..] else { panic!("{lines:?}") };
            assert_eq!((id, named), ("id: running.17.00000000000000ab", format!("event: {kind}").as_str()));
            assert_eq!(serde_json::from_str::<Value>(told.strip_prefix("data: ").unwrap()).unwrap(), data);
        }
        let event = error(ID, &ApiError::Draining, job);
        assert!(std::str::from_utf8(&event).unwrap().contains("\"code\":\"shutting_down\""));
    }
}
