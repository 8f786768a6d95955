//! Recovers orphaned work (rule 3): notices that the broker never confirmed, has lost or given up, jobs of dead owners, jobs
//! past their deadline or for a model that was removed and has no nodes, and groups without a live verifier to close them. One verifier at a time does it, under a shared
//! lease. Everything else that waits is waiting, not lost. It also deletes queues of jobs that are stuck and declares them
//! again; the ledger knows what waited there.

mod notices;
mod several;
mod signs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{StreamExt as _, TryStreamExt as _};
use infera_broker::{BrokerError, Consumer, Delivery, topology};
use infera_ledger::{Group, LedgerError, OverdueJob, SweepQuestion};
use infera_telemetry::metrics::VERIFIER_SWEEPS;
use infera_types::ids::{JobId, ModelName};
use infera_types::job::{End, Settlement};
use infera_types::messages::{JobNotice, Version, Wire};
use infera_types::time::Timestamp;
use metrics::counter;
use tokio::time::Instant;

use crate::job::removed::model_removed;
use crate::job::{scorer, settler};
use crate::tenure::{LeaseName, Tenure};
use notices::hand_out;
use several::several;
use signs::{Signs, condemned, declare_again, empty_queues};

/// How long the next dead letter is waited for. They come one after the other, so a longer pause means that there are no more.
const DEAD_LETTERS_PAUSE: Duration = Duration::from_millis(200);

/// Bounds the dead letters of one sweep: they are a handful, and what is held is held in memory.
const DEAD_LETTERS_MAX: u16 = 256;

/// Sweeps until the tenure ends.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let mut ticks = tokio::time::interval(Duration::from_millis(tenure.config.sweep_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut suspects = BTreeMap::new();
    loop {
        ticks.tick().await;
        let mut signs = Signs::default();
        let outcome = match sweep_under_lease(tenure, &mut signs).await {
            Ok(true) => "done",
            Ok(false) => "elsewhere",
            Err(error) => {
                tracing::warn!(%error, "not everything can be swept now");
                "failed"
            }
        };
        counter!(VERIFIER_SWEEPS, "outcome" => outcome).increment(1);
        for queue in condemned(&mut suspects, signs) {
            declare_again(tenure, &queue).await;
        }
    }
}

/// Sweeps once, for as long as the lease is this verifier's; false if it isn't.
async fn sweep_under_lease(tenure: &Arc<Tenure>, signs: &mut Signs) -> Result<bool, LedgerError> {
    if !renew(tenure).await? {
        return Ok(false);
    }
    tokio::select! {
        swept = sweep(tenure, signs) => swept.map(|()| true),
        // Work that is cut off by that comes up again.
        () = keep_lease(tenure) => Ok(false),
    }
}

async fn renew(tenure: &Tenure) -> Result<bool, LedgerError> {
    tenure.leases.hold(LeaseName::Sweeper, Duration::from_millis(tenure.config.shared_lease_ms)).await
}

/// Renews the lease until another has it: a queue without a leader takes seconds to tell, and so may the ledger.
async fn keep_lease(tenure: &Tenure) {
    loop {
        tokio::time::sleep(Duration::from_millis(tenure.config.shared_lease_ms.div_ceil(3))).await;
        match renew(tenure).await {
            Ok(true) => {}
            Ok(false) => return tracing::warn!("another verifier sweeps now"),
            Err(error) => tracing::warn!(%error, "the sweeper's lease is not renewed"),
        }
    }
}

/// Sweeps once. What the ledger alone can do comes first: publishing waits for the broker.
async fn sweep(tenure: &Arc<Tenure>, signs: &mut Signs) -> Result<(), LedgerError> {
    let mut dead = DeadLetters::default();
    let ((), empty_queues) = tokio::join!(dead.read(tenure), empty_queues(tenure, signs));
    let question = SweepQuestion {
        empty_queues,
        dead: dead.letters.iter().map(|(job, _)| *job).collect(),
        unserved: tenure.unserved(),
        unconfirmed_for: Duration::from_millis(tenure.config.unconfirmed_ms),
        limit: tenure.config.sweep_limit,
    };
    let found = tenure.seams.sweeping.sweep(&question, Timestamp::now()).await?;
    // Only now does the ledger know of them.
    dead.ack().await;
    // A failure of one keeps neither the other nor the handouts from their turn.
    let mut ended = Vec::new();
    let expired = end_all(tenure, found.expired, |_| End::Expired, &mut ended).await;
    let unserved = end_all(tenure, found.unserved, model_removed, &mut ended).await;
    let closed = close(tenure, &found.groups).await;
    let until = Instant::now() + publishing_time(tenure);
    let (handed_out, ()) =
        tokio::join!(hand_out(tenure, found.hand_out, signs, until), complete(tenure, &ended, until));
    expired.and(unserved).and(closed).and(handed_out)
}

/// Returns how long one sweep may publish, since expired jobs wait for the next: shorter than the lease, and longer than a
/// broker that answers takes to tell that a queue doesn't (six seconds of the default's ten).
fn publishing_time(tenure: &Tenure) -> Duration {
    Duration::from_millis(tenure.config.shared_lease_ms) * 3 / 4
}

/// The notices that the broker gave up, to be acked once the ledger knows of them. Those that are dropped before that come
/// again.
#[derive(Default)]
struct DeadLetters {
    /// Kept because nothing that it delivered can be acked after it is dropped.
    consumer: Option<Box<dyn Consumer>>,
    letters: Vec<(JobId, Delivery)>,
}

impl DeadLetters {
    async fn read(&mut self, tenure: &Tenure) {
        match open_dead_letters(tenure).await {
            Ok(Some(mut consumer)) => {
                while self.letters.len() < usize::from(DEAD_LETTERS_MAX)
                    && let Ok(Some(delivery)) =
                        tokio::time::timeout(DEAD_LETTERS_PAUSE, consumer.next()).await
                {
                    self.add(tenure, delivery).await;
                }
                self.consumer = Some(consumer);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "dead letters can't be read"),
        }
    }

    async fn add(&mut self, tenure: &Tenure, delivery: Delivery) {
        match JobNotice::from_message(&delivery.message) {
            Ok(notice) => {
                tracing::warn!(job = %notice.job_id, "a job's notice came back too often; the ledger decides");
                tenure.counters.dead_letters.add_one();
                self.letters.push((notice.job_id, delivery));
            }
            Err(error) => {
                tracing::error!(%error, "a dead letter that is no notice is dropped");
                tenure.counters.messages_malformed.add_one();
                delivery.ack().await;
            }
        }
    }

    async fn ack(self) {
        for (_, delivery) in self.letters {
            delivery.ack().await;
        }
    }
}

/// Opens a consumer of the dead letters, if there are any.
async fn open_dead_letters(tenure: &Tenure) -> Result<Option<Box<dyn Consumer>>, BrokerError> {
    let (broker, queue) = (&tenure.seams.broker, topology::dead_jobs());
    broker.declare(&queue).await?;
    match broker.depth(&queue.name).await? {
        None | Some(0) => Ok(None),
        Some(_) => broker.consume(&queue.name, DEAD_LETTERS_MAX).await.map(Some),
    }
}

/// Reports a row that can't be stored and passes it by, so that it doesn't keep its neighbours waiting for ever.
fn past_refused<T>(job: JobId, outcome: Result<T, LedgerError>) -> Result<Option<T>, LedgerError> {
    match outcome {
        Err(LedgerError::Row(problem)) => {
            tracing::error!(%job, problem, "the ledger refuses a row, which is passed by; an operator must look at it");
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// Ends jobs whose deadline passed or whose model is gone as `end` says of their model, and adds their ends to `ended`. A job
/// that is in hand here is ended by its own task, which knows its group.
async fn end_all(
    tenure: &Tenure,
    jobs: Vec<OverdueJob>,
    end: impl Fn(&ModelName) -> End + Sync,
    ended: &mut Vec<Settlement>,
) -> Result<(), LedgerError> {
    let overdue = jobs.into_iter().filter(|job| !tenure.in_flight.has(job.id));
    let end = &end;
    let ending = overdue.map(|overdue| async move {
        let job = overdue.id;
        let settlement = Settlement {
            job_id: job,
            account: overdue.account,
            end: end(&overdue.model),
            model: overdue.model,
            gateway: overdue.gateway,
            group: None,
            settled_ms: Timestamp::now(),
        };
        past_refused(job, settler::settle(tenure, settlement).await)
    });
    let mut ending = several(ending);
    while let Some(settled) = ending.try_next().await? {
        ended.extend(settled);
    }
    Ok(())
}

/// Closes groups without a live verifier to close them.
async fn close(tenure: &Tenure, groups: &[Group]) -> Result<(), LedgerError> {
    let closing = groups.iter().map(|group| async move {
        past_refused(group.settlement.job_id, scorer::close_stored(tenure, group).await)
    });
    let mut closing = several(closing);
    while closing.try_next().await?.is_some() {}
    Ok(())
}

/// Tells the gateways of ends. Completions that there is no time for are lost, which is harmless: gateways read the ledger too.
async fn complete(tenure: &Tenure, ended: &[Settlement], until: Instant) {
    // No notice of theirs was read, so nothing was announced.
    let tell = |settlement| settler::publish_completion(tenure, settlement, Version::First);
    let telling = several(ended.iter().map(tell));
    if tokio::time::timeout_at(until, telling.for_each(|()| async {})).await.is_err() {
        tracing::debug!("completions of expired jobs may be lost");
    }
}
