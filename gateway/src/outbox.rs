//! Accepted jobs on their way to the broker: published in the background and marked as confirmed in batches, so that
//! no client waits for either. Losing any of it costs time only: what is never marked is published again by the
//! sweeper after five seconds.

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
use tokio::sync::mpsc;

use crate::meters::Meters;
use crate::state::Seams;

/// Notices published at the same time, and confirmed by one statement.
const BATCH_MAX: usize = 256;

/// A mark may wait so long for company: far below the sweeper's five seconds, and one commit instead of many.
const MARK_EVERY: Duration = Duration::from_millis(200);

/// Marks kept for a ledger that is away; beyond it they are forgotten, which costs a second notice each.
const MARKS_MAX: usize = 10_000;

/// One accepted job's notice, and the span that it was accepted in.
#[derive(Debug)]
struct Notice {
    job: JobId,
    model: ModelName,
    trace: Option<String>,
}

/// Where accepted jobs are put.
#[derive(Clone, Debug)]
pub struct Outbox {
    notices: mpsc::Sender<Notice>,
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
    let (notices, jobs) = mpsc::channel(max.max(1));
    let (broker, intake) = (Arc::clone(&seams.broker), Arc::clone(&seams.intake));
    let courier = Courier { jobs, broker, intake, meters: Arc::clone(meters) };
    (Outbox { notices, meters: Arc::clone(meters) }, courier)
}

impl Outbox {
    /// Publishes the job's notice soon. If the outbox is full the sweeper will do it.
    pub fn put(&self, job: JobId, model: ModelName) {
        let notice = Notice { job, model, trace: trace::current() };
        if self.notices.try_send(notice).is_err() {
            self.meters.left();
            tracing::debug!(%job, "outbox full or closed; the sweeper will publish the notice");
        }
    }
}

impl Outbox {
    /// How many notices wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.notices.max_capacity().saturating_sub(self.notices.capacity())
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many it holds.
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
        loop {
            tokio::select! {
                biased;
                taken = self.jobs.recv_many(&mut batch, BATCH_MAX) => {
                    if taken == 0 {
                        break;
                    }
                    self.publish(&mut batch, &mut marks).await;
                    if marks.len() >= BATCH_MAX {
                        self.mark(&mut marks).await;
                    }
                }
                _ = ticks.tick(), if !marks.is_empty() => self.mark(&mut marks).await,
                () = stop.cancelled() => break,
            }
        }
        self.jobs.close();
        while self.jobs.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.publish(&mut batch, &mut marks).await;
        }
        self.mark(&mut marks).await;
    }

    async fn publish(&self, batch: &mut Vec<Notice>, marks: &mut Vec<JobId>) {
        let publishes = batch.drain(..).map(|Notice { job, model, trace }| async move {
            let address = Address::Queue(topology::jobs(&model).name);
            let message = Message { trace, ..JobNotice { job_id: job }.to_message(job.to_string()) };
            (job, self.broker.publish(&address, message).await)
        });
        for (job, outcome) in join_all(publishes).await {
            if outcome == Published::Confirmed {
                marks.push(job);
            } else {
                self.meters.left();
                tracing::debug!(%job, ?outcome, "notice not confirmed; the sweeper will publish it again");
            }
        }
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
