//! One file per resource. Each reads a [`crate::layers::Call`] and gives a reply or a failure; what all requests
//! have in common is done before, and how a failure looks is decided after.

pub mod chat;
pub mod health;
pub mod jobs;
pub mod models;
pub mod nodes;
pub mod ping;
pub mod signup;
pub mod statistics;
pub mod submit;

use hyper::header::CONTENT_TYPE;
use infera_core::ids::Digest;
use infera_core::ledger::Idempotency;

use crate::accept::{Failure, Order};
use crate::ask::{self, Form};
use crate::error::ApiError;
use crate::layers::Call;
use crate::validation::{self, Json, Unfit};

/// The body as JSON.
fn json(call: &Call) -> Result<Json, Unfit> {
    validation::read(call.header(CONTENT_TYPE.as_str()), &call.body)
}

/// What a conversation's body orders.
fn order(call: &Call, form: Form) -> Result<Order, Failure> {
    let ask = ask::read(form, &json(call)?, &call.state.config)?;
    Ok(Order { caller: call.caller()?, ask, idempotency: idempotency(call)? })
}

/// The client's idempotency key, hashed, and the hash of what it is used for: the path and the body's bytes.
fn idempotency(call: &Call) -> Result<Option<Idempotency>, ApiError> {
    const LENGTH_MAX: usize = 255;
    const WRONG: ApiError =
        ApiError::BadRequest("Idempotency-Key must be one header of 1 to 255 printable ASCII characters.");
    let mut values = call.head.headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(WRONG);
    }
    let text = value.to_str().map_err(|_| WRONG)?;
    // The draft's structured string and the bare habit are the same key.
    let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if text.is_empty() || text.len() > LENGTH_MAX || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(WRONG);
    }
    let path = call.head.uri.path();
    let scoped = |bytes: &[u8]| Digest::of(&[path.as_bytes(), b"\0", bytes].concat());
    Ok(Some(Idempotency { key: scoped(text.as_bytes()), fingerprint: scoped(&call.body) }))
}
