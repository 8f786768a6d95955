//! Counts clients' connections.

use std::fmt;

use infera_telemetry::metrics::{
    GATEWAY_CONNECTIONS, GATEWAY_CONNECTIONS_CLOSED, GATEWAY_CONNECTIONS_MAX, GATEWAY_CONNECTIONS_REFUSED,
};
use metrics::{Gauge, counter, gauge};

use super::level::level;

/// The metrics of connections, with the handle that each of them uses.
#[derive(Clone)]
pub(crate) struct ConnectionMetrics {
    open: Gauge,
}

impl Default for ConnectionMetrics {
    fn default() -> Self {
        Self { open: gauge!(GATEWAY_CONNECTIONS) }
    }
}

impl fmt::Debug for ConnectionMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ConnectionMetrics").finish_non_exhaustive()
    }
}

impl ConnectionMetrics {
    /// Sets the number of places for connections.
    pub(crate) fn places(&self, max: usize) {
        gauge!(GATEWAY_CONNECTIONS_MAX).set(level(max));
    }

    /// Counts a connection that opened (1) or closed (-1).
    pub(crate) fn changed(&self, change: i8) {
        self.open.increment(f64::from(change));
    }

    /// Counts an idle connection that was closed for another one. `taken` says what had run out: `all` places, or the
    /// `share` of the address.
    pub(crate) fn sent_away(&self, taken: &'static str) {
        counter!(GATEWAY_CONNECTIONS_CLOSED, "taken" => taken).increment(1);
    }

    /// Counts a connection that was refused for `reason`.
    pub(crate) fn refused(&self, reason: &'static str) {
        counter!(GATEWAY_CONNECTIONS_REFUSED, "reason" => reason).increment(1);
    }
}
