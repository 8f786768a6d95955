//! Follows a job to its end for a bounded time. The job goes on when its client stops waiting, and may have been
//! accepted by another gateway: its end is found in the ledger, at the latest at the next poll of all waiting jobs.

use std::time::{Duration, Instant};

use infera_ledger::{JobView, LedgerError};
use infera_types::ids::{AccountId, JobId};

use super::accept::{Order, submit};
use super::ends::{Waits, has_ended};
use super::handle::Jobs;
use crate::api::error::ApiError;
use crate::api::failure::Failure;

impl Followed {
    /// Returns the first job, by which the request is known.
    pub(crate) fn job(&self) -> JobId {
        self.views.first().map_or_else(JobId::new, |view| view.choice.first(view.id))
    }
}

/// A request that was accepted and followed.
#[derive(Debug)]
pub(crate) struct Followed {
    /// The request's jobs in the order of its answers, ended or not. There is one at least.
    pub(crate) views: Vec<JobView>,
    /// Whether an earlier request under the same idempotency key made it.
    pub(crate) replayed: bool,
    /// How long accepting took.
    pub(crate) accepting: Duration,
    /// How long the client waited for the job's end.
    pub(crate) waiting: Duration,
}

/// Accepts a request and follows its jobs for at most `patience`.
///
/// # Errors
/// [`Failure`]; it names the job once that is accepted.
pub(crate) async fn submit_and_follow(
    jobs: &Jobs,
    order: Order,
    patience: Duration,
) -> Result<Followed, Failure> {
    let account = order.caller.account.clone();
    let receipt = submit(jobs, order).await?;
    let begun = Instant::now();
    let followed = follow_all(jobs, &account, &receipt.jobs, patience).await;
    let fail = |error| {
        let failure = Failure::of_job(error, receipt.job());
        failure.timed("accept", receipt.accepting).timed("wait", begun.elapsed())
    };
    let (views, waiting) = followed.map_err(|error| {
        tracing::error!(job = %receipt.job(), %error, "an accepted job could not be read");
        fail(ApiError::of_job_record(&error))
    })?;
    if views.is_empty() {
        return Err(fail(ApiError::Internal));
    }
    Ok(Followed { views, replayed: receipt.accepted_ms.is_none(), accepting: receipt.accepting, waiting })
}

/// A job that was followed.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The job, ended or not; none if the account has no such job.
    pub(crate) view: Option<JobView>,
    /// How long its end was waited for.
    pub(crate) waiting: Duration,
}

/// Returns a job as its account sees it: once it has ended, or after `patience`. With as many waiting clients as this
/// gateway may hold, it returns the job's present state at once, and so it does while the gateway shuts down.
///
/// # Errors
/// [`LedgerError`].
pub(crate) async fn follow(
    jobs: &Jobs,
    account: &AccountId,
    job: JobId,
    patience: Duration,
) -> Result<Seen, LedgerError> {
    let (mut views, waiting) = follow_all(jobs, account, &[job], patience).await?;
    Ok(Seen { view: views.pop(), waiting })
}

/// Returns a request's jobs in the same way: once all have ended, or one has failed, or after `patience`; and how long that took.
/// Jobs that the account doesn't have are left out.
async fn follow_all(
    jobs: &Jobs,
    account: &AccountId,
    ids: &[JobId],
    patience: Duration,
) -> Result<(Vec<JobView>, Duration), LedgerError> {
    // Begun before the jobs are read, so that no end in between is missed.
    let wait = if patience.is_zero() { None } else { Waits::begin(jobs, ids) };
    let views = read(jobs, account, ids).await?;
    let goes_on = !views.is_empty() && !has_ended(&views);
    let Some(mut wait) = wait.filter(|_| goes_on) else { return Ok((views, Duration::ZERO)) };
    let begun = Instant::now();
    tokio::select! {
        // Read below, with what was found out about it since.
        () = wait.until_known() => {}
        () = tokio::time::sleep(patience) => {}
        () = jobs.answer_now.cancelled() => {}
    }
    let waiting = begun.elapsed();
    Ok((read(jobs, account, ids).await?, waiting))
}

async fn read(jobs: &Jobs, account: &AccountId, ids: &[JobId]) -> Result<Vec<JobView>, LedgerError> {
    let mut views = Vec::with_capacity(ids.len());
    for id in ids {
        views.extend(jobs.reader.job(account, *id).await?);
    }
    Ok(views)
}
