//! A request as a route sees it.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;

use crate::access::Caller;
use crate::api::error::ApiError;
use crate::fastapi::{self, Json, Unfit};
use crate::memory::Reservation;

/// Holds a request that passed every layer.
#[derive(Debug)]
pub(crate) struct Call {
    /// The head.
    pub(crate) head: Parts,
    /// The body, whole.
    pub(crate) body: Body,
    /// The caller; none on public paths.
    pub(crate) caller: Option<Arc<Caller>>,
    /// What stands for `{id}` or `{model}` in the path, as it is there.
    pub(crate) id: String,
}

/// Holds a whole body, and its part of the memory budget.
#[derive(Debug, Default)]
pub(crate) struct Body {
    bytes: Bytes,
    reservation: Option<Reservation>,
}

impl Call {
    /// Returns the caller.
    ///
    /// # Errors
    /// [`ApiError::Unauthorized`] on a public path, which asks for no key.
    pub(crate) fn caller(&self) -> Result<Arc<Caller>, ApiError> {
        self.caller.clone().ok_or(ApiError::Unauthorized)
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
    /// Makes a body that was read whole.
    pub(crate) const fn new(bytes: Bytes, reservation: Option<Reservation>) -> Self {
        Self { bytes, reservation }
    }

    /// Returns its bytes.
    #[must_use]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns its part of the memory budget, for what was parsed from it: that has about the same size.
    #[must_use]
    pub(crate) fn into_reservation(self) -> Option<Reservation> {
        self.reservation
    }
}
