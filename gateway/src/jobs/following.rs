//! Follows a job to its end for a bounded time. The job goes on when its client stops waiting, and may have been
//! accepted by another gateway: its end is found in the ledger, at the latest at the next poll of all waiting jobs.

use std::time::{Duration, Instant};

use infera_ledger::{JobView, LedgerError};
use infera_types::ids::{AccountId, JobId};

use super::accept::{Order, submit};
use super::handle::Jobs;
use crate::api::error::ApiError;
use crate::api::failure::Failure;

/// A job that was accepted and followed.
#[derive(Debug)]
pub(crate) struct Followed {
    /// The job, ended or not.
    pub(crate) view: JobView,
    /// Whether an earlier request under the same idempotency key made it.
    pub(crate) replayed: bool,
    /// How long accepting took.
    pub(crate) accepting: Duration,
    /// How long the client waited for the job's end.
    pub(crate) waiting: Duration,
}

/// Accepts a job and follows it for at most `patience`.
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
    let followed = follow(jobs, &account, receipt.job, patience).await;
    let fail = |error| {
        let failure = Failure::of_job(error, receipt.job);
        failure.timed("accept", receipt.accepting).timed("wait", begun.elapsed())
    };
    let Seen { view, waiting } = followed.map_err(|error| {
        tracing::error!(job = %receipt.job, %error, "an accepted job could not be read");
        fail(ApiError::of_job_record(&error))
    })?;
    let view = view.ok_or_else(|| fail(ApiError::Internal))?;
    Ok(Followed { view, replayed: receipt.accepted_ms.is_none(), accepting: receipt.accepting, waiting })
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
    // Begun before the job is read, so that no end in between is missed.
    let wait = if patience.is_zero() { None } else { jobs.waiters.begin(job) };
    let view = jobs.reader.job(account, job).await?;
    let goes_on = view.as_ref().is_some_and(|view| view.settlement.is_none());
    let Some(mut wait) = wait.filter(|_| goes_on) else { return Ok(Seen { view, waiting: Duration::ZERO }) };
    let begun = Instant::now();
    tokio::select! {
        // Read below, with what was found out about it since: a damaged end is the ledger's error there.
        _ = wait.end() => {}
        () = tokio::time::sleep(patience) => {}
        () = jobs.answer_now.cancelled() => {}
    }
    let waiting = begun.elapsed();
    Ok(Seen { view: jobs.reader.job(account, job).await?, waiting })
}
