//! What the broker carries: a body, and what must be known of it without parsing it.

use bytes::Bytes;

/// A message as the broker carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The id, the same at every retry of the same message; consumers may deduplicate by it.
    pub id: String,
    /// The message's kind; see `messages`.
    pub kind: String,
    /// The version byte and the content, which `wire` writes and reads.
    pub body: Bytes,
    /// How long the message may wait in a queue before the broker drops it, in milliseconds.
    pub ttl_ms: Option<u64>,
    /// The span in which the message was sent, as W3C's `traceparent`, so that one trace crosses the roles. A
    /// stranger may have written it: it only places a span in a trace, and no decision may depend on it.
    pub trace: Option<String>,
}
