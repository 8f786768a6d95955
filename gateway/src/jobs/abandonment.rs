//! Cancels jobs whose clients went away while they waited.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_ledger::{Cancelled, JobIntake};
use infera_types::ids::{AccountId, JobId};
use infera_types::time::Timestamp;
use tokio_util::task::TaskTracker;

/// Cancels jobs beside the requests that they came from. All clones share their tasks.
#[derive(Clone, Debug)]
pub(crate) struct Canceller {
    intake: Arc<dyn JobIntake>,
    tasks: TaskTracker,
}

/// Cancels the job when it is dropped with it: the server drops a request's future when its client goes away.
pub(crate) struct CancelGuard {
    canceller: Canceller,
    account: AccountId,
    job: Option<JobId>,
}

impl Canceller {
    /// Cancels nothing yet.
    pub(crate) fn new(intake: Arc<dyn JobIntake>) -> Self {
        Self { intake, tasks: TaskTracker::new() }
    }

    /// Returns a guard that cancels the account's job if it is dropped before its end is known; none: there is nothing to
    /// cancel.
    pub(crate) fn guard(&self, account: AccountId, job: Option<JobId>) -> CancelGuard {
        CancelGuard { canceller: self.clone(), account, job }
    }

    /// Cancels a job that no client waits for, beside everything else. A row that is being committed isn't there yet for the
    /// first try, and may come as late as a server lets a commit hang; for a job that never comes nothing happens.
    pub(crate) fn cancel(&self, account: AccountId, job: JobId) {
        const FIRST_WAIT: Duration = Duration::from_millis(200);
        const LONGEST_WAIT: Duration = Duration::from_secs(5);
        const LASTS: Duration = Duration::from_secs(60);
        let intake = Arc::clone(&self.intake);
        self.tasks.spawn(async move {
            let (begun, mut wait) = (Instant::now(), FIRST_WAIT);
            while begun.elapsed() < LASTS {
                match intake.cancel(&account, job, Timestamp::now()).await {
                    Ok(Cancelled::Unknown) => {}
                    Ok(_) => {
                        tracing::debug!(%job, "no client waits for it; job cancelled");
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%job, %error, "a job that no client waits for can't be cancelled yet");
                    }
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        });
    }

    /// Waits until all that is being cancelled has been. Called once no request is left that could cancel more.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl CancelGuard {
    /// Cancels nothing any more: the job's end is known, or there is no job.
    pub(crate) fn disarm(&mut self) {
        self.job = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            self.canceller.cancel(self.account.clone(), job);
        }
    }
}
