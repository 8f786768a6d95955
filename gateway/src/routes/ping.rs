//! `GET /worker/ping`: the seed's question whether anybody is there. It asks nobody.

use serde_json::json;

use crate::accept::Failure;
use crate::layers::Call;
use crate::reply::Reply;

/// The route.
///
/// # Errors
/// None.
pub async fn ping(_: Call) -> Result<Reply, Failure> {
    Ok(Reply::json(&json!({ "message": "pong" }))?)
}
