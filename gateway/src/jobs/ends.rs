//! Waits for the ends of a request's jobs. Once one of them has failed, the request has, and the others aren't waited for.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use infera_ledger::JobView;
use infera_types::ids::JobId;
use infera_types::job::{End, Settlement};

use super::handle::Jobs;
use super::waiters::Wait;
use crate::api::error::ApiError;

/// How long ends are looked up while this gateway ends: connections are cut two seconds after their clients should have been
/// answered.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// A client's wait for all of its request's jobs.
#[derive(Debug)]
pub(crate) struct Waits(Vec<Wait>);

impl Waits {
    /// Begins to wait for these jobs, before they can end. Returns none if there is no room.
    pub(crate) fn begin(jobs: &Jobs, ids: &[JobId]) -> Option<Self> {
        ids.iter().map(|id| jobs.waiters.begin(*id)).collect::<Option<_>>().map(Self)
    }

    /// Waits until all have ended or one has failed. What it returns is one end for each, or the failure alone.
    async fn ends(&mut self) -> Result<Vec<Settlement>, ApiError> {
        let mut waiting: FuturesUnordered<_> = self.0.iter_mut().map(Wait::end).collect();
        let mut ends = Vec::new();
        while let Some(end) = waiting.next().await {
            let end = end.map_err(|_| ApiError::Damaged)?;
            if is_failure(&end) {
                return Ok(vec![end]);
            }
            ends.push(end);
        }
        Ok(ends)
    }

    /// Waits for the same, without looking at what the ends are.
    pub(crate) async fn until_known(&mut self) {
        // A damaged end is the ledger's error when it is read.
        let _ = self.ends().await;
    }

    /// Waits for the ends of `ids`, by whichever way they become known first, or until the time is over.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) async fn until(
        mut self,
        jobs: &Jobs,
        ids: &[JobId],
        timeout: Duration,
    ) -> Result<Vec<Settlement>, ApiError> {
        let error = tokio::select! {
            ends = self.ends() => return Ok(with_others(jobs, ids, ends?).await),
            () = tokio::time::sleep(timeout) => ApiError::Timeout,
            () = jobs.answer_now.cancelled() => ApiError::Draining,
        };
        // A completion may be lost, and a client whose time is over can't wait for the next poll.
        let look = jobs.reader.settlements(ids);
        let found = if matches!(error, ApiError::Draining) {
            let Ok(found) = tokio::time::timeout(LAST_LOOK, look).await else { return Err(error) };
            found
        } else {
            look.await
        };
        match found {
            Ok(ended) if ended.len() == ids.len() || ended.iter().any(is_failure) => Ok(ended),
            Ok(_) => Err(error),
            Err(ledger_error) => {
                tracing::warn!(job = ?ids.first(), error = %ledger_error, "a job's end could not be looked up before giving up on it");
                Err(match ApiError::of_job_record(&ledger_error) {
                    ApiError::Damaged => ApiError::Damaged,
                    _ => error,
                })
            }
        }
    }
}

/// Returns all ends that are known in place of a single failure, which ends the other jobs of its request too. It may be a
/// cancellation of which another answer is the cause, whose completion was lost; and answers that came before it count.
async fn with_others(jobs: &Jobs, ids: &[JobId], ends: Vec<Settlement>) -> Vec<Settlement> {
    if ends.len() == ids.len() {
        return ends;
    }
    match jobs.reader.settlements(ids).await {
        Ok(all) if !all.is_empty() => all,
        Ok(_) => ends,
        Err(error) => {
            tracing::warn!(job = ?ids.first(), %error, "the other ends of a request that failed could not be looked up");
            ends
        }
    }
}

fn is_failure(settlement: &Settlement) -> bool {
    !matches!(settlement.end, End::Succeeded { .. })
}

/// Returns whether a request has ended: all of its jobs have, or one has failed.
pub(crate) fn has_ended(views: &[JobView]) -> bool {
    let ends = || views.iter().map(|view| view.settlement.as_ref());
    ends().all(|end| end.is_some()) || ends().flatten().any(is_failure)
}
