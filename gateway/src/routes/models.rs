//! `GET /v1/models`: the catalogue, as OpenAI lists models.

use std::time::Instant;

use serde_json::{Value, json};

use crate::accept::Failure;
use crate::layers::Call;
use crate::reply::Reply;

/// The list. Two keys are ours: the context's length, and how many nodes serve the model now.
///
/// # Errors
/// [`Failure`].
pub async fn list(call: Call) -> Result<Reply, Failure> {
    let (state, now) = (&call.state, Instant::now());
    let models = state.catalogue.models();
    let data: Vec<Value> = models
        .iter()
        .map(|entry| {
            json!({
                "id": entry.name,
                "object": "model",
                "created": entry.created_ms.as_secs(),
                "owned_by": "infera",
                "context_length": entry.context_max,
                "nodes": state.capacity.nodes(&entry.name, now),
            })
        })
        .collect();
    Ok(Reply::json(&json!({ "object": "list", "data": data }))?)
}
