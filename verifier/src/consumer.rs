//! Takes jobs from the queues, as many as there is room for on nodes (rule 4), and starts each one's life. It takes
//! in batches: one statement for all notices that come within a few milliseconds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use infera_broker::{Consumer, Delivery, topology};
use infera_ledger::{LedgerError, Notice, Take};
use infera_telemetry::trace;
use infera_types::ids::{JobId, ModelName};
use infera_types::messages::{JobNotice, Wire};
use infera_types::time::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument as _, field, info_span};

use crate::counters::Counted;
use crate::tenure::Tenure;
use crate::trials::{self, Place, Trial};
use crate::vitals::Consuming;
use crate::{capacity, job, parking, peers, queues, settler};

/// Between tries of a take.
const RETRY: Duration = Duration::from_millis(250);

/// How long changes of room are gathered before they are answered together.
const SETTLE_DOWN: Duration = Duration::from_millis(5);

/// How long less must have been wanted before less is taken. Room comes and goes with every job, and each change is a
/// subscription begun or ended, which a replicated queue writes down: under load the broker did little else.
const LESS_AFTER: Duration = Duration::from_secs(1);

/// How often the ledger may fail to take a batch of notices before they are given back to the broker.
const TAKE_TRIES: u32 = 8;

/// Consumes every model of the catalogue that this verifier has a tokenizer for, until the tenure ends. It returns only
/// if one of them broke, which ends the tenure.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let mut consumers = JoinSet::new();
    let mut started = HashSet::new();
    let mut ignored = HashSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(tenure.config.refresh_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Some(ended) = consumers.join_next() => {
                return tracing::error!(?ended, "a consumer of jobs broke");
            }
        }
        for model in tenure.book.page().catalogue.keys() {
            if started.contains(model) {
            } else if tenure.chats.contains_key(model) {
                started.insert(model.clone());
                tenure.vitals.models.store(started.len(), Ordering::Relaxed);
                let (tenure, model) = (Arc::clone(tenure), model.clone());
                consumers.spawn(async move { consume(&tenure, &model).await });
            } else if ignored.insert(model.clone()) {
                tracing::warn!(%model, "in the catalogue, but this verifier has no model folder for it");
            }
        }
    }
}

/// What a job's task holds of its consumer: its delivery, its trial, and a place among the running once it is dispatched.
pub(crate) struct Held {
    delivery: Option<Delivery>,
    running: Arc<AtomicU16>,
    counted: bool,
    /// Until it is over.
    pub(crate) trial: Arc<Trial>,
}

impl Held {
    /// Its nodes are at work: the job no longer counts against the share of those that wait for room.
    pub(crate) fn dispatched(&mut self) {
        if !self.counted {
            self.counted = true;
            self.running.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Done with the notice.
    pub(crate) async fn ack(&mut self) {
        self.uncount();
        if let Some(delivery) = self.delivery.take() {
            delivery.ack().await;
        }
    }

    /// Gives the notice back at once, as if this verifier had died with it.
    pub(crate) async fn nack(&mut self) {
        self.uncount();
        if let Some(delivery) = self.delivery.take() {
            delivery.nack().await;
        }
    }

    fn uncount(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.uncount();
    }
}

/// Consumes one model's jobs, for ever.
async fn consume(tenure: &Arc<Tenure>, model: &ModelName) {
    let queue = topology::jobs(model);
    loop {
        let consumer = queues::consume(tenure, &queue, 0).await;
        let consuming = Consuming::begin(&tenure.vitals);
        read(tenure, model, consumer).await;
        drop(consuming);
        tokio::time::sleep(queues::RETRY).await;
    }
}

/// Reads notices until the queue is gone, with the prefetch following the room on nodes.
async fn read(tenure: &Arc<Tenure>, model: &ModelName, mut consumer: Box<dyn Consumer>) {
    let running = Arc::new(AtomicU16::new(0));
    let mut changes = tenure.nodes.changes();
    let mut look = tokio::time::interval(Duration::from_millis(tenure.config.look_again_ms));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut room = Prefetch::default();
    let mut due = None;
    loop {
        tokio::select! {
            () = tenure.draining.cancelled() => {
                consumer.set_prefetch(0).await;
                // What is held stays held until the jobs in hand are done and the tenure ends.
                return std::future::pending().await;
            }
            delivery = consumer.next() => {
                let Some(first) = delivery else { return };
                let batch = gather(tenure, &mut consumer, first).await;
                let (tenure, running) = (Arc::clone(tenure), Arc::clone(&running));
                let jobs = tenure.jobs.clone();
                jobs.spawn(async move {
                    tokio::select! {
                        // First: what waited for a job that was tried alone must not be taken when that job's end is ours.
                        biased;
                        // What it holds is given out again with the rest of the consumer's.
                        () = tenure.ended.cancelled() => {}
                        () = take(&tenure, batch, &running) => {}
                    }
                });
            }
            Ok(()) = changes.changed() => { due.get_or_insert_with(|| Instant::now() + SETTLE_DOWN); }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                due = None;
                adapt(tenure, model, &mut *consumer, &running, &mut room).await;
            }
            _ = look.tick() => adapt(tenure, model, &mut *consumer, &running, &mut room).await,
        }
    }
}

/// Rule 4: as many may wait here as is this verifier's share of the room, beside those that run.
async fn adapt(
    tenure: &Tenure,
    model: &ModelName,
    consumer: &mut dyn Consumer,
    running: &AtomicU16,
    room: &mut Prefetch,
) {
    let free_slots = capacity::of_model(tenure, model).free_slots;
    let share = peers::share(free_slots, tenure.peers.alive(Instant::now()));
    let waiting_max = u16::try_from(share).unwrap_or(u16::MAX);
    let wanted = running.load(Ordering::Relaxed).saturating_add(waiting_max).min(tenure.config.held_max);
    if let Some(prefetch) = room.follow(wanted, Instant::now()) {
        consumer.set_prefetch(prefetch).await;
    }
}

/// What the broker was last told, and since when less would have done.
#[derive(Debug, Default)]
struct Prefetch {
    told: u16,
    less: Option<Less>,
}

/// The most that was wanted since `since`, when it began to be less than what was told.
#[derive(Clone, Copy, Debug)]
struct Less {
    since: Instant,
    most: u16,
}

impl Prefetch {
    /// What to tell the broker now that `wanted` is wanted: more and nothing at once, less after a while.
    fn follow(&mut self, wanted: u16, now: Instant) -> Option<u16> {
        if wanted == self.told {
            self.less = None;
            return None;
        }
        if wanted < self.told && wanted > 0 {
            let less = self.less.get_or_insert(Less { since: now, most: wanted });
            less.most = less.most.max(wanted);
            if now.duration_since(less.since) < LESS_AFTER {
                return None;
            }
            self.told = less.most;
        } else {
            self.told = wanted;
        }
        self.less = None;
        Some(self.told)
    }
}

/// The first notice and what follows within a moment.
async fn gather(tenure: &Tenure, consumer: &mut Box<dyn Consumer>, first: Delivery) -> Vec<Delivery> {
    let until = Instant::now() + Duration::from_millis(tenure.config.take_wait_ms);
    let mut batch = vec![first];
    while batch.len() < tenure.config.take_max {
        match tokio::time::timeout_at(until, consumer.next()).await {
            Ok(Some(delivery)) => batch.push(delivery),
            Ok(None) | Err(_) => break,
        }
    }
    batch
}

/// Takes a batch of jobs in the ledger and starts their lives.
async fn take(tenure: &Arc<Tenure>, batch: Vec<Delivery>, running: &Arc<AtomicU16>) {
    let mut held: HashMap<JobId, Delivery> = HashMap::with_capacity(batch.len());
    let mut notices = Vec::with_capacity(batch.len());
    for delivery in batch {
        match JobNotice::from_message(&delivery.message) {
            // A second notice of what is in hand already: the first one's delivery stands for it.
            Ok(notice) if is_known(tenure, notice.job_id) || held.contains_key(&notice.job_id) => {
                delivery.ack().await;
            }
            Ok(notice) => {
                notices.push(Notice::together(notice.job_id, delivery.redelivered));
                held.insert(notice.job_id, delivery);
            }
            Err(error) if error.is_parked() => parking::park(tenure, delivery, &error).await,
            Err(error) => {
                tracing::error!(%error, "malformed notice dropped; the sweeper will send its job again");
                delivery.ack().await;
            }
        }
    }
    if notices.is_empty() {
        return;
    }
    // While a job is tried alone, nothing else is even taken: it would count as lost with it.
    let company = tenure.trials.company().await;
    let Some(takes) = take_in_ledger(tenure, &mut notices).await else {
        for delivery in held.into_values() {
            delivery.nack().await;
        }
        return;
    };
    let mut suspects = Vec::new();
    for take in takes {
        let job = match &take {
            Take::Taken(taken) => taken.id,
            Take::Settled(settlement) => settlement.job_id,
            Take::Nothing(job) => *job,
        };
        let Some(delivery) = held.remove(&job) else { continue };
        match take {
            Take::Taken(taken) if trials::place(taken.lost_handouts) == Place::Alone => {
                suspects.push((job, delivery));
            }
            take => begin(tenure, take, (delivery, running), Trial::together(&company)).await,
        }
    }
    trials::set_aside(tenure, suspects, running).await;
    // The ledger answers for every id; were one left out, there would be nothing to do for it.
    for delivery in held.into_values() {
        delivery.ack().await;
    }
}

/// Whether the job is in hand, or waits to be tried alone.
fn is_known(tenure: &Tenure, job: JobId) -> bool {
    tenure.in_flight.has(job) || tenure.trials.has(job)
}

/// Asks until the ledger answers; none if it doesn't for seconds.
pub(crate) async fn take_in_ledger(tenure: &Tenure, notices: &mut [Notice]) -> Option<Vec<Take>> {
    for _ in 0..TAKE_TRIES {
        match tenure.seams.owner.take(&tenure.id, notices, Timestamp::now()).await {
            Ok(takes) => return Some(takes),
            Err(error) => {
                tracing::warn!(%error, "jobs can't be taken now");
                // If this try did take them, they are ours and alive, and only a redelivered notice may take them
                // again. One that took nothing must not change that: such a notice takes a live owner's job too.
                if !matches!(error, LedgerError::Unavailable(_) | LedgerError::Refused(_)) {
                    notices.iter_mut().for_each(|notice| notice.redelivered = true);
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    None
}

/// One taken notice: a life begins, or there is nothing to do.
pub(crate) async fn begin(
    tenure: &Arc<Tenure>,
    take: Take,
    (delivery, running): (Delivery, &Arc<AtomicU16>),
    trial: Arc<Trial>,
) {
    match take {
        Take::Taken(taken) => {
            let Some(ended) = tenure.in_flight.insert(taken.id) else {
                // Two notices were taken at the same moment; the other has it in hand.
                delivery.ack().await;
                return;
            };
            tenure.counters.count(Counted::Taken);
            let span = info_span!(
                target: trace::TARGET,
                parent: None,
                "job",
                otel.kind = "consumer",
                job = %taken.id,
                trace_id = field::Empty,
            );
            trace::continue_from(&span, delivery.message.trace.as_deref());
            let held = Held { delivery: Some(delivery), running: Arc::clone(running), counted: false, trial };
            let jobs = tenure.jobs.clone();
            jobs.spawn(job::run(Arc::clone(tenure), taken, held, ended).instrument(span));
        }
        Take::Settled(settlement) => {
            settler::publish_completion(tenure, &settlement).await;
            delivery.ack().await;
        }
        Take::Nothing(_) => {
            delivery.ack().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More is told at once, and so is nothing; less only when it has been less for a second, and then the most of it.
    #[test]
    fn the_broker_is_told_less_after_a_while() {
        let begin = Instant::now();
        let mut room = Prefetch::default();
        for (at_ms, wanted, told) in [
            (0, 8, Some(8)),
            (5, 8, None),
            (10, 6, None),
            (20, 12, Some(12)),
            (100, 4, None),
            (600, 7, None),
            (1_000, 5, None),
            (1_100, 5, Some(7)),
            (1_200, 5, None),
            (1_300, 7, None),
            (1_400, 5, None),
            (2_300, 5, None),
            (2_350, 0, Some(0)),
            (2_360, 0, None),
            (2_400, 1, Some(1)),
        ] {
            assert_eq!(
                room.follow(wanted, begin + Duration::from_millis(at_ms)),
                told,
                "{at_ms} ms: {wanted}"
            );
        }
    }
}
