//! One trace over several processes: where the current span stands as W3C's `traceparent`, and a span put under one
//! that came from elsewhere. Without an exporter (`traces`) all of it does nothing, and says so at no cost: spans of
//! [`TARGET`] are switched off where they are made.

use tracing::Span;

/// The target of the spans that make up a trace: `info_span!(target: TARGET, …)`. All others are for log lines.
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

/// Puts a span, new and not entered yet, under the one that a message or a request came from, and notes the trace's id
/// in its field `trace_id`, if it has that, for the log. What is no `traceparent` changes nothing.
pub fn continue_from(span: &Span, traceparent: Option<&str>) {
    if span.is_none() {
        return;
    }
    #[cfg(feature = "otlp")]
    super::traces::continue_from(span, traceparent);
    #[cfg(not(feature = "otlp"))]
    let _ = traceparent;
}

/// Notes that a span had to do with another of the same trace that isn't its parent, such as the worker's whose replica
/// it takes. One of another trace is left out: nodes are strangers and could name anybody's.
pub fn link(span: &Span, traceparent: Option<&str>) {
    if span.is_none() {
        return;
    }
    #[cfg(feature = "otlp")]
    super::traces::link(span, traceparent);
    #[cfg(not(feature = "otlp"))]
    let _ = traceparent;
}
