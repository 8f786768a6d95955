//! `GET /v1/models` and `GET /v1/models/{model}`: the catalogue, or one entry of it, in OpenAI's shape.

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
    // A model stays in the catalogue even when no verifier offers it any more.
    let is_offered = |name| capacity.offers(name, now) != Some(false);
    let data: Vec<Value> = models
        .iter()
        .filter(|entry| is_offered(&entry.name))
        .map(|entry| model(entry, capacity.nodes(&entry.name, now)))
        .collect();
    Ok(Reply::json(&json!({ "object": "list", "data": data }))?)
}

/// Shows one model. In names with slashes, OpenAI's clients percent-encode the slashes and people don't.
///
/// # Errors
/// [`ApiError::ModelUnknown`], [`ApiError::ModelGone`], or [`ApiError::LedgerAway`] before the first reading of the
/// catalogue.
pub(crate) fn show(catalogue: &Catalogue, capacity: &Capacity, call: &Call) -> Result<Reply, Failure> {
    let name = percent_decode_str(&call.id).decode_utf8_lossy();
    // Before the first reading of the catalogue, it isn't known which models exist.
    catalogue.epoch().ok_or(ApiError::LedgerAway)?;
    let entry = catalogue.model(&name).ok_or_else(|| ApiError::ModelUnknown(name.to_string()))?;
    let now = Instant::now();
    if capacity.offers(&entry.name, now) == Some(false) {
        return Err(ApiError::ModelGone(name.into_owned()).into());
    }
    Ok(Reply::json(&model(&entry, capacity.nodes(&entry.name, now)))?)
}

/// Makes OpenAI's model object. Two keys are our own: the context's length, and the number of nodes that serve the
/// model now.
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
