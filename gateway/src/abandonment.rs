//! Cancels jobs whose clients went away while they waited.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_ledger::Cancelled;
use infera_types::ids::{AccountId, JobId};
use infera_types::time::Timestamp;

use crate::state::State;

/// Cancels the job when it is dropped with it: the server drops a request's future when its client goes away.
pub(crate) struct CancelGuard {
    pub(crate) state: Arc<State>,
    /// Whose job it is.
    pub(crate) account: AccountId,
    /// The job; none once its end is known.
    pub(crate) job: Option<JobId>,
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            cancel(Arc::clone(&self.state), self.account.clone(), job);
        }
    }
}

/// Cancels a job that no client waits for, beside everything else. A row that is being committed isn't there yet for the
/// first try, and may come as late as a server lets a commit hang; for a job that never comes nothing happens.
pub(crate) fn cancel(state: Arc<State>, account: AccountId, job: JobId) {
    const FIRST_WAIT: Duration = Duration::from_millis(200);
    const LONGEST_WAIT: Duration = Duration::from_secs(5);
    const LASTS: Duration = Duration::from_secs(60);
    let tasks = state.tasks.clone();
    tasks.spawn(async move {
        let (begun, mut wait) = (Instant::now(), FIRST_WAIT);
        while begun.elapsed() < LASTS {
            match state.seams.intake.cancel(&account, job, Timestamp::now()).await {
                Ok(Cancelled::Unknown) => {}
                Ok(_) => {
                    tracing::debug!(%job, "no client waits for it; job cancelled");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%job, %error, "a job that no client waits for can't be cancelled yet")
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    });
}
