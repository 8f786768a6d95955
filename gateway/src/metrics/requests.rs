//! Counts requests by route.

use std::fmt;
use std::time::Duration;

use hyper::StatusCode;
use infera_telemetry::metrics::{GATEWAY_REFUSALS, GATEWAY_REQUEST, GATEWAY_REQUESTS};
use metrics::{Counter, Histogram, counter, histogram};

/// The handles of one route.
struct Route {
    template: &'static str,
    duration: Histogram,
    answered: Counter,
}

/// The handles of all routes. They report to the recorder that was installed when they were made.
pub(crate) struct RequestMetrics {
    routes: Vec<Route>,
}

impl fmt::Debug for RequestMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RequestMetrics").field("routes", &self.routes.len()).finish()
    }
}

/// Looks up the counter of a route and a status.
fn requests(template: &'static str, status: StatusCode) -> Counter {
    counter!(GATEWAY_REQUESTS, "route" => template, "status" => status.as_str().to_owned())
}

impl RequestMetrics {
    /// Makes the handles of these routes.
    pub(crate) fn new(templates: impl Iterator<Item = &'static str>) -> Self {
        let routes = templates.map(|template| Route {
            template,
            duration: histogram!(GATEWAY_REQUEST, "route" => template),
            answered: requests(template, StatusCode::OK),
        });
        Self { routes: routes.collect() }
    }

    /// Counts an answered request. `refusal` is the error's code if the answer is an error.
    pub(crate) fn answered(
        &self,
        template: &'static str,
        status: StatusCode,
        refusal: Option<&'static str>,
        duration: Duration,
    ) {
        if let Some(route) = self.routes.iter().find(|route| route.template == template) {
            route.duration.record(duration);
            match status {
                StatusCode::OK => route.answered.increment(1),
                status => requests(template, status).increment(1),
            }
        }
        if let Some(code) = refusal {
            counter!(GATEWAY_REFUSALS, "code" => code).increment(1);
        }
    }
}
