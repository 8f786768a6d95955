//! A route's reply, before it is an HTTP response. The layers add what all replies have.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use infera_types::ids::JobId;
use serde::Serialize;

use crate::api::error::ApiError;

/// Holds a reply with status 200 (or 503, for a health check that fails).
#[derive(Debug)]
pub(crate) struct Reply {
    /// Is the body, as JSON.
    pub(crate) body: Bytes,
    /// Names the job that it is about.
    pub(crate) job: Option<JobId>,
    /// Lists steps of the work and how long each took, for `Server-Timing`.
    pub(crate) timing: Vec<(&'static str, Duration)>,
    /// Lists the headers that only this route sends.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// True if the service can't serve, as far as this check can tell.
    pub(crate) unready: bool,
}

impl Reply {
    /// Makes a reply of `value` as JSON.
    ///
    /// # Errors
    /// [`ApiError::Internal`] if a value of ours can't be written, which is a mistake of ours.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "a reply could not be written as JSON");
            ApiError::Internal
        })?;
        Ok(Self { body: body.into(), job: None, timing: Vec::new(), headers: Vec::new(), unready: false })
    }

    /// Adds the job that it is about.
    #[must_use]
    pub(crate) fn about(mut self, job: JobId) -> Self {
        self.job = Some(job);
        self
    }

    /// Adds how long one step took.
    #[must_use]
    pub(crate) fn timed(mut self, step: &'static str, cost: Duration) -> Self {
        self.timing.push((step, cost));
        self
    }

    /// Marks it as an earlier request's result if it is one.
    #[must_use]
    pub(crate) fn replayed(mut self, replayed: bool) -> Self {
        if replayed {
            let name = HeaderName::from_static("idempotent-replayed");
            self.headers.push((name, HeaderValue::from_static("true")));
        }
        self
    }
}
