//! `GET /worker/ping`: the seed's check that the gateway is reachable. It asks no other program.

use serde_json::json;

use crate::api::failure::Failure;
use crate::api::operation::{Group, Operation, Shape, always, json as in_json};
use crate::api::reply::Reply;

/// `GET /worker/ping`.
pub(crate) static PING: Operation = Operation {
    id: "workerPing",
    group: Group::Nodes,
    summary: "Check that the gateway is reachable",
    about: "Asks no other program.",
    parameters: &[],
    body: None,
    reply: in_json(
        "The gateway is reachable.",
        Shape::Members(&[always("message", Shape::Words(&["pong"]), "Always `pong`.")]),
    ),
    errors: &[],
};

/// Answers with `pong`.
///
/// # Errors
/// None.
pub(crate) fn ping() -> Result<Reply, Failure> {
    Ok(Reply::json(&json!({ "message": "pong" }))?)
}
