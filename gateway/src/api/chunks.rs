//! The events of a streamed answer, in the form of OpenAI's `chat.completion.chunk`. This file only shapes values.

use bytes::Bytes;
use infera_types::ids::{JobId, ModelName};
use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::job_events::{self, EventId};
use crate::api::objects::completion_id;

/// The event after the last one of a whole stream.
pub(crate) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// A comment, which clients skip: it shows them and what stands between that the stream goes on.
pub(crate) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// What all chunks of one stream have.
#[derive(Clone, Debug)]
pub(crate) struct Chunks {
    id: String,
    created_s: u64,
    model: ModelName,
    /// Whether the client asked for the usage: then every chunk has the member, which only the last one fills.
    has_usage: bool,
}

impl Chunks {
    /// Makes the chunks of a job's stream.
    #[must_use]
    pub(crate) fn new(job: JobId, created_s: u64, model: ModelName, has_usage: bool) -> Self {
        Self { id: completion_id(job), created_s, model, has_usage }
    }

    /// Returns the chunks of the same stream, of another job.
    #[must_use]
    pub(crate) fn about(&self, job: JobId) -> Self {
        Self::new(job, self.created_s, self.model.clone(), self.has_usage)
    }

    /// Returns the first chunk of an answer, which says who speaks.
    #[must_use]
    pub(crate) fn role(&self, index: usize) -> Bytes {
        self.chunk(index, &json!({ "role": "assistant", "content": "", "refusal": null }), &Value::Null)
    }

    /// Returns a chunk of text.
    #[must_use]
    pub(crate) fn text(&self, index: usize, text: &str) -> Bytes {
        self.chunk(index, &json!({ "content": text }), &Value::Null)
    }

    /// Returns the chunk that ends an answer: why, and what is told of the whole `completion` beside its text.
    #[must_use]
    pub(crate) fn finish(&self, index: usize, completion: &Value) -> Bytes {
        let choice = &completion["choices"][index];
        let mut chunk = self.object(index, &json!({}), &choice["finish_reason"]);
        for name in ["logprobs", "token_ids", "job_id", "verification"] {
            if let Some(value) = choice.get(name) {
                chunk["choices"][0][name] = value.clone();
            }
        }
        for name in ["verification", "service_tier", "store", "job_id", "system_fingerprint"] {
            if let Some(value) = completion.get(name) {
                chunk[name] = value.clone();
            }
        }
        event(&chunk)
    }

    /// Returns the chunk with the usage, if the client asked for it.
    #[must_use]
    pub(crate) fn usage(&self, completion: &Value) -> Option<Bytes> {
        let mut chunk = self.object(0, &json!({}), &Value::Null);
        chunk["choices"] = json!([]);
        chunk["usage"] = completion["usage"].clone();
        self.has_usage.then(|| event(&chunk))
    }

    fn chunk(&self, index: usize, delta: &Value, finish_reason: &Value) -> Bytes {
        event(&self.object(index, delta, finish_reason))
    }

    fn object(&self, index: usize, delta: &Value, finish_reason: &Value) -> Value {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created_s,
            "model": self.model,
            "choices": [{ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish_reason }],
        });
        if self.has_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

/// An answer that goes on without its stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GoesOn {
    /// The answer's place in the request.
    pub(crate) index: usize,
    /// The answer's job.
    pub(crate) job: JobId,
    /// What its client has of it.
    pub(crate) shown: EventId,
}

impl GoesOn {
    fn value(self) -> Value {
        let Self { index, job, shown } = self;
        json!({ "index": index, "job_id": job, "events_url": job_events::url(job), "last_event_id": shown.text() })
    }
}

/// Returns the event of an error after which nothing follows. It names the job, and where its end can be read. For answers that go
/// on, the error itself says where their events are and from where to go on: OpenAI's libraries hand on the error alone.
#[must_use]
pub(crate) fn error(error: &ApiError, job: Option<JobId>, going_on: &[GoesOn]) -> Bytes {
    let mut value = json!({ "error": error.object() });
    if let Some(job) = job {
        value["job_id"] = json!(job);
        value["job_url"] = format!("/v1/jobs/{job}").into();
    }
    if let Some(first) = going_on.first() {
        let first = first.value();
        for name in ["job_id", "events_url", "last_event_id"] {
            value["error"][name] = first[name].clone();
        }
    }
    if going_on.len() > 1 {
        value["error"]["answers"] = going_on.iter().map(|answer| answer.value()).collect();
    }
    event(&value)
}

fn event(value: &Value) -> Bytes {
    // JSON in one line: no newline of a text stands for itself.
    Bytes::from(format!("data: {value}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(event: &Bytes) -> Value {
        let text = std::str::from_utf8(event).unwrap();
        serde_json::from_str(text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap()).unwrap()
    }

    fn chunks(has_usage: bool) -> Chunks {
        Chunks::new(JobId::from_bytes([7; 16]), 1_700_000_000, ModelName::new("m"), has_usage)
    }

    #[test]
    fn chunks_have_openais_form() {
        let text = read(&chunks(false).text(0, "a\n\"b\"\u{2028}"));
        assert_eq!(text["object"], "chat.completion.chunk");
        assert_eq!(text["choices"][0]["delta"], json!({ "content": "a\n\"b\"\u{2028}" }));
        assert_eq!(text["choices"][0]["finish_reason"], Value::Null);
        assert!(
            text.get("usage").is_none() && text["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-"))
        );
        assert_eq!(read(&chunks(true).role(0))["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(read(&chunks(true).role(0))["usage"], Value::Null);
    }

    #[test]
    fn the_end_has_what_a_whole_answer_has() {
        let completion = json!({
            "choices": [{ "finish_reason": "length" }],
            "usage": { "total_tokens": 7 },
            "verification": { "status": "verified" },
            "job_id": "job_1",
        });
        let finish = read(&chunks(true).finish(0, &completion));
        assert_eq!(
            finish["choices"][0],
            json!({ "index": 0, "delta": {}, "logprobs": null, "finish_reason": "length" })
        );
        assert_eq!((&finish["verification"]["status"], &finish["usage"]), (&json!("verified"), &Value::Null));
        let usage = read(&chunks(true).usage(&completion).unwrap());
        assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(7)));
        assert_eq!(chunks(false).usage(&completion), None);
    }

    #[test]
    fn an_error_names_the_job() {
        let job = JobId::from_bytes([7; 16]);
        let event = read(&error(&ApiError::Draining, Some(job), &[]));
        assert_eq!(event["error"]["code"], "shutting_down");
        assert_eq!((&event["job_id"], &event["job_url"]), (&json!(job), &json!(format!("/v1/jobs/{job}"))));
        assert!(event["error"].get("events_url").is_none());
    }

    #[test]
    fn an_error_says_where_answers_go_on() {
        let shown = EventId { status: "running", bytes: 3, hash: 7 };
        let of = |index: u8| GoesOn { index: index.into(), job: JobId::from_bytes([index; 16]), shown };
        let [one, other] = [of(0), of(1)];
        let event = read(&error(&ApiError::Draining, Some(one.job), &[one]));
        let told = &event["error"];
        assert_eq!((&told["code"], &told["job_id"]), (&json!("shutting_down"), &json!(one.job)));
        assert_eq!(told["events_url"], json!(format!("/v1/jobs/{}/events", one.job)));
        assert_eq!(told["last_event_id"], "running.3.0000000000000007");
        assert!(told.get("answers").is_none());
        let event = read(&error(&ApiError::Draining, Some(one.job), &[one, other]));
        assert_eq!(event["error"]["answers"][1]["job_id"], json!(other.job));
    }
}
