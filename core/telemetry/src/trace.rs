//! One trace over several processes: the current span's place as W3C's `traceparent`, and placing a span under one
//! that came from elsewhere. Without an exporter (`traces`) all of this does nothing and costs nothing: spans of
//! [`TARGET`] are disabled where they are made.

use tracing::Span;

/// The target of the spans that make up a trace: `info_span!(target: TARGET, …)`. Other spans are for log lines.
pub const TARGET: &str = "infera_trace";

/// Returns the current span's place in its trace. None while tracing is off.
#[must_use]
pub fn current() -> Option<String> {
    of(&Span::current())
}

/// Returns a span's place in its trace. None while tracing is off.
#[must_use]
pub fn of(span: &Span) -> Option<String> {
    if span.is_none() {
        return None;
    }
    #[cfg(feature = "otlp")]
    return super::traces::traceparent(span);
    #[cfg(not(feature = "otlp"))]
    None
}

/// Places a span, new and not entered yet, under the span that a message or a request came from, and records the
/// trace's id in its field `trace_id`, if it has one, for the log. A text that is no `traceparent` changes nothing.
pub fn continue_from(span: &Span, traceparent: Option<&str>) {
    if span.is_none() {
        return;
    }
    #[cfg(feature = "otlp")]
    super::traces::continue_from(span, traceparent);
    #[cfg(not(feature = "otlp"))]
    let _ = traceparent;
}

/// Links a span to another one of the same trace that is not its parent, such as the span of the worker whose replica
/// it takes. A span of another trace is left out: nodes are strangers and could name any trace.
pub fn link(span: &Span, traceparent: Option<&str>) {
    if span.is_none() {
        return;
    }
    #[cfg(feature = "otlp")]
    super::traces::link(span, traceparent);
    #[cfg(not(feature = "otlp"))]
    let _ = traceparent;
}
