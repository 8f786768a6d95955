//! What the broker carries: a body, and what must be known of it without reading it.

use bytes::Bytes;

/// What is carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The same at every retry of the same message; consumers may deduplicate by it.
    pub id: String,
    /// What it is; see `messages`.
    pub kind: String,
    /// Version byte and content.
    pub body: Bytes,
    /// How long it may wait to be taken before the broker drops it, in milliseconds.
    pub ttl_ms: Option<u64>,
    /// The span that it was sent in, as W3C's `traceparent`, so that one trace crosses the roles. A stranger may have
    /// written it: it says where a span is drawn, and nothing may be decided by it.
    pub trace: Option<String>,
}
