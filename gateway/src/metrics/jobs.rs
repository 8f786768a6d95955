//! Counts accepted jobs and the clients that wait for one.

use std::fmt;
use std::time::Duration;

use infera_telemetry::metrics::{GATEWAY_ACCEPTED, GATEWAY_COMMIT, GATEWAY_WAITERS};
use infera_types::ids::ModelName;
use metrics::{Histogram, counter, gauge, histogram};

use super::level::level;

/// The metrics of jobs, with the handle that each accepted job uses.
pub(crate) struct JobMetrics {
    commit: Histogram,
}

impl Default for JobMetrics {
    fn default() -> Self {
        Self { commit: histogram!(GATEWAY_COMMIT) }
    }
}

impl fmt::Debug for JobMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("JobMetrics").finish_non_exhaustive()
    }
}

impl JobMetrics {
    /// Counts a committed job and the time that its commit took.
    pub(crate) fn accepted(&self, model: &ModelName, duration: Duration) {
        self.commit.record(duration);
        counter!(GATEWAY_ACCEPTED, "model" => model.to_string()).increment(1);
    }

    /// Sets the number of waiting clients.
    pub(crate) fn waiting(clients: usize) {
        gauge!(GATEWAY_WAITERS).set(level(clients));
    }
}
