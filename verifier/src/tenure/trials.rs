//! Keeps which jobs are on trial, and beside which. A job is on trial from its taking until it has shown that it doesn't end
//! the process: until its nodes were asked, or, where they run in the same process, until its end; for [`TRIAL_MAX`] at most.
//! Jobs are on trial together. One that was in hand when a verifier died may be what ended it, so it is tried while nothing
//! else is, before anything else is taken: then it ends nothing but itself, and is poison soon.
//!
//! The notices of jobs that wait for that are kept here. The jobs themselves are given back in the ledger: were this verifier
//! to die meanwhile, it would not have died with them in hand.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infera_types::ids::JobId;
use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, oneshot};

use super::held_notice::HeldNotice;

/// Bounds a trial. What reading, rendering and sending a request does to a process shows at once, and others wait.
pub(crate) const TRIAL_MAX: Duration = Duration::from_secs(5);

/// The right to try jobs beside others. A trial alone waits until all of them are gone.
pub(crate) type Company = Arc<OwnedRwLockReadGuard<()>>;

/// One job's trial. It ends with its last clone, if it isn't ended before.
#[derive(Debug)]
pub(crate) struct Trial(Mutex<Option<Seat>>);

#[derive(Debug)]
enum Seat {
    Together(#[expect(dead_code, reason = "held, not read")] Company),
    Alone(#[expect(dead_code, reason = "dropped, it tells that the trial is over")] oneshot::Sender<()>),
}

impl Trial {
    /// Begins a trial beside others.
    pub(crate) fn together(company: &Company) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Seat::Together(Arc::clone(company))))))
    }

    /// Begins a trial while nothing else is tried; the receiver fails when it is over.
    pub(crate) fn alone() -> (Arc<Self>, oneshot::Receiver<()>) {
        let (sender, over) = oneshot::channel();
        (Arc::new(Self(Mutex::new(Some(Seat::Alone(sender))))), over)
    }

    fn seat(&self) -> MutexGuard<'_, Option<Seat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether nothing else is tried meanwhile; false once the trial is over.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(*self.seat(), Some(Seat::Alone(_)))
    }

    /// Ends the trial: the job has shown that it doesn't end the process, or has ended.
    pub(crate) fn end(&self) {
        self.seat().take();
    }
}

/// A notice whose job is to be tried alone.
pub(crate) struct Suspect {
    /// The job.
    pub(crate) job: JobId,
    /// Its notice.
    pub(crate) notice: HeldNotice,
}

/// All trials of one verifier id.
#[derive(Default)]
pub(crate) struct Trials {
    /// Read while jobs are tried together, written while one is tried alone. It is fair: the first to ask gets it first.
    room: Arc<RwLock<()>>,
    /// At most as many as deliveries are held.
    suspects: Mutex<VecDeque<Suspect>>,
    waiting: Mutex<HashSet<JobId>>,
    /// Told when there are more suspects.
    more: Notify,
}

impl Trials {
    /// Waits until no job is tried alone and none waits to be.
    pub(crate) async fn company(&self) -> Company {
        Arc::new(Arc::clone(&self.room).read_owned().await)
    }

    /// Returns whether the job's notice waits here.
    pub(crate) fn has(&self, job: JobId) -> bool {
        self.waiting().contains(&job)
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a notice until it is its job's turn.
    pub(crate) fn add(&self, suspect: Suspect) {
        self.waiting().insert(suspect.job);
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).push_back(suspect);
        self.more.notify_one();
    }

    /// Waits until notices were added.
    pub(crate) async fn added(&self) {
        self.more.notified().await;
    }

    /// Waits until no job is tried; none begins until the returned guard is dropped.
    pub(crate) async fn solitude(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.room).write_owned().await
    }

    /// Returns the notice that has waited longest; it counts as waiting until [`Trials::remove`].
    pub(crate) fn next(&self) -> Option<Suspect> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Forgets a job whose notice was taken up.
    pub(crate) fn remove(&self, job: JobId) {
        self.waiting().remove(&job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn alone_is_with_nothing_else() {
        let trials = Trials::default();
        let company = trials.company().await;
        let (first, second) = (Trial::together(&company), Trial::together(&company));
        drop(company);
        let mut alone = Box::pin(trials.solitude());
        first.end();
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut alone).await.is_err());
        let more = tokio::time::timeout(Duration::from_millis(20), trials.company()).await;
        assert!(more.is_err(), "nothing new begins while one waits to be tried alone");
        drop(second);
        assert!(tokio::time::timeout(Duration::from_secs(9), &mut alone).await.is_ok());
    }

    #[tokio::test]
    async fn a_trial_alone_is_over_with_its_job() {
        let (trial, over) = Trial::alone();
        assert!(trial.is_alone());
        drop(trial);
        assert!(over.await.is_err());
        let (trial, over) = Trial::alone();
        trial.end();
        assert!(over.await.is_err());
        assert!(!trial.is_alone());
    }
}
