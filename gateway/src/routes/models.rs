//! `GET /v1/models` and `GET /v1/models/{model}`: the catalogue, and one entry of it, as OpenAI shows models.

use std::time::Instant;

use infera_ledger::CatalogueEntry;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::accept::Failure;
use crate::error::ApiError;
use crate::layers::Call;
use crate::reply::Reply;
use crate::state::State;

/// The list.
///
/// # Errors
/// [`Failure`].
pub async fn list(call: Call) -> Result<Reply, Failure> {
    let (state, now) = (&call.state, Instant::now());
    let models = state.catalogue.models();
    // What a verifier offered once, and none does any more, stays in the catalogue.
    let is_offered = |name| state.capacity.offers(name, now) != Some(false);
    let data: Vec<Value> =
        models.iter().filter(|entry| is_offered(&entry.name)).map(|entry| model(state, entry, now)).collect();
    Ok(Reply::json(&json!({ "object": "list", "data": data }))?)
}

/// One model. Names with slashes come percent-encoded from OpenAI's clients, and as they are from people.
///
/// # Errors
/// [`ApiError::ModelUnknown`]; [`ApiError::ModelGone`]; [`ApiError::LedgerAway`] before the catalogue was read once.
pub async fn show(call: Call) -> Result<Reply, Failure> {
    let state = &call.state;
    let name = percent_decode_str(&call.id).decode_utf8_lossy();
    // Before the first reading nothing is known to exist or not.
    state.catalogue.epoch().ok_or(ApiError::LedgerAway)?;
    let entry = state.catalogue.model(&name).ok_or_else(|| ApiError::ModelUnknown(name.to_string()))?;
    let now = Instant::now();
    if state.capacity.offers(&entry.name, now) == Some(false) {
        return Err(ApiError::ModelGone(name.into_owned()).into());
    }
    Ok(Reply::json(&model(state, &entry, now))?)
}

/// OpenAI's model object. Two keys are ours: the context's length, and how many nodes serve the model now.
fn model(state: &State, entry: &CatalogueEntry, now: Instant) -> Value {
    json!({
        "id": entry.name,
        "object": "model",
        "created": entry.created_ms.as_secs(),
        "owned_by": "infera",
        "context_length": entry.context_max,
        "nodes": state.capacity.nodes(&entry.name, now),
    })
}
