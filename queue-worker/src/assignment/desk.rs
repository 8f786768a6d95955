//! Knows what this node is working on for one model, and what it has answered. An assignment finds its answer, joins the run
//! that will make it, or starts that run, and never two of these: one lock covers the running jobs, the cache is asked under
//! it, and an answer is in the cache before its run goes. It starts no run itself.
//!
//! A run belongs to no assignment: it goes on while at least one assignment waits for it, and takes one slot however
//! many do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::admission::{Admission, Refused};
use super::answer::{Answer, AnswerKey};
use super::cache::SharedCache;
use crate::capacity::{Capacity, ModelSlots};
use crate::framing::Progress;

/// The result of a run.
pub(crate) type Outcome = Result<Arc<Answer>, Refused>;

/// The receiver of a run's outcome.
pub(crate) type OutcomeReceiver = watch::Receiver<Option<Outcome>>;

/// What an assignment found at the desk.
pub(crate) enum Entered {
    /// The answer.
    Answered(Arc<Answer>),
    /// A run that will make the answer, and what it has written so far if that is told.
    Running(OutcomeReceiver, Option<Arc<Progress>>),
    /// A slot. The assignment's task must run the job and give the outcome to the seat.
    Seated(Seat, OutcomeReceiver, Placement),
    /// None of these; the assignment is given back.
    Refused(Refused),
}

/// Whether a run shares the engine with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The run joins the batch.
    Together,
    /// No other run is in the engine meanwhile.
    Alone,
}

/// The running jobs, by what they will answer.
type Running = HashMap<AnswerKey, Run>;

/// A running job.
#[derive(Debug)]
struct Run {
    outcome: watch::Sender<Option<Outcome>>,
    /// What it has written so far, where that is told.
    progress: Option<Arc<Progress>>,
}

/// The running jobs of one model, and the answers of all.
#[derive(Debug)]
pub(crate) struct Desk {
    model: Arc<ModelSlots>,
    capacity: Arc<Capacity>,
    cache: SharedCache,
    running: Mutex<Running>,
}

impl Desk {
    /// Makes the desk of a model, which tells `capacity` of each change of the model's free slots.
    pub(crate) fn new(model: Arc<ModelSlots>, capacity: Arc<Capacity>, cache: SharedCache) -> Arc<Self> {
        Arc::new(Self { model, capacity, cache, running: Mutex::default() })
    }

    /// Returns the model's slots.
    pub(crate) const fn model(&self) -> &Arc<ModelSlots> {
        &self.model
    }

    /// Looks for an answer or a run. If there is neither, `admit` decides, from the number of free slots. A run that is
    /// streamed is told by `progress`.
    pub(crate) fn enter(
        self: &Arc<Self>,
        key: AnswerKey,
        progress: impl FnOnce() -> Option<Arc<Progress>>,
        admit: impl FnOnce(u32) -> Admission,
    ) -> Entered {
        let mut running = self.lock();
        if let Some(answer) = self.cache.get(&key) {
            return Entered::Answered(answer);
        }
        if let Some(run) = running.get(&key) {
            return Entered::Running(run.outcome.subscribe(), run.progress.clone());
        }
        let placement = match admit(self.free(&running)) {
            Admission::Refuse(refused) => return Entered::Refused(refused),
            Admission::Run => Placement::Together,
            Admission::RunAlone => Placement::Alone,
        };
        let (outcome, receiver) = watch::channel(None);
        let progress = progress();
        running.insert(key, Run { outcome: outcome.clone(), progress: progress.clone() });
        self.announce(&running);
        drop(running);
        let seat = Seat { desk: Arc::clone(self), key, run: outcome, progress };
        Entered::Seated(seat, receiver, placement)
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        // Nothing panics while it holds the lock. If something did, the map would still be consistent.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free(&self, running: &Running) -> u32 {
        let taken = u32::try_from(running.len()).unwrap_or(u32::MAX);
        self.model.slots().saturating_sub(taken)
    }

    fn announce(&self, running: &Running) {
        self.capacity.set_free(&self.model, self.free(running));
    }
}

/// One slot, and the run that has it. If it is dropped without an outcome (after a panic, or when the run is
/// abandoned), it frees the slot, and the assignments that still wait see the run's channel close.
#[derive(Debug)]
pub(crate) struct Seat {
    desk: Arc<Desk>,
    key: AnswerKey,
    run: watch::Sender<Option<Outcome>>,
    progress: Option<Arc<Progress>>,
}

impl Seat {
    /// Returns where the run's tokens are told, if they are.
    pub(crate) fn progress(&self) -> Option<&Arc<Progress>> {
        self.progress.as_ref()
    }

    /// Frees the slot, keeps an answer in the cache, and sends the outcome to all assignments that wait.
    pub(crate) fn finish(self, outcome: Outcome) {
        if let Ok(answer) = &outcome {
            self.desk.cache.insert(self.key, Arc::clone(answer));
        }
        self.run.send_replace(Some(outcome));
    }

    /// Returns once no assignment waits for the run any more. From then on, none can join it.
    pub(crate) async fn abandoned(&self) {
        loop {
            self.run.closed().await;
            let mut running = self.desk.lock();
            // An assignment may have joined after the last one left and before the lock was taken.
            if self.run.receiver_count() == 0 {
                running.remove(&self.key);
                return;
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut running = self.desk.lock();
        // After `abandoned`, another run may have the same key.
        if running.get(&self.key).is_some_and(|run| run.outcome.same_channel(&self.run)) {
            running.remove(&self.key);
        }
        self.desk.announce(&running);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::answer::tests::{answer, assignment};
    use crate::capacity::tests::model;

    fn desk(slots: u32) -> Arc<Desk> {
        let (model, capacity) = (model("model", slots), Arc::new(Capacity::default()));
        capacity.open(Arc::clone(&model));
        Desk::new(model, capacity, SharedCache::new(8, 1_000_000))
    }

    fn key(job: u8) -> AnswerKey {
        AnswerKey::of(&assignment(job))
    }

    fn by_slots(free_slots: u32) -> Admission {
        if free_slots == 0 { Admission::Refuse(Refused::draining()) } else { Admission::Run }
    }

    fn seat(desk: &Arc<Desk>, job: u8) -> (Seat, OutcomeReceiver) {
        match desk.enter(key(job), || None, by_slots) {
            Entered::Seated(seat, receiver, _) => (seat, receiver),
            _ => panic!("no seat"),
        }
    }

    #[tokio::test]
    async fn a_second_assignment_of_a_job_joins_its_run_and_a_third_finds_the_answer() {
        let desk = desk(1);
        let (seat, mut first) = seat(&desk, 1);
        assert_eq!(*desk.capacity.free_slots().borrow(), 0);
        let Entered::Running(mut second, None) = desk.enter(key(1), || None, by_slots) else {
            panic!("not joined")
        };
        assert!(matches!(desk.enter(key(2), || None, by_slots), Entered::Refused(_)));
        seat.finish(Ok(Arc::new(answer("done"))));
        assert_eq!(*desk.capacity.free_slots().borrow(), 1);
        for receiver in [&mut first, &mut second] {
            let outcome = receiver.wait_for(Option::is_some).await.unwrap().clone();
            assert_eq!(outcome.unwrap().unwrap().text, "done");
        }
        assert!(matches!(desk.enter(key(1), || None, by_slots), Entered::Answered(_)));
    }

    #[tokio::test]
    async fn a_run_is_abandoned_only_when_the_last_one_has_gone() {
        let desk = desk(1);
        let (seat, first) = seat(&desk, 1);
        let Entered::Running(second, None) = desk.enter(key(1), || None, by_slots) else {
            panic!("not joined")
        };
        drop(first);
        let soon = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, seat.abandoned()).await.is_err());
        drop(second);
        seat.abandoned().await;
        // The key is free for a new run of the same job, which must not be disturbed when the old seat is dropped.
        let (fresh, _receiver) = self::seat(&desk, 1);
        drop(seat);
        assert!(matches!(desk.enter(key(1), || None, by_slots), Entered::Running(..)));
        drop(fresh);
        assert_eq!(*desk.capacity.free_slots().borrow(), 1);
    }

    #[tokio::test]
    async fn a_seat_that_goes_without_an_outcome_frees_the_slot_and_closes_the_run() {
        let desk = desk(1);
        let (seat, mut receiver) = seat(&desk, 1);
        drop(seat);
        assert!(receiver.wait_for(Option::is_some).await.is_err());
        assert_eq!(*desk.capacity.free_slots().borrow(), 1);
    }

    #[tokio::test]
    async fn a_refusal_is_told_and_not_cached() {
        let desk = desk(1);
        let (seat, mut receiver) = seat(&desk, 1);
        seat.finish(Err(Refused::broken("engine")));
        assert!(receiver.wait_for(Option::is_some).await.unwrap().clone().unwrap().is_err());
        assert!(matches!(desk.enter(key(1), || None, by_slots), Entered::Seated(..)));
    }
}
