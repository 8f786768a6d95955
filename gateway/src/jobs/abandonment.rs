//! Cancels jobs whose clients went away while they waited. A client that went away may only have lost its connection, and its
//! program sends the same request again: for a while, such a retry attaches to the job that it left instead of paying for
//! another.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use infera_ledger::{BatchCancelled, Cancelled, JobBatches, JobIntake};
use infera_types::ids::{AccountId, Digest, JobId};
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::access::{Limits, Used};

/// The pauses between tries to cancel a job whose commit may still come through, and how long it is tried.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const LASTS: Duration = Duration::from_secs(60);

/// The largest number of jobs that wait for their clients to come back, some 200 bytes each. Further ones are cancelled at
/// once.
const LEFT_MAX: usize = 10_000;

/// How long a retry waits for the gateway to notice that the client of the same request is gone: a client that closed its
/// connection can't be told from one that only stops sending before it is asked (`http/gate/presence`), which takes two
/// seconds at most.
const NOTICED_WITHIN: Duration = Duration::from_millis(2_200);

/// How often such a retry looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What makes a request the same as an earlier one, of a client that sends no idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SameRequest {
    /// SHA-256 of the caller's key.
    pub(crate) key: Digest,
    /// SHA-256 of the route and the raw body.
    pub(crate) fingerprint: Digest,
}

/// Cancels jobs in the background, beside the requests that made them. All clones share their tasks.
#[derive(Clone, Debug)]
pub(crate) struct Canceller {
    intake: Arc<dyn JobIntake>,
    /// The limits, whose reserved tokens the ends settle.
    limits: Arc<Limits>,
    /// How long a job waits for its client to come back.
    kept_for: Duration,
    left: Arc<Mutex<HashMap<SameRequest, Vec<JobId>>>>,
    /// The requests whose clients wait, as far as is known, and how many of each.
    waiting: Arc<Mutex<HashMap<SameRequest, u32>>>,
    /// The jobs that others end, whatever becomes of their requests.
    taken_over: Arc<Mutex<HashSet<JobId>>>,
    /// The signal that no client can come back any more.
    closing: Shutdown,
    tasks: TaskTracker,
}

/// Jobs whose guards leave them alone until this is dropped. A gateway that ends waits for that.
pub(crate) struct TakenOver {
    jobs: Vec<JobId>,
    all: Arc<Mutex<HashSet<JobId>>>,
    _task: TaskTrackerToken,
}

/// Cancels a request's jobs after a while when it is dropped. The server drops a request's future, and this with it, when the request's
/// client goes away.
pub(crate) struct CancelGuard {
    canceller: Canceller,
    account: AccountId,
    jobs: Vec<JobId>,
    request: Option<SameRequest>,
}

impl Canceller {
    /// Makes a canceller without tasks. A job waits for `kept_for` for its client to come back.
    pub(crate) fn new(intake: Arc<dyn JobIntake>, limits: Arc<Limits>, kept_for: Duration) -> Self {
        let (left, waiting, closing) = (Arc::default(), Arc::default(), Shutdown::new());
        let (taken_over, tasks) = (Arc::default(), TaskTracker::new());
        Self { intake, limits, kept_for, left, waiting, taken_over, closing, tasks }
    }

    /// Returns a guard that gives up the account's jobs, those of one request, if it is dropped before their end is known. Without a
    /// job, it does nothing. A retry of `request` finds the jobs for a while.
    pub(crate) fn guard(
        &self,
        account: AccountId,
        jobs: Vec<JobId>,
        request: Option<SameRequest>,
    ) -> CancelGuard {
        if let Some(request) = request {
            *self.waiting().entry(request).or_default() += 1;
        }
        CancelGuard { canceller: self.clone(), account, jobs, request }
    }

    /// Returns the jobs that the same request left behind, if they still wait for their client. They are the caller's from then on.
    /// A request that says that it is a retry waits for a moment while the same request seems to have a client still.
    pub(crate) async fn come_back(&self, request: &SameRequest, is_retry: bool) -> Option<Vec<JobId>> {
        let begun = Instant::now();
        loop {
            let found = self.lock().remove(request);
            let may_come =
                is_retry && begun.elapsed() < NOTICED_WITHIN && self.waiting().contains_key(request);
            if found.is_some() || !may_come {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SameRequest, Vec<JobId>>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<SameRequest, u32>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes jobs over from their guards: ending them is the caller's from now on.
    pub(crate) fn take_over(&self, jobs: &[JobId]) -> TakenOver {
        lock(&self.taken_over).extend(jobs);
        TakenOver { jobs: jobs.to_vec(), all: Arc::clone(&self.taken_over), _task: self.tasks.token() }
    }

    /// Counts one client less that waits for an answer to `request`.
    fn went(&self, request: SameRequest) {
        let mut waiting = self.waiting();
        if let Some(count) = waiting.get_mut(&request) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&request);
            }
        }
    }

    /// Gives jobs up: they are cancelled after a while, unless their client comes back.
    fn give_up(&self, account: AccountId, jobs: Vec<JobId>, request: SameRequest) {
        {
            let mut left = self.lock();
            // Of two equal requests the jobs of one are kept; whichever is in the map waits for either client.
            if left.len() >= LEFT_MAX || left.contains_key(&request) {
                drop(left);
                return self.cancel(account, jobs);
            }
            left.insert(request, jobs.clone());
        }
        let canceller = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(canceller.kept_for) => {}
                () = canceller.closing.cancelled() => {}
            }
            let is_left = {
                let mut left = canceller.lock();
                let is_left = left.get(&request) == Some(&jobs);
                if is_left {
                    left.remove(&request);
                }
                is_left
            };
            if is_left {
                canceller.cancel(account, jobs);
            }
        });
    }

    /// Cancels, in the background, the jobs of a request that no client waits for. A job whose commit is still in progress can't be
    /// found at the first try; it may appear as late as a server lets a commit hang. If it never appears, nothing
    /// happens.
    pub(crate) fn cancel(&self, account: AccountId, mut jobs: Vec<JobId>) {
        let (intake, limits) = (Arc::clone(&self.intake), Arc::clone(&self.limits));
        self.tasks.spawn(async move {
            let (begun, mut wait) = (Instant::now(), FIRST_WAIT);
            while begun.elapsed() < LASTS {
                let mut left = Vec::new();
                for job in jobs {
                    match intake.cancel(&account, job, Timestamp::now()).await {
                        Ok(Cancelled::Unknown) => left.push(job),
                        Ok(Cancelled::Now(end) | Cancelled::Before(end)) => {
                            limits.settle(job, Used::of(&end));
                            tracing::debug!(%job, "job cancelled: no client waits for it any more");
                        }
                        Err(error) => {
                            tracing::warn!(%job, %error, "a job that no client waits for can't be cancelled yet; trying \
                                                          again");
                            left.push(job);
                        }
                    }
                }
                if left.is_empty() {
                    return;
                }
                jobs = left;
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
    /// one, or come back for one.
    pub(crate) async fn ended(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for TakenOver {
    fn drop(&mut self) {
        let mut all = lock(&self.all);
        for job in &self.jobs {
            all.remove(job);
        }
    }
}

fn lock(jobs: &Mutex<HashSet<JobId>>) -> MutexGuard<'_, HashSet<JobId>> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CancelGuard {
    /// Makes the guard cancel nothing, because the job's end is known or there is no job.
    pub(crate) fn disarm(&mut self) {
        self.jobs.clear();
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        let (canceller, account) = (&self.canceller, self.account.clone());
        let mut jobs = std::mem::take(&mut self.jobs);
        jobs.retain(|job| !lock(&canceller.taken_over).contains(job));
        if !jobs.is_empty() {
            match self.request.filter(|_| !canceller.kept_for.is_zero()) {
                Some(request) => canceller.give_up(account, jobs, request),
                None => canceller.cancel(account, jobs),
            }
        }
        // Only now: a retry that looks in between finds the one or the other.
        if let Some(request) = self.request {
            canceller.went(request);
        }
    }
}
