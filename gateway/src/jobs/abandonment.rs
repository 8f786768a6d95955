//! Cancels jobs whose clients went away while they waited.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_ledger::{BatchCancelled, Cancelled, JobBatches, JobIntake};
use infera_types::ids::{AccountId, JobId};
use infera_types::time::Timestamp;
use tokio_util::task::TaskTracker;

/// The pauses between tries to cancel a job whose commit may still come through, and how long it is tried.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const LASTS: Duration = Duration::from_secs(60);

/// Cancels jobs in the background, beside the requests that made them. All clones share their tasks.
#[derive(Clone, Debug)]
pub(crate) struct Canceller {
    intake: Arc<dyn JobIntake>,
    tasks: TaskTracker,
}

/// Cancels a job when it is dropped. The server drops a request's future, and this with it, when the request's client
/// goes away.
pub(crate) struct CancelGuard {
    canceller: Canceller,
    account: AccountId,
    job: Option<JobId>,
}

impl Canceller {
    /// Makes a canceller without tasks.
    pub(crate) fn new(intake: Arc<dyn JobIntake>) -> Self {
        Self { intake, tasks: TaskTracker::new() }
    }

    /// Returns a guard that cancels the account's job if it is dropped before the job's end is known. Without a job,
    /// it cancels nothing.
    pub(crate) fn guard(&self, account: AccountId, job: Option<JobId>) -> CancelGuard {
        CancelGuard { canceller: self.clone(), account, job }
    }

    /// Cancels, in the background, a job that no client waits for. A job whose commit is still in progress can't be
    /// found at the first try; it may appear as late as a server lets a commit hang. If it never appears, nothing
    /// happens.
    pub(crate) fn cancel(&self, account: AccountId, job: JobId) {
        let intake = Arc::clone(&self.intake);
        self.tasks.spawn(async move {
            let (begun, mut wait) = (Instant::now(), FIRST_WAIT);
            while begun.elapsed() < LASTS {
                match intake.cancel(&account, job, Timestamp::now()).await {
                    Ok(Cancelled::Unknown) => {}
                    Ok(_) => {
                        tracing::debug!(%job, "job cancelled: no client waits for it any more");
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%job, %error, "a job that no client waits for can't be cancelled yet; trying \
                                                      again");
                    }
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        });
    }

    /// Cancels, in the background, a batch that was not answered as accepted. Its jobs appear together or never, so one
    /// call cancels all.
    pub(crate) fn cancel_all(&self, batches: Arc<dyn JobBatches>, account: AccountId, jobs: Vec<JobId>) {
        if jobs.is_empty() {
            return;
        }
        self.tasks.spawn(async move {
            let (begun, mut wait) = (Instant::now(), FIRST_WAIT);
            while begun.elapsed() < LASTS {
                match batches.cancel_all(&account, &jobs, Timestamp::now()).await {
                    Ok(outcomes) if outcomes.iter().all(|outcome| *outcome == BatchCancelled::Unknown) => {}
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(%error, jobs = jobs.len(), "jobs that no client knows of can't be cancelled \
                                                                   yet; trying again");
                    }
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        });
    }

    /// Waits until all jobs that are to be cancelled have been. It is called once no request is left that could add
    /// one.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl CancelGuard {
    /// Makes the guard cancel nothing, because the job's end is known or there is no job.
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
