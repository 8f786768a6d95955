//! What a gateway counts, a file for each part that counts: `requests`, `connections`, `jobs` and `outbox`. Handles are taken
//! once, for what each request touches; gauges of levels are set when an operator looks. Names and meanings of all metrics are
//! `infera_telemetry::metrics`'. A part is given its own handles and no others.

mod connections;
mod jobs;
mod level;
mod outbox;
mod requests;

pub(crate) use connections::ConnectionMetrics;
pub(crate) use jobs::JobMetrics;
pub(crate) use outbox::OutboxMetrics;
pub(crate) use requests::RequestMetrics;
