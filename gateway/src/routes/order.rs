//! Reads the requests of the three routes that take a conversation.

use infera_ledger::Idempotency;
use infera_types::ids::Digest;
use infera_types::service::ServiceTier;

use hyper::header::CONTENT_TYPE;

use super::call::Call;
use super::parsing_pool::ParsingPool;
use crate::access::RentedNetwork;
use crate::api::chat_request::{self, AnswerBounds, Form};
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::fastapi::{self, Unfit};
use crate::jobs::accept::Order;

/// Reads requests for conversations.
#[derive(Debug)]
pub(crate) struct Conversations {
    bounds: AnswerBounds,
    parsing: ParsingPool,
}

impl Conversations {
    /// Makes a reader of conversations whose answers have to be within `bounds`.
    pub(crate) fn new(bounds: AnswerBounds) -> Self {
        Self { bounds, parsing: ParsingPool::default() }
    }

    /// Reads what a call orders and takes the body out of the call, so that a request which waits for its answer
    /// doesn't keep its body in memory.
    ///
    /// # Errors
    /// The client's fault, in its idempotency key or its body, or that its key has no right to the tier.
    pub(crate) async fn order(&self, call: &mut Call, form: Form) -> Result<Order, Failure> {
        let (caller, key) = (call.caller()?, idempotency_key(call)?);
        let body = std::mem::take(&mut call.body);
        let content_type = call.head.headers.get(CONTENT_TYPE).cloned();
        let (bounds, uri, network) = (self.bounds, call.head.uri.clone(), RentedNetwork::from(call.address));
        let reading = self.parsing.run(body.bytes().len(), move || {
            let ask = chat_request::read(form, &fastapi::read(content_type.as_ref(), body.bytes())?, bounds)?;
            let scoped = |bytes: &[u8]| Digest::of(&[uri.path().as_bytes(), b"\0", bytes].concat());
            let idempotency =
                key.map(|key| Idempotency { key: scoped(key.as_bytes()), fingerprint: scoped(body.bytes()) });
            Ok::<_, Unfit>(Order { caller, network, ask, idempotency, reservation: body.into_reservation() })
        });
        let order = reading.await??;
        if order.ask.tier == ServiceTier::Priority && !order.caller.may_prioritise {
            return Err(ApiError::NoPriority.into());
        }
        Ok(order)
    }
}

/// Returns the client's idempotency key, if it sent one.
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
    // The key as a structured string (as in the IETF draft) and the bare key (as clients usually send it) are the
    // same.
    let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if text.is_empty() || text.len() > LENGTH_MAX || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(WRONG);
    }
    Ok(Some(text.to_owned()))
}
