//! What a gateway counts: handles taken once, for what each request touches, and the gauges that are read when somebody
//! looks. Names and meanings are core's (`telemetry::metrics`).

use std::fmt;
use std::time::Duration;

use hyper::StatusCode;
use infera_telemetry::metrics::{
    GATEWAY_ACCEPTED, GATEWAY_COMMIT, GATEWAY_CONNECTIONS, GATEWAY_CONNECTIONS_CLOSED,
    GATEWAY_CONNECTIONS_MAX, GATEWAY_CONNECTIONS_REFUSED, GATEWAY_NOTICES_LEFT, GATEWAY_OUTBOX,
    GATEWAY_OUTBOX_FULL, GATEWAY_OUTBOX_MAX, GATEWAY_REFUSALS, GATEWAY_REQUEST, GATEWAY_REQUESTS,
    GATEWAY_WAITERS,
};
use infera_types::ids::ModelName;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::router;
use crate::state::State;

/// One route's handles.
struct RouteMeters {
    route: &'static str,
    duration: Histogram,
    answered: Counter,
}

/// All handles of a gateway. They count where the recorder was when they were taken.
pub struct Meters {
    routes: Vec<RouteMeters>,
    commit: Histogram,
    left: Counter,
    outbox_full: Counter,
    connections: Gauge,
}

impl Default for Meters {
    fn default() -> Self {
        let routes = router::templates().map(|route| RouteMeters {
            route,
            duration: histogram!(GATEWAY_REQUEST, "route" => route),
            answered: requests(route, StatusCode::OK),
        });
        Self {
            routes: routes.collect(),
            commit: histogram!(GATEWAY_COMMIT),
            left: counter!(GATEWAY_NOTICES_LEFT),
            outbox_full: counter!(GATEWAY_OUTBOX_FULL),
            connections: gauge!(GATEWAY_CONNECTIONS),
        }
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Meters").field("routes", &self.routes.len()).finish_non_exhaustive()
    }
}

/// Looked up, for all but the most frequent status.
fn requests(route: &'static str, status: StatusCode) -> Counter {
    counter!(GATEWAY_REQUESTS, "route" => route, "status" => status.as_str().to_owned())
}

impl Meters {
    /// A request was answered. `refusal` is the error's code, if it was one.
    pub fn answered(
        &self,
        route: &'static str,
        status: StatusCode,
        refusal: Option<&'static str>,
        duration: Duration,
    ) {
        if let Some(meters) = self.routes.iter().find(|meters| meters.route == route) {
            meters.duration.record(duration);
            match status {
                StatusCode::OK => meters.answered.increment(1),
                status => requests(route, status).increment(1),
            }
        }
        if let Some(code) = refusal {
            counter!(GATEWAY_REFUSALS, "code" => code).increment(1);
        }
    }

    /// A job was committed.
    pub fn accepted(&self, model: &ModelName, duration: Duration) {
        self.commit.record(duration);
        counter!(GATEWAY_ACCEPTED, "model" => model.to_string()).increment(1);
    }

    /// A job was not accepted because the outbox was full.
    pub fn outbox_full(&self) {
        self.outbox_full.increment(1);
    }

    /// Shows how many places for connections there are.
    pub(crate) fn places(&self, max: usize) {
        gauge!(GATEWAY_CONNECTIONS_MAX).set(u32::try_from(max).unwrap_or(u32::MAX));
    }

    /// Counts a connection that opened (1) or closed (-1).
    pub(crate) fn connected(&self, change: i8) {
        self.connections.increment(f64::from(change));
    }

    /// Counts an idle connection that was closed for another because `taken` was: `all` places, or its address's `share`.
    pub(crate) fn sent_away(&self, taken: &'static str) {
        counter!(GATEWAY_CONNECTIONS_CLOSED, "taken" => taken).increment(1);
    }

    /// Counts a connection that was refused for this reason.
    pub(crate) fn connection_refused(&self, reason: &'static str) {
        counter!(GATEWAY_CONNECTIONS_REFUSED, "reason" => reason).increment(1);
    }

    /// A notice was left to the sweeper.
    pub fn left(&self) {
        self.left.increment(1);
    }
}

/// Gauges, as they are now.
pub fn observe(state: &State) {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    gauge!(GATEWAY_OUTBOX).set(count(state.outbox.len()));
    gauge!(GATEWAY_OUTBOX_MAX).set(count(state.outbox.max()));
    gauge!(GATEWAY_WAITERS).set(count(state.waiters.len()));
}
