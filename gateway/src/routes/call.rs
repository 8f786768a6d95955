//! A request as a route sees it.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;

use crate::access::Caller;
use crate::api::error::ApiError;
use crate::api::unauthorized::Unauthorized;
use crate::fastapi::{self, Json, Unfit};
use crate::memory::Reservation;

/// A request that passed every layer.
#[derive(Debug)]
pub(crate) struct Call {
    /// The head.
    pub(crate) head: Parts,
    /// The whole body.
    pub(crate) body: Body,
    /// The caller, or none on a public path.
    pub(crate) caller: Option<Arc<Caller>>,
    /// The client's address, as it or the trusted proxies in front of it tell it.
    pub(crate) address: IpAddr,
    /// The part of the path that matches `{id}` or `{model}`, as the client wrote it.
    pub(crate) id: String,
}

/// A whole body and its part of the memory budget.
#[derive(Debug, Default)]
pub(crate) struct Body {
    bytes: Bytes,
    reservation: Option<Reservation>,
}

impl Call {
    /// Returns the caller.
    ///
    /// # Errors
    /// [`ApiError::Unauthorized`] on a public path, where callers aren't identified.
    pub(crate) fn caller(&self) -> Result<Arc<Caller>, ApiError> {
        self.caller.clone().ok_or(ApiError::Unauthorized(Unauthorized::Missing))
    }

    /// Reads a short body as JSON.
    ///
    /// # Errors
    /// [`Unfit`].
    pub(crate) fn json(&self) -> Result<Json, Unfit> {
        fastapi::read(self.head.headers.get(CONTENT_TYPE), self.body.bytes())
    }
}

impl Body {
    /// Makes a body from all of its bytes.
    pub(crate) const fn new(bytes: Bytes, reservation: Option<Reservation>) -> Self {
        Self { bytes, reservation }
    }

    /// Returns the body's bytes.
    #[must_use]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the body's part of the memory budget. What was parsed from the body has about the same size and takes
    /// over that part.
    #[must_use]
    pub(crate) fn into_reservation(self) -> Option<Reservation> {
        self.reservation
    }
}
