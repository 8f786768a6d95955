//! `GET /worker/ping`: answers the seed's question whether anybody is there. It asks no other program.

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
