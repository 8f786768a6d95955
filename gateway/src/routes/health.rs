//! `GET /healthz` (the process lives) and `GET /readyz` (it can serve): for whoever runs us and routes to us.

use std::time::Instant;

use infera_telemetry::readiness::Condition;
use serde_json::{Map, Value, json};

use crate::accept::Failure;
use crate::layers::Call;
use crate::readiness;
use crate::reply::Reply;

/// The process lives.
///
/// # Errors
/// None.
pub async fn alive(_: Call) -> Result<Reply, Failure> {
    Ok(Reply::json(&json!({ "status": "ok" }))?)
}

/// The parts that serving needs, asked now (`readiness`), and how many owners have nodes of each model on offer.
///
/// # Errors
/// None: an unready gateway is a reply with status 503.
pub async fn ready(call: Call) -> Result<Reply, Failure> {
    let (state, now) = (&call.state, Instant::now());
    let readiness = readiness::decide(readiness::look(state).await);
    let checks: Map<String, Value> = readiness
        .conditions
        .iter()
        .map(|(name, condition)| ((*name).to_owned(), (*condition == Condition::Fine).into()))
        .collect();
    let models = state.catalogue.models();
    let owners: Map<String, Value> = models
        .iter()
        .filter(|entry| state.capacity.offers(&entry.name, now) != Some(false))
        .map(|entry| (entry.name.to_string(), state.capacity.owners(&entry.name, now).into()))
        .collect();
    let mut reply = Reply::json(&json!({
        "ready": readiness.is_ready(),
        "degraded": readiness.degraded(),
        "checks": checks,
        "verifiers": state.capacity.verifiers(now),
        "owners": owners,
    }))?;
    reply.unready = !readiness.is_ready();
    Ok(reply)
}
