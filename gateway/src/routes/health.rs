//! `GET /healthz` (the process lives) and `GET /readyz` (it can serve): for whoever runs us and routes to us.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use infera_core::broker::topology;
use infera_core::ids::JobId;
use serde_json::{Map, Value, json};

use crate::accept::Failure;
use crate::layers::Call;
use crate::reply::Reply;
use crate::state::State;

/// A part that takes longer to answer doesn't answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The process lives.
///
/// # Errors
/// None.
pub async fn alive(_: Call) -> Result<Reply, Failure> {
    Ok(Reply::json(&json!({ "status": "ok" }))?)
}

/// The parts that serving needs, asked now. Nodes are not among them: jobs can be accepted without any; how many
/// there are is said all the same.
///
/// # Errors
/// None: an unready gateway is a reply with status 503.
pub async fn ready(call: Call) -> Result<Reply, Failure> {
    let (state, now) = (&call.state, Instant::now());
    let checks = [
        ("ledger", ledger_answers(state).await),
        ("completions", completions_flow(state).await),
        ("catalogue", state.catalogue.epoch().is_some()),
        ("accepting", !state.stop.is_cancelled()),
    ];
    let is_ready = checks.iter().all(|(_, holds)| *holds);
    let checks: Map<String, Value> =
        checks.into_iter().map(|(name, holds)| (name.to_owned(), holds.into())).collect();
    let models = state.catalogue.models();
    let owners: Map<String, Value> = models
        .iter()
        .map(|entry| (entry.name.to_string(), state.capacity.owners(&entry.name, now).into()))
        .collect();
    let mut reply = Reply::json(&json!({
        "ready": is_ready,
        "checks": checks,
        "verifiers": state.capacity.verifiers(now),
        "owners": owners,
    }))?;
    reply.unready = !is_ready;
    Ok(reply)
}

/// Whether the ledger can be read: by asking for a job that can't be there.
async fn ledger_answers(state: &State) -> bool {
    let nobody = [JobId::from_bytes([0; 16])];
    let asked = state.seams.reader.settlements(&nobody);
    matches!(tokio::time::timeout(ANSWERS_WITHIN, asked).await, Ok(Ok(_)))
}

async fn completions_flow(state: &State) -> bool {
    let queue = topology::completions(&state.gateway);
    let asked = state.seams.broker.depth(&queue.name);
    let is_there = matches!(tokio::time::timeout(ANSWERS_WITHIN, asked).await, Ok(Ok(Some(_))));
    is_there && state.completions_ready.load(Ordering::Relaxed)
}
