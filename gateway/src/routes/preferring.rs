//! What routes that make a job do for a client that prefers to wait for a bounded time, or not at all: the job goes on,
//! and the client is told of it.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderValue, LOCATION};
use infera_ledger::JobView;
use infera_types::ids::JobId;

use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::objects;
use crate::api::preferences::Preferences;
use crate::api::reply::Reply;
use crate::jobs::Jobs;
use crate::jobs::accept::Order;
use crate::jobs::ends::has_ended;
use crate::jobs::following::{Followed, submit_and_follow};

/// A client's preference not to wait for as long as the job takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preferred {
    preferences: Preferences,
    patience: Duration,
}

impl Preferred {
    /// Returns the preference, if there is one.
    pub(super) fn of(preferences: Preferences) -> Option<Self> {
        preferences.patience().map(|patience| Self { preferences, patience })
    }

    /// Returns the preference, or else that of a client that doesn't wait.
    pub(super) fn or_none(preferences: Preferences) -> Self {
        Self { preferences, patience: preferences.patience().unwrap_or_default() }
    }

    /// Returns whether the client gets the job's end instead of the job.
    pub(super) fn is_answered(self, views: &[JobView]) -> bool {
        has_ended(views) && !self.preferences.is_async_only()
    }

    /// Makes the reply that tells of a request's first job, which names the others: 200 if the request has ended, else 202.
    ///
    /// # Errors
    /// [`ApiError::Internal`].
    pub(super) fn told(self, followed: &Followed) -> Result<Reply, ApiError> {
        let is_answered = self.is_answered(&followed.views);
        let first = followed.views.first().ok_or(ApiError::Internal)?;
        let status = if is_answered { StatusCode::OK } else { StatusCode::ACCEPTED };
        let reply = Reply::json(&objects::job(first))?.with_status(status);
        Ok(self.applied(reply.with(location(first.id)), followed))
    }

    /// Adds to a reply what all replies about a followed job show.
    pub(super) fn applied(self, reply: Reply, followed: &Followed) -> Reply {
        reply
            .about(followed.job())
            .with(self.preferences.applied())
            .replayed(followed.replayed)
            .timed("accept", followed.accepting)
            .timed("wait", followed.waiting)
    }
}

/// Accepts a job and follows it for as long as the client prefers to wait.
///
/// # Errors
/// [`Failure`]; it names the job once that is accepted.
pub(super) async fn follow(jobs: &Jobs, order: Order, preferred: Preferred) -> Result<Followed, Failure> {
    submit_and_follow(jobs, order, preferred.patience).await
}

fn location(job: JobId) -> Option<(hyper::header::HeaderName, HeaderValue)> {
    HeaderValue::from_str(&format!("/v1/jobs/{job}")).ok().map(|path| (LOCATION, path))
}
