//! `GET /v1/models` and `GET /v1/models/{model}`: the catalogue, and one entry of it, as OpenAI shows models.

use std::time::Instant;

use infera_ledger::CatalogueEntry;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::call::Call;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::reply::Reply;
use crate::network::{Capacity, Catalogue};

/// Lists the models on offer.
///
/// # Errors
/// [`Failure`].
pub(crate) fn list(catalogue: &Catalogue, capacity: &Capacity) -> Result<Reply, Failure> {
    let now = Instant::now();
    let models = catalogue.models();
    // What a verifier offered once, and none does any more, stays in the catalogue.
    let is_offered = |name| capacity.offers(name, now) != Some(false);
    let data: Vec<Value> = models
        .iter()
        .filter(|entry| is_offered(&entry.name))
        .map(|entry| model(entry, capacity.nodes(&entry.name, now)))
        .collect();
    Ok(Reply::json(&json!({ "object": "list", "data": data }))?)
}

/// Shows one model. Names with slashes come percent-encoded from OpenAI's clients, and as they are from people.
///
/// # Errors
/// [`ApiError::ModelUnknown`]; [`ApiError::ModelGone`]; [`ApiError::LedgerAway`] before the catalogue was read once.
pub(crate) fn show(catalogue: &Catalogue, capacity: &Capacity, call: &Call) -> Result<Reply, Failure> {
    let name = percent_decode_str(&call.id).decode_utf8_lossy();
    // Before the first reading nothing is known to exist or not.
    catalogue.epoch().ok_or(ApiError::LedgerAway)?;
    let entry = catalogue.model(&name).ok_or_else(|| ApiError::ModelUnknown(name.to_string()))?;
    let now = Instant::now();
    if capacity.offers(&entry.name, now) == Some(false) {
        return Err(ApiError::ModelGone(name.into_owned()).into());
    }
    Ok(Reply::json(&model(&entry, capacity.nodes(&entry.name, now)))?)
}

/// Makes OpenAI's model object. Two keys are ours: the context's length, and how many nodes serve the model now.
fn model(entry: &CatalogueEntry, nodes: u32) -> Value {
    json!({
        "id": entry.name,
        "object": "model",
        "created": entry.created_ms.as_secs(),
        "owned_by": "infera",
        "context_length": entry.context_max,
        "nodes": nodes,
    })
}
