//! The jobs whose answers clients follow here while they are written: keeps what verifiers released of each, for all of its
//! clients, and tells verifiers what was heard, so that they send what comes next. All of it is fleeting. What is lost is asked
//! for again, and at the end the whole answer comes with the job's completion.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infera_broker::consuming::until_consuming;
use infera_broker::{Broker, consuming, topology};
use infera_types::frames::{Delta, DeltasFrame, Watch, Watched};
use infera_types::ids::{GatewayId, JobId};
use infera_types::messages::Wire as _;
use infera_types::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::mark::{Mark, Overturned};
use super::passing::{Heard, Passing};
use super::silence::Silence;
use crate::memory::{MemoryBudget, Reservation};

/// The prefetch, which bounds nothing where nothing is acknowledged.
const PREFETCH: u16 = 256;

/// How often verifiers are told what was heard of the jobs of which something may have been lost.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How many jobs one message names: some 200 bytes each, a quarter of what the broker takes.
const WATCHED_MAX: usize = 1_000;

/// What was released of one job, and who follows it.
#[derive(Debug)]
struct Told {
    passing: Passing,
    silence: Silence,
    followers: Vec<(u64, Arc<Notify>)>,
    /// The part of the memory budget that it takes once it is large.
    reservation: Option<Reservation>,
    /// Whether the memory budget had no room for more: the rest comes with the whole answer.
    is_full: bool,
}

type SharedTold = Arc<Mutex<Told>>;

/// All streams of one gateway.
#[derive(Debug)]
pub(crate) struct Streams {
    gateway: GatewayId,
    broker: Arc<dyn Broker>,
    memory: MemoryBudget,
    followed: Mutex<Followed>,
    /// What verifiers are to be told of next.
    asking: Mutex<BTreeMap<JobId, Watched>>,
}

#[derive(Debug, Default)]
struct Followed {
    next: u64,
    by_job: HashMap<JobId, SharedTold>,
}

impl Streams {
    /// Begins with no stream. What is heard counts against the budget of `memory`.
    pub(crate) fn new(gateway: GatewayId, broker: Arc<dyn Broker>, memory: MemoryBudget) -> Self {
        Self { gateway, broker, memory, followed: Mutex::default(), asking: Mutex::default() }
    }

    /// Returns the budget of memory that streams count against.
    pub(crate) const fn memory(&self) -> &MemoryBudget {
        &self.memory
    }

    /// Follows the answer of a job that is about to be made here, until the returned value is dropped. `bell` is rung whenever
    /// there may be more to show.
    pub(crate) fn follow(self: &Arc<Self>, job: JobId, bell: &Arc<Notify>) -> Following {
        self.enter(job, Silence::of_new_job(Instant::now()), bell)
    }

    /// Follows the answer of a job that was made before, here or at another gateway. What was released already is there at once,
    /// if the job is followed here, or else asked for.
    pub(crate) fn join(self: &Arc<Self>, job: JobId, bell: &Arc<Notify>) -> Following {
        self.enter(job, Silence::of_earlier_job(Instant::now()), bell)
    }

    fn enter(self: &Arc<Self>, job: JobId, silence: Silence, bell: &Arc<Notify>) -> Following {
        let fresh = || {
            let (passing, followers) = (Passing::default(), Vec::new());
            Arc::new(Mutex::new(Told { passing, silence, followers, reservation: None, is_full: false }))
        };
        let mut followed = lock(&self.followed);
        let number = followed.next;
        followed.next += 1;
        let told = Arc::clone(followed.by_job.entry(job).or_insert_with(fresh));
        lock(&told).followers.push((number, Arc::clone(bell)));
        drop(followed);
        bell.notify_one();
        Following { streams: Arc::clone(self), job, number, told }
    }

    /// Has the job's owner told, within a second, what was heard, so that it sends what comes next.
    fn ask(&self, watched: Watched) {
        lock(&self.asking).insert(watched.job, watched);
    }

    /// Tells all verifiers at once what was passed on of these jobs. What is dropped is for the caller to tell again.
    pub(crate) fn tell(&self, jobs: &[Watched]) {
        for jobs in jobs.chunks(WATCHED_MAX) {
            let watch = Watch { gateway: self.gateway.clone(), jobs: jobs.to_vec() };
            let message = watch.to_message(self.gateway.as_str());
            let _ = self.broker.publish_fleeting(&topology::watching(&self.gateway), message);
        }
    }

    /// Reads deltas and asks for them, until the shutdown.
    pub(crate) async fn run(&self, stop: &Shutdown) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.read() => {}
            () = self.watch() => {}
        }
    }

    async fn read(&self) {
        let queue = topology::deltas(&self.gateway);
        loop {
            let mut consumer = until_consuming(&*self.broker, &queue, PREFETCH).await;
            while let Some(delivery) = consumer.next().await {
                match DeltasFrame::from_message(&delivery.message) {
                    Ok(frame) => frame.deltas.iter().for_each(|delta| self.bring(delta)),
                    Err(error) => tracing::warn!(%error, "deltas that can't be read are dropped"),
                }
            }
            tokio::time::sleep(consuming::RETRY).await;
        }
    }

    fn bring(&self, delta: &Delta) {
        let told = lock(&self.followed).by_job.get(&delta.job).cloned();
        let Some(told) = told else { return };
        let mut told = lock(&told);
        if told.is_full {
            return;
        }
        match told.passing.hear(delta) {
            Heard::Known => {}
            Heard::Gap => {
                let passed_on = told.passing.passed_on();
                told.silence.ended(Instant::now());
                drop(told);
                self.ask(Watched { job: delta.job, passed_on, stop: false });
            }
            Heard::Next => {
                told.silence.ended(Instant::now());
                let bytes = told.passing.bytes();
                told.is_full = !self.memory.reserve(&mut told.reservation, bytes);
                told.followers.iter().for_each(|(_, bell)| bell.notify_one());
                drop(told);
                // What was missing has come: to ask for it now would have the owner go back.
                lock(&self.asking).remove(&delta.job);
            }
        }
    }

    async fn watch(&self) {
        let mut ticks = tokio::time::interval(WATCH_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut asking = std::mem::take(&mut *lock(&self.asking));
            for watched in self.silent() {
                asking.entry(watched.job).or_insert(watched);
            }
            let asking: Vec<Watched> = asking.into_values().collect();
            // What is dropped is told again later.
            self.tell(&asking);
        }
    }

    /// Returns what was heard of the jobs that have been silent for so long that something may be lost.
    fn silent(&self) -> Vec<Watched> {
        let followed: Vec<(JobId, SharedTold)> =
            lock(&self.followed).by_job.iter().map(|(job, told)| (*job, Arc::clone(told))).collect();
        let now = Instant::now();
        let is_silent = |(job, told): (JobId, SharedTold)| {
            let mut told = lock(&told);
            let has_begun = !told.passing.is_empty();
            let is_due = !told.is_full && told.silence.is_due(now, has_begun);
            is_due.then(|| Watched { job, passed_on: told.passing.passed_on(), stop: false })
        };
        followed.into_iter().filter_map(is_silent).collect()
    }
}

/// One client's view of a job's answer.
#[derive(Debug)]
pub(crate) struct Following {
    streams: Arc<Streams>,
    job: JobId,
    number: u64,
    told: SharedTold,
}

impl Following {
    /// Returns the next piece of text for a client that has what `mark` says, of at most `bytes_max`; none if there is no more
    /// yet.
    ///
    /// # Errors
    /// [`Overturned`].
    pub(crate) fn next(&self, mark: &mut Mark, bytes_max: usize) -> Result<Option<String>, Overturned> {
        let told = lock(&self.told);
        Ok(mark.next(told.passing.text(), bytes_max)?.map(str::to_owned))
    }

    /// Returns what a client has of the answer that has what `mark` says of its text.
    pub(crate) fn had(&self, mark: &Mark) -> Watched {
        let passed_on = lock(&self.told).passing.shown(mark.place().0);
        Watched { job: self.job, passed_on, stop: false }
    }

    /// Has what comes next asked for soon: the job may only now have begun.
    pub(crate) fn ask_soon(&self) {
        let mut told = lock(&self.told);
        if told.passing.is_empty() {
            told.silence = Silence::of_earlier_job(Instant::now());
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = lock(&self.streams.followed);
        let is_last = {
            let mut told = lock(&self.told);
            told.followers.retain(|(number, _)| *number != self.number);
            told.followers.is_empty()
        };
        if is_last {
            followed.by_job.remove(&self.job);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "streams/tests.rs"]
mod tests;
