//! What a route gives back, before it is an HTTP response. The layers add what all replies have.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use infera_types::ids::JobId;
use serde::Serialize;

use crate::error::ApiError;

/// A reply with status 200 (or 503, for a health check that fails).
#[derive(Debug)]
pub struct Reply {
    /// JSON.
    pub body: Bytes,
    /// Which job it is about.
    pub job: Option<JobId>,
    /// Steps of the work and what each cost, for `Server-Timing`.
    pub timing: Vec<(&'static str, Duration)>,
    /// Headers that only this route sends.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether the service can't serve, as far as this check can tell.
    pub unready: bool,
}

impl Reply {
    /// `value` as JSON.
    ///
    /// # Errors
    /// [`ApiError::Internal`] if a value of ours can't be written, which is a mistake of ours.
    pub fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "a reply could not be written as JSON");
            ApiError::Internal
        })?;
        Ok(Self { body: body.into(), job: None, timing: Vec::new(), headers: Vec::new(), unready: false })
    }

    /// The same, about a job.
    #[must_use]
    pub fn about(mut self, job: JobId) -> Self {
        self.job = Some(job);
        self
    }

    /// The same, with the cost of one step.
    #[must_use]
    pub fn timed(mut self, step: &'static str, cost: Duration) -> Self {
        self.timing.push((step, cost));
        self
    }

    /// The same, marked as an earlier request's result if it is one.
    #[must_use]
    pub fn replayed(mut self, replayed: bool) -> Self {
        if replayed {
            let name = HeaderName::from_static("idempotent-replayed");
            self.headers.push((name, HeaderValue::from_static("true")));
        }
        self
    }
}
