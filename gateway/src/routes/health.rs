//! `GET /healthz` (the process lives) and `GET /readyz` (the gateway can serve), for operators and load balancers.

use std::time::Instant;

use hyper::StatusCode;
use infera_telemetry::readiness::Condition;
use serde_json::{Map, Value, json};

use crate::api::failure::Failure;
use crate::api::operation::{GoodReply, Group, Operation, Shape, always, json as in_json};
use crate::api::reply::Reply;
use crate::network::{Capacity, Catalogue, not_served};
use crate::readiness::Probe;

/// `GET /healthz`.
pub(crate) static ALIVE: Operation = Operation {
    id: "alive",
    group: Group::Operators,
    summary: "Check that the process lives",
    about: "Asks no other program. Restart the gateway if this is not answered.",
    parameters: &[],
    body: None,
    reply: in_json(
        "The process lives.",
        Shape::Members(&[always("status", Shape::Words(&["ok"]), "Always `ok`.")]),
    ),
    errors: &[],
};

/// `GET /readyz`.
pub(crate) static READY: Operation = Operation {
    id: "ready",
    group: Group::Operators,
    summary: "Check that the gateway can serve",
    about: "Asks the ledger and the broker, at most once a second. Send requests to a gateway only while this is 200.",
    parameters: &[],
    body: None,
    reply: GoodReply {
        unready: Some("The gateway can't serve now; `checks` says why."),
        ..in_json(
            "The gateway can serve.",
            Shape::Members(&[
                always("ready", Shape::Flag, "Whether it can serve."),
                always(
                    "degraded",
                    Shape::List(&Shape::Text),
                    "The parts that are not well, without which it still serves.",
                ),
                always("checks", Shape::Map(&Shape::Flag), "Each part and whether it is fine."),
                always("verifiers", Shape::Count, "Verifiers that were heard lately."),
                always(
                    "owners",
                    Shape::Map(&Shape::Count),
                    "For each model on offer, the owners whose nodes serve it.",
                ),
            ]),
        )
    },
    errors: &[],
};

/// Answers that the process lives.
///
/// # Errors
/// None.
pub(crate) fn alive() -> Result<Reply, Failure> {
    Ok(Reply::json(&json!({ "status": "ok" }))?)
}

/// Shows the state of the parts that serving needs, as checked now (`readiness`), and the number of owners that serve
/// each model on offer.
///
/// # Errors
/// None: an unready gateway is a reply with status 503.
pub(crate) async fn ready(
    probe: &Probe,
    catalogue: &Catalogue,
    capacity: &Capacity,
) -> Result<Reply, Failure> {
    let now = Instant::now();
    let readiness = probe.readiness().await;
    let checks: Map<String, Value> = readiness
        .conditions
        .iter()
        .map(|(name, condition)| ((*name).to_owned(), (*condition == Condition::Fine).into()))
        .collect();
    let models = catalogue.models();
    let owners: Map<String, Value> = models
        .iter()
        .filter(|entry| not_served(entry, capacity, now).is_none())
        .map(|entry| (entry.name.to_string(), capacity.owners(&entry.name, now).into()))
        .collect();
    let reply = Reply::json(&json!({
        "ready": readiness.is_ready(),
        "degraded": readiness.degraded(),
        "checks": checks,
        "verifiers": capacity.verifiers(now),
        "owners": owners,
    }))?;
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(reply.with_status(status))
}
