//! Decides which jobs are tried beside which. A job is on trial from its taking until it has shown that it doesn't end the
//! process: until its nodes were asked, or, where they run in the same process, until its end; for [`TRIAL_MAX`] at most.
//! Jobs are on trial together. One that was in hand when a verifier died may be what ended it, so it is tried while nothing
//! else is, before anything else is taken: then it ends nothing but itself, and is poison soon.
//!
//! Those that wait for that are given back in the ledger and only their notices are kept: were this verifier to die
//! meanwhile, it would not have died with them in hand.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::AtomicU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infera_broker::Delivery;
use infera_ledger::{Handout, Notice};
use infera_types::ids::JobId;
use infera_types::time::Timestamp;
use tokio::sync::{Notify, OwnedRwLockReadGuard, RwLock, oneshot};

use crate::consumer;
use crate::tenure::Tenure;

/// A job that counts more lost handouts than this is failed: something in it may kill us (rule 3).
const LOST_HANDOUTS_MAX: u32 = 5;

/// No trial takes longer: what reading, rendering and sending a request does to a process shows at once, and others wait.
pub(crate) const TRIAL_MAX: Duration = Duration::from_secs(5);

/// Tries to give jobs back in the ledger; after that the broker does it, and it counts as a lost handout.
const RELEASE_TRIES: u32 = 4;

/// Between those.
const RETRY: Duration = Duration::from_millis(250);

/// How a job that was taken is gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Beside others.
    Together,
    /// While nothing else is tried.
    Alone,
    /// Not at all: it ends as poison.
    Nowhere,
}

/// Returns where a job belongs that counts this many lost handouts.
pub(crate) const fn place(lost_handouts: u32) -> Place {
    match lost_handouts {
        0 => Place::Together,
        1..=LOST_HANDOUTS_MAX => Place::Alone,
        _ => Place::Nowhere,
    }
}

/// The right to try jobs beside others; whoever tries one alone waits until all are gone.
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
    /// Beside others.
    pub(crate) fn together(company: &Company) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Seat::Together(Arc::clone(company))))))
    }

    /// With nothing else; the receiver fails when it is over.
    fn alone() -> (Arc<Self>, oneshot::Receiver<()>) {
        let (sender, over) = oneshot::channel();
        (Arc::new(Self(Mutex::new(Some(Seat::Alone(sender))))), over)
    }

    fn seat(&self) -> MutexGuard<'_, Option<Seat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_alone(&self) -> bool {
        matches!(*self.seat(), Some(Seat::Alone(_)))
    }

    /// It is over.
    pub(crate) fn end(&self) {
        self.seat().take();
    }
}

/// A notice whose job is to be tried alone.
struct Suspect {
    job: JobId,
    delivery: Delivery,
    running: Arc<AtomicU16>,
}

/// All trials of one verifier id.
#[derive(Default)]
pub(crate) struct Trials {
    /// Read by those who try together, written by who tries alone. It is fair: who asks first goes first.
    room: Arc<RwLock<()>>,
    /// As many as deliveries are held, at most.
    suspects: Mutex<VecDeque<Suspect>>,
    waiting: Mutex<HashSet<JobId>>,
    more: Notify,
}

impl Trials {
    /// Waits until no job is tried alone, and none waits to be.
    pub(crate) async fn company(&self) -> Company {
        Arc::new(Arc::clone(&self.room).read_owned().await)
    }

    /// Whether the job's notice waits here.
    pub(crate) fn has(&self, job: JobId) -> bool {
        self.waiting().contains(&job)
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, suspect: Suspect) {
        self.waiting().insert(suspect.job);
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).push_back(suspect);
        self.more.notify_one();
    }

    fn next(&self) -> Option<Suspect> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Gives back in the ledger what was taken and is to be tried alone, and keeps the notices until it is its turn.
pub(crate) async fn set_aside(tenure: &Tenure, suspects: Vec<(JobId, Delivery)>, running: &Arc<AtomicU16>) {
    let jobs: Vec<JobId> = suspects.iter().map(|(job, _)| *job).collect();
    if jobs.is_empty() {
        return;
    }
    tracing::info!(jobs = jobs.len(), "in hand when a verifier died; they are tried one by one");
    // Nothing else can be done with them, and to lose them would count against them. The lease bounds how long that goes on.
    while !release(tenure, &jobs).await {}
    for (job, delivery) in suspects {
        tenure.trials.add(Suspect { job, delivery, running: Arc::clone(running) });
    }
}

/// Gives jobs back in the ledger; false if it can't be done.
pub(crate) async fn release(tenure: &Tenure, jobs: &[JobId]) -> bool {
    for _ in 0..RELEASE_TRIES {
        match tenure.seams.owner.release(&tenure.id, jobs, Timestamp::now()).await {
            Ok(()) => return true,
            Err(error) => {
                tracing::warn!(jobs = jobs.len(), %error, "not given back yet; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    false
}

/// Tries suspects one by one until the tenure ends, all that wait before anything else is taken.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    loop {
        tenure.trials.more.notified().await;
        let _alone = Arc::clone(&tenure.trials.room).write_owned().await;
        while let Some(suspect) = tenure.trials.next() {
            if tenure.draining.is_cancelled() {
                // What waits is the ledger's, and the notices go back with their consumer.
                return std::future::pending().await;
            }
            try_alone(tenure, suspect).await;
        }
    }
}

async fn try_alone(tenure: &Arc<Tenure>, suspect: Suspect) {
    let Suspect { job, delivery, running } = suspect;
    let mut notices = [Notice { job, redelivered: delivery.redelivered, handout: Handout::Alone }];
    let takes = consumer::take_in_ledger(tenure, &mut notices).await;
    tenure.trials.waiting().remove(&job);
    let Some(take) = takes.and_then(|mut takes| takes.pop()) else { return delivery.nack().await };
    let (trial, over) = Trial::alone();
    consumer::begin(tenure, take, (delivery, &running), trial).await;
    let _ = over.await;
}

/// The job has shown that it doesn't end the process.
pub(crate) async fn outlived(tenure: &Tenure, job: JobId, trial: &Trial) {
    if trial.is_alone() {
        let notice = Notice { job, redelivered: false, handout: Handout::Survived };
        if let Err(error) = tenure.seams.owner.take(&tenure.id, &[notice], Timestamp::now()).await {
            tracing::warn!(%job, %error, "that it was lived through is not on record");
        }
    }
    trial.end();
}

#[cfg(test)]
mod tests {
    use infera_ledger::LOST_ALONE;

    use super::*;

    #[test]
    fn what_was_in_hand_at_a_death_is_tried_alone_until_it_is_poison() {
        for (lost_handouts, expected) in [
            (0, Place::Together),
            (1, Place::Alone),
            (5, Place::Alone),
            (6, Place::Nowhere),
            (u32::MAX, Place::Nowhere),
        ] {
            assert_eq!(place(lost_handouts), expected, "{lost_handouts}");
        }
        // One death beside others and one alone may be an accident, one more alone isn't.
        assert_eq!(place(1 + LOST_ALONE), Place::Alone);
        assert_eq!(place(1 + 2 * LOST_ALONE), Place::Nowhere);
    }

    #[tokio::test]
    async fn alone_is_with_nothing_else() {
        let trials = Trials::default();
        let company = trials.company().await;
        let (first, second) = (Trial::together(&company), Trial::together(&company));
        drop(company);
        let mut alone = Box::pin(Arc::clone(&trials.room).write_owned());
        let is_free = |result: Result<_, _>| result.is_ok();
        first.end();
        assert!(!is_free(tokio::time::timeout(Duration::from_millis(20), &mut alone).await));
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
