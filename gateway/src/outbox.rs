//! Accepted jobs on their way to the broker: published in the background and marked as confirmed in batches, so that
//! no client waits for either. Losing any of it costs time only: what is never marked is published again by the
//! sweeper after five seconds.
//!
//! A job has a place here from before it is accepted until the broker has its notice. While the broker is away places
//! run out, and then no job is accepted: what is promised to clients is bounded by what can be handed on.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use infera_core::broker::{Address, Broker, Message, Published, topology};
use infera_core::ids::{JobId, ModelName};
use infera_core::ledger::JobIntake;
use infera_core::messages::{JobNotice, Wire};
use infera_core::shutdown::Shutdown;
use infera_core::telemetry::trace;
use infera_core::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::meters::Meters;
use crate::state::Seams;

/// Notices published at the same time, and confirmed by one statement.
const BATCH_MAX: usize = 256;

/// A mark may wait so long for company: far below the sweeper's five seconds, and one commit instead of many.
const MARK_EVERY: Duration = Duration::from_millis(200);

/// Marks kept for a ledger that is away; beyond it they are forgotten, which costs a second notice each.
const MARKS_MAX: usize = 10_000;

/// Between two tries to publish what a broker that is away did not confirm. Its own time out comes on top.
const RETRY: Duration = Duration::from_millis(250);

/// One accepted job's notice, and the span that it was accepted in.
#[derive(Debug)]
struct Notice {
    job: JobId,
    model: ModelName,
    trace: Option<String>,
    /// Given back when the broker has the notice, or it is left to the sweeper.
    _place: Place,
}

/// Room for one notice. Dropping it gives it back.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// Where accepted jobs are put.
#[derive(Clone, Debug)]
pub struct Outbox {
    notices: mpsc::Sender<Notice>,
    places: Arc<Semaphore>,
    meters: Arc<Meters>,
}

/// The other end, to be run.
#[derive(Debug)]
pub struct Courier {
    jobs: mpsc::Receiver<Notice>,
    broker: Arc<dyn Broker>,
    intake: Arc<dyn JobIntake>,
    meters: Arc<Meters>,
}

/// An outbox of `max` notices and its courier.
#[must_use]
pub fn outbox(max: usize, seams: &Seams, meters: &Arc<Meters>) -> (Outbox, Courier) {
    let max = max.clamp(1, Semaphore::MAX_PERMITS);
    let (notices, jobs) = mpsc::channel(max);
    let (broker, intake) = (Arc::clone(&seams.broker), Arc::clone(&seams.intake));
    let courier = Courier { jobs, broker, intake, meters: Arc::clone(meters) };
    (Outbox { notices, places: Arc::new(Semaphore::new(max)), meters: Arc::clone(meters) }, courier)
}

impl Outbox {
    /// Room for one more job; none: accept nothing. Never waits.
    #[must_use]
    pub fn reserve(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(Place)
    }

    /// Publishes the job's notice soon.
    pub fn put(&self, place: Place, job: JobId, model: ModelName) {
        let notice = Notice { job, model, trace: trace::current(), _place: place };
        // There are as many places as the channel holds, so only a courier that has ended doesn't take it.
        if self.notices.try_send(notice).is_err() {
            self.meters.left();
            tracing::debug!(%job, "outbox closed; the sweeper will publish the notice");
        }
    }
}

impl Outbox {
    /// How many places are taken: notices that the broker doesn't have, and jobs that are being accepted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.max().saturating_sub(self.places.available_permits())
    }

    /// Whether none is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many places there are.
    #[must_use]
    pub fn max(&self) -> usize {
        self.notices.max_capacity()
    }
}

impl Courier {
    /// Publishes and marks until told to stop; then what is in the outbox still goes out.
    pub async fn run(mut self, stop: Shutdown) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut marks: Vec<JobId> = Vec::new();
        let mut ticks = tokio::time::interval(MARK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut again = Instant::now();
        loop {
            let is_new = batch.is_empty();
            tokio::select! {
                biased;
                taken = self.jobs.recv_many(&mut batch, BATCH_MAX), if is_new => {
                    if taken == 0 {
                        break;
                    }
                }
                () = tokio::time::sleep_until(again), if !is_new => self.top_up(&mut batch),
                _ = ticks.tick(), if !marks.is_empty() => {
                    self.mark(&mut marks).await;
                    continue;
                }
                () = stop.cancelled() => break,
            }
            self.publish(&mut batch, &mut marks).await;
            again = Instant::now() + RETRY;
            if marks.len() >= BATCH_MAX {
                self.mark(&mut marks).await;
            }
        }
        self.jobs.close();
        self.top_up(&mut batch);
        while !batch.is_empty() {
            self.publish(&mut batch, &mut marks).await;
            // There is no time for another try.
            batch.drain(..).for_each(|notice| self.leave(notice));
            self.top_up(&mut batch);
        }
        self.mark(&mut marks).await;
    }

    /// What waits, behind what is tried again.
    fn top_up(&mut self, batch: &mut Vec<Notice>) {
        while batch.len() < BATCH_MAX
            && let Ok(notice) = self.jobs.try_recv()
        {
            batch.push(notice);
        }
    }

    /// Publishes them all at once; those that have to be tried again stay in the batch.
    async fn publish(&self, batch: &mut Vec<Notice>, marks: &mut Vec<JobId>) {
        let publishes = batch.drain(..).map(|notice| async move {
            let address = Address::Queue(topology::jobs(&notice.model).name);
            let plain = JobNotice { job_id: notice.job }.to_message(notice.job.to_string());
            let message = Message { trace: notice.trace.clone(), ..plain };
            (self.broker.publish(&address, message).await, notice)
        });
        let ended = join_all(publishes).await;
        for (outcome, notice) in ended {
            match outcome {
                Published::Confirmed => marks.push(notice.job),
                Published::Unknown => batch.push(notice),
                // One model's queue, not the broker: it must not hold back the jobs of the others.
                Published::Full | Published::Unroutable | Published::Refused => self.leave(notice),
            }
        }
    }

    fn leave(&self, notice: Notice) {
        self.meters.left();
        tracing::debug!(job = %notice.job, "notice not confirmed; the sweeper will publish it again");
    }

    async fn mark(&self, marks: &mut Vec<JobId>) {
        if marks.is_empty() {
            return;
        }
        match self.intake.confirm(marks, Timestamp::now()).await {
            Ok(()) => marks.clear(),
            Err(error) => {
                tracing::warn!(%error, waiting = marks.len(), "confirmed notices could not be marked; tried again");
                let excess = marks.len().saturating_sub(MARKS_MAX);
                marks.drain(..excess);
            }
        }
    }
}
