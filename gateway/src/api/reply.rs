//! The reply of a route, before it becomes an HTTP response. The layers add what all replies have.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use infera_types::ids::JobId;
use serde::Serialize;

use crate::api::error::ApiError;
use crate::api::event_stream::Events;

/// A reply's body.
#[derive(Debug)]
pub(crate) enum Content {
    /// All of it.
    Whole(Bytes),
    /// Events, which come as they come.
    Events(Events),
}

#[cfg(test)]
impl Content {
    /// Returns the bytes of a whole body.
    pub(crate) fn whole(&self) -> &Bytes {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Events(_) => panic!("a body of events"),
        }
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

/// A reply whose status is 200 unless something else is said.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The body.
    pub(crate) body: Content,
    /// The job that the reply concerns.
    pub(crate) job: Option<JobId>,
    /// The steps of the work and the time that each took, for `Server-Timing`. No two of them overlap.
    pub(crate) timing: Vec<(&'static str, Duration)>,
    /// The headers that only this route sends.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The status.
    pub(crate) status: StatusCode,
    /// The body's content type.
    pub(crate) content_type: HeaderValue,
}

impl Reply {
    /// Makes a reply of `value` as JSON.
    ///
    /// # Errors
    /// [`ApiError::Internal`] if the value can't be written as JSON, which is a fault in the gateway.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "a reply could not be written as JSON");
            ApiError::Internal
        })?;
        Ok(Self::of(body.into(), HeaderValue::from_static("application/json")))
    }

    /// Makes a reply of JSON lines.
    #[must_use]
    pub(crate) fn lines(body: Vec<u8>) -> Self {
        Self::of(body.into(), HeaderValue::from_static("application/x-ndjson"))
    }

    /// Makes a reply of bytes of this type.
    #[must_use]
    pub(crate) fn of(body: Bytes, content_type: HeaderValue) -> Self {
        let (timing, headers) = (Vec::new(), Vec::new());
        let body = Content::Whole(body);
        Self { body, job: None, timing, headers, status: StatusCode::OK, content_type }
    }

    /// Makes a reply of events, which goes on after it was begun.
    #[must_use]
    pub(crate) fn events(events: Events) -> Self {
        let reply = Self::of(Bytes::new(), HeaderValue::from_static("text/event-stream; charset=utf-8"));
        let unbuffered = HeaderName::from_static("x-accel-buffering");
        let headers = vec![
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            // Proxies that gather a reply before they pass it on would hold the events.
            (unbuffered, HeaderValue::from_static("no")),
        ];
        Self { body: Content::Events(events), headers, ..reply }
    }

    /// Sets another status.
    #[must_use]
    pub(crate) const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds a header, if there is one.
    #[must_use]
    pub(crate) fn with(mut self, header: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Self {
        self.headers.extend(header);
        self
    }

    /// Adds the job that the reply concerns.
    #[must_use]
    pub(crate) fn about(mut self, job: JobId) -> Self {
        self.job = Some(job);
        self
    }

    /// Adds the time that one step took.
    #[must_use]
    pub(crate) fn timed(mut self, step: &'static str, cost: Duration) -> Self {
        self.timing.push((step, cost));
        self
    }

    /// Marks the reply as the result of an earlier request, if `replayed` is set.
    #[must_use]
    pub(crate) fn replayed(mut self, replayed: bool) -> Self {
        if replayed {
            let name = HeaderName::from_static("idempotent-replayed");
            self.headers.push((name, HeaderValue::from_static("true")));
        }
        self
    }
}
