//! `GET /worker/ping`: answers the seed's question whether anybody is there. It asks no other program.

use serde_json::json;

use crate::api::failure::Failure;
use crate::api::reply::Reply;

/// Answers.
///
/// # Errors
/// None.
pub(crate) fn ping() -> Result<Reply, Failure> {
    Ok(Reply::json(&json!({ "message": "pong" }))?)
}
