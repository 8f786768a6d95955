//! The gateway's metrics, with one file for each part that counts: `requests`, `connections`, `jobs` and `outbox`.
//! Handles that every request uses are looked up once; gauges are set when an operator reads them.
//! `infera_telemetry::metrics` has the names and meanings of all metrics. Each part is given its own handles only.

mod connections;
mod jobs;
mod level;
mod outbox;
mod requests;

pub(crate) use connections::ConnectionMetrics;
pub(crate) use jobs::JobMetrics;
pub(crate) use outbox::OutboxMetrics;
pub(crate) use requests::RequestMetrics;
