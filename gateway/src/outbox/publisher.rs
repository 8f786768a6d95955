//! Publishes the outbox's notices to the broker and marks those that the broker confirmed, in batches. If one model's
//! queue accepts nothing, its notices are left to the sweeper for a while, with only an occasional probe, so that it
//! holds up no other model.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use infera_broker::{Address, Broker, Message, Published, topology};
use infera_ledger::{JobIntake, LedgerError};
use infera_types::ids::JobId;
use infera_types::messages::{JobNotice, Version, Wire};
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::notice::Notice;
use super::retry::{Next, RETRY_AFTER, Resting, next};
use crate::metrics::OutboxMetrics;

/// The largest number of notices in progress: being published, or waiting for another try. The others wait in the
/// outbox.
const IN_HAND_MAX: usize = 256;

/// The number of marks that are written at once, without waiting for more.
const MARKS_AT_ONCE: usize = 256;

/// How long a mark may wait for others. It is far below the sweeper's five seconds, and many marks share one commit.
const MARK_EVERY: Duration = Duration::from_millis(200);

/// The largest number of marks that are kept while the ledger is away. Each one beyond it is forgotten, which costs a
/// second publish of its notice.
const MARKS_MAX: usize = 10_000;

/// The receiving half of the outbox, which publishes the notices once it is run.
#[derive(Debug)]
pub(crate) struct Publisher {
    jobs: mpsc::Receiver<Notice>,
    broker: Arc<dyn Broker>,
    intake: Arc<dyn JobIntake>,
    metrics: OutboxMetrics,
    on_their_way: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// The notices that the broker did not confirm because it is away.
    again: Vec<Notice>,
    resting: Resting,
    /// The jobs whose notices the broker has confirmed and that still have to be marked.
    marks: Vec<JobId>,
    /// The statement in progress that marks some of them; at most one.
    marking: FuturesUnordered<BoxFuture<'static, Marked>>,
    /// The time of the latest confirmation.
    confirmed: Option<Instant>,
}

/// A notice, the time at which its publish began, and the publish's outcome.
type Ended = (Notice, Instant, Published);

/// Some jobs, and the result of marking them.
type Marked = (Vec<JobId>, Result<(), LedgerError>);

impl Publisher {
    pub(super) fn new(
        jobs: mpsc::Receiver<Notice>,
        broker: Arc<dyn Broker>,
        intake: Arc<dyn JobIntake>,
        metrics: OutboxMetrics,
    ) -> Self {
        Self {
            jobs,
            broker,
            intake,
            metrics,
            on_their_way: FuturesUnordered::new(),
            again: Vec::new(),
            resting: Resting::default(),
            marks: Vec::new(),
            marking: FuturesUnordered::new(),
            confirmed: None,
        }
    }

    /// Publishes and marks until `stop`; then it still publishes what is in the outbox.
    pub(crate) async fn run(mut self, stop: Shutdown) {
        let mut fresh = Vec::with_capacity(IN_HAND_MAX);
        let mut ticks = interval(MARK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = Instant::now();
        loop {
            let room = IN_HAND_MAX.saturating_sub(self.on_their_way.len() + self.again.len());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = self.on_their_way.next(), if !self.on_their_way.is_empty() => {
                    if self.again.is_empty() {
                        retry = Instant::now() + RETRY_AFTER;
                    }
                    self.note(ended);
                }
                () = sleep_until(retry), if !self.again.is_empty() => {
                    for notice in std::mem::take(&mut self.again) {
                        self.send(notice);
                    }
                }
                taken = self.jobs.recv_many(&mut fresh, room), if room > 0 => {
                    if taken == 0 {
                        break;
                    }
                    fresh.drain(..).for_each(|notice| self.send(notice));
                }
                Some(marked) = self.marking.next(), if !self.marking.is_empty() => self.note_marked(marked),
                _ = ticks.tick(), if !self.marks.is_empty() => self.mark(),
            }
        }
        self.finish().await;
    }

    /// Tries everything once more. There is no time for further tries.
    async fn finish(mut self) {
        self.jobs.close();
        for notice in std::mem::take(&mut self.again) {
            self.send(notice);
        }
        loop {
            while self.on_their_way.len() < IN_HAND_MAX
                && let Ok(notice) = self.jobs.try_recv()
            {
                self.send(notice);
            }
            let Some(ended) = self.on_their_way.next().await else { break };
            self.note(ended);
            for notice in std::mem::take(&mut self.again) {
                self.leave(&notice);
            }
        }
        if let Some(marked) = self.marking.next().await {
            self.note_marked(marked);
        }
        self.mark();
        if let Some(marked) = self.marking.next().await {
            self.note_marked(marked);
        }
    }

    /// Starts a publish, unless the notice's queue is resting.
    fn send(&mut self, notice: Notice) {
        let now = Instant::now();
        if !self.resting.may_go(&notice.queue, now) {
            self.leave(&notice);
            return;
        }
        let broker = Arc::clone(&self.broker);
        self.on_their_way.push(Box::pin(async move {
            let address = Address::Queue(topology::jobs_in(&notice.queue.model, notice.queue.lane).name);
            let plain =
                JobNotice { job_id: notice.job, speaks: Version::NEWEST }.to_message(notice.job.to_string());
            let message = Message { trace: notice.trace.clone(), ..plain };
            let outcome = broker.publish(&address, message).await;
            (notice, now, outcome)
        }));
    }

    fn note(&mut self, (mut notice, begun, outcome): Ended) {
        let others_confirmed = self.confirmed.is_some_and(|last| last > begun);
        match next(outcome, notice.is_tried, others_confirmed) {
            Next::Confirmed => {
                self.confirmed = Some(Instant::now());
                self.resting.wakes(&notice.queue);
                self.marks.push(notice.job);
                if self.marks.len() == MARKS_AT_ONCE {
                    self.mark();
                }
            }
            Next::Again => {
                notice.is_tried = true;
                self.again.push(notice);
            }
            Next::Left { queue_rests } => {
                if queue_rests {
                    self.resting.rests(&notice.queue, Instant::now());
                }
                self.leave(&notice);
            }
        }
    }

    /// Leaves a notice to the sweeper, which finds it unmarked. Its place becomes free.
    fn leave(&self, notice: &Notice) {
        self.metrics.left();
        tracing::debug!(job = %notice.job, "notice not confirmed; the sweeper will publish it again");
    }

    /// Starts to mark the confirmed jobs, unless a statement is in progress.
    fn mark(&mut self) {
        if self.marks.is_empty() || !self.marking.is_empty() {
            return;
        }
        let (jobs, intake) = (std::mem::take(&mut self.marks), Arc::clone(&self.intake));
        self.marking.push(Box::pin(async move {
            let outcome = intake.confirm(&jobs, Timestamp::now()).await;
            (jobs, outcome)
        }));
    }

    fn note_marked(&mut self, (mut jobs, outcome): Marked) {
        if let Err(error) = outcome {
            jobs.append(&mut self.marks);
            let waiting = jobs.len();
            tracing::warn!(%error, waiting, "confirmed notices could not be marked; trying again");
            jobs.drain(..waiting.saturating_sub(MARKS_MAX));
            self.marks = jobs;
        }
    }
}
