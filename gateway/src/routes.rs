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

use std::sync::Arc;

use hyper::header::CONTENT_TYPE;
use infera_ledger::Idempotency;
use infera_types::ids::Digest;

use crate::accept::{Failure, Order};
use crate::ask::{self, Form};
use crate::error::ApiError;
use crate::layers::Call;
use crate::validation::{self, Json, Unfit};

/// A short body as JSON.
fn json(call: &Call) -> Result<Json, Unfit> {
    validation::read(call.head.headers.get(CONTENT_TYPE), call.body.bytes())
}

/// What a conversation's body orders. The call keeps no body: what waits for an answer must not hold what was asked.
async fn order(call: &mut Call, form: Form) -> Result<Order, Failure> {
    let (caller, key) = (call.caller()?, idempotency_key(call)?);
    let body = std::mem::take(&mut call.body);
    let content_type = call.head.headers.get(CONTENT_TYPE).cloned();
    let (state, uri) = (Arc::clone(&call.state), call.head.uri.clone());
    let reading = call.state.parsing.run(body.bytes().len(), move || {
        let ask = ask::read(form, &validation::read(content_type.as_ref(), body.bytes())?, &state.config)?;
        let scoped = |bytes: &[u8]| Digest::of(&[uri.path().as_bytes(), b"\0", bytes].concat());
        let idempotency =
            key.map(|key| Idempotency { key: scoped(key.as_bytes()), fingerprint: scoped(body.bytes()) });
        Ok::<_, Unfit>(Order { caller, ask, idempotency, reservation: body.into_reservation() })
    });
    Ok(reading.await??)
}

/// The client's idempotency key, if it sent one.
fn idempotency_key(call: &Call) -> Result<Option<String>, ApiError> {
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
    Ok(Some(text.to_owned()))
}
