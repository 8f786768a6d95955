//! `GET /worker/ping`: the seed's check that the gateway is reachable. It asks no other program.

use serde_json::json;

use crate::api::failure::Failure;
use crate::api::reply::Reply;

/// Answers with `pong`.
///
/// # Errors
/// None.
pub(crate) fn ping() -> Result<Reply, Failure> {
    Ok(Reply::json(&json!({ "message": "pong" }))?)
}
