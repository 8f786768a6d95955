//! Counts jobs for which the outbox had no place and notices that were left to the sweeper, and shows how full the
//! outbox is.

use std::fmt;

use infera_telemetry::metrics::{
    GATEWAY_NOTICES_LEFT, GATEWAY_OUTBOX, GATEWAY_OUTBOX_FULL, GATEWAY_OUTBOX_MAX,
};
use metrics::{Counter, counter, gauge};

use super::level::level;

/// The metrics of the outbox.
#[derive(Clone)]
pub(crate) struct OutboxMetrics {
    left: Counter,
    full: Counter,
}

impl Default for OutboxMetrics {
    fn default() -> Self {
        Self { left: counter!(GATEWAY_NOTICES_LEFT), full: counter!(GATEWAY_OUTBOX_FULL) }
    }
}

impl fmt::Debug for OutboxMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OutboxMetrics").finish_non_exhaustive()
    }
}

impl OutboxMetrics {
    /// Counts a notice that was left to the sweeper.
    pub(crate) fn left(&self) {
        self.left.increment(1);
    }

    /// Counts a job that was not accepted because the outbox was full.
    pub(crate) fn full(&self) {
        self.full.increment(1);
    }

    /// Sets how many of the `max` places are taken.
    pub(crate) fn places(taken: usize, max: usize) {
        gauge!(GATEWAY_OUTBOX).set(level(taken));
        gauge!(GATEWAY_OUTBOX_MAX).set(level(max));
    }
}
