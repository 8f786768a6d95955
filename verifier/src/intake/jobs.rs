//! Takes jobs from the queues, as many as there is room for on nodes (rule 4), and starts each one's life. It takes
//! in batches: one statement for all notices that come within a few milliseconds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use infera_broker::consuming::{self, until_consuming};
use infera_broker::{Consumer, Delivery, topology};
use infera_ledger::{Notice, Take};
use infera_types::ids::{JobId, ModelName};
use infera_types::messages::{JobNotice, Wire};
use infera_types::service::Lane;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lanes::Lanes;
use super::prefetch::Prefetch;
use super::suspects;
use super::taking::{begin, take_in_ledger};
use crate::decisions::lanes::{Seen, held_max, own_held_max};
use crate::decisions::share::share;
use crate::decisions::trial::{Place, place};
use crate::job::Held;
use crate::nodes::room;
use crate::tenure::{Consuming, Counted, HeldNotice, Tally, Tenure, Trial};

/// How long changes of room are gathered before they are answered together. Each answer looks at all nodes, and jobs of the
/// later lane can wait a little longer.
const fn settle_down(lane: Lane) -> Duration {
    match lane {
        Lane::First | Lane::Own => Duration::from_millis(5),
        Lane::Later => Duration::from_millis(25),
    }
}

/// Consumes all queues of every model of the catalogue that this verifier has a tokenizer for, also of removed ones, whose jobs
/// were accepted before, until the tenure ends. It returns only if one of them broke, which ends the tenure.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let mut consumers = JoinSet::new();
    let mut started = HashSet::new();
    let mut changes = tenure.chats.changes();
    let mut ticks = tokio::time::interval(Duration::from_millis(tenure.config.refresh_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(()) = changes.changed() => {}
            Some(ended) = consumers.join_next() => {
                return tracing::error!(?ended, "a consumer of jobs broke");
            }
        }
        for (model, entry) in &tenure.ledger_view.snapshot().catalogue {
            if started.contains(model) || !tenure.chats.has(entry) {
                continue;
            }
            started.insert(model.clone());
            tenure.vitals.queues.store(started.len() * Lane::ALL.len(), Ordering::Relaxed);
            let lanes = Arc::new(Lanes::default());
            for lane in Lane::ALL {
                let (tenure, lanes) = (Arc::clone(tenure), Arc::clone(&lanes));
                let reading = Reading { tenure, model: model.clone(), lane: *lane, lanes };
                consumers.spawn(async move { reading.consume().await });
            }
        }
    }
}

/// One lane of one model.
struct Reading {
    tenure: Arc<Tenure>,
    model: ModelName,
    lane: Lane,
    /// What the lanes of the model hold.
    lanes: Arc<Lanes>,
}

/// A notice as it came, counted.
struct Arrived {
    delivery: Delivery,
    counted: Counted,
}

impl Arrived {
    fn new(delivery: Delivery, tally: &Arc<Tally>) -> Self {
        Self { delivery, counted: Counted::held(tally) }
    }
}

impl Reading {
    /// Consumes the lane's jobs, again and again.
    async fn consume(&self) {
        let queue = topology::jobs_in(&self.model, self.lane);
        loop {
            let consumer = until_consuming(&*self.tenure.seams.broker, &queue, 0).await;
            let consuming = Consuming::begin(&self.tenure.vitals);
            self.read(consumer).await;
            drop(consuming);
            tokio::time::sleep(consuming::RETRY).await;
        }
    }

    /// Reads notices until the queue is gone, with the prefetch following the room on nodes and what both lanes hold.
    async fn read(&self, mut consumer: Box<dyn Consumer>) {
        let tenure = &self.tenure;
        let tally = self.lanes.begin(self.lane);
        let mut changes = tenure.nodes.changes();
        let mut look = tokio::time::interval(Duration::from_millis(tenure.config.look_again_ms));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut prefetch = Prefetch::default();
        let (mut due, settle_down) = (None, settle_down(self.lane));
        loop {
            tokio::select! {
                () = tenure.draining.cancelled() => {
                    consumer.set_prefetch(0).await;
                    // What is held stays held until the jobs in hand are done and the tenure ends.
                    return std::future::pending().await;
                }
                delivery = consumer.next() => {
                    let Some(first) = delivery else { return };
                    let batch = gather(tenure, &mut consumer, Arrived::new(first, &tally), &tally).await;
                    spawn_take(tenure, batch);
                    // What is held has changed, and with it what the lane may hold.
                    due.get_or_insert_with(|| Instant::now() + settle_down);
                }
                Ok(()) = changes.changed() => { due.get_or_insert_with(|| Instant::now() + settle_down); }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    self.adapt(&mut *consumer, &mut prefetch).await;
                }
                _ = look.tick() => self.adapt(&mut *consumer, &mut prefetch).await,
            }
        }
    }

    /// Tells the broker how many may be held: this verifier's share of the room to wait, beside those that run (rule 4),
    /// divided between the lanes. Jobs for nodes of their own have no part in that. Of a model whose tokenizer went, because its
    /// entry names another one now, none is taken.
    async fn adapt(&self, consumer: &mut dyn Consumer, prefetch: &mut Prefetch) {
        let tenure = &self.tenure;
        if !self.can_render() {
            if let Some(told) = prefetch.follow(0, Instant::now()) {
                consumer.set_prefetch(told).await;
            }
            return;
        }
        if self.lane == Lane::Own {
            let running = self.lanes.holding(Lane::Own).running;
            let wanted = own_held_max(running, tenure.config.held_max);
            if let Some(told) = prefetch.follow(wanted, Instant::now()) {
                consumer.set_prefetch(told).await;
            }
            return;
        }
        let snapshot = tenure.ledger_view.snapshot();
        let room = room::of_model(&snapshot, &tenure.nodes, &self.model, tenure.config.distinct);
        let seen = Seen {
            first: self.lanes.holding(Lane::First),
            later: self.lanes.holding(Lane::Later),
            waiting_max: share(room.free_slots, tenure.peers.alive(Instant::now())),
            held_max: tenure.config.held_max,
        };
        if let Some(told) = prefetch.follow(held_max(self.lane, &seen), Instant::now()) {
            consumer.set_prefetch(told).await;
        }
    }
}

impl Reading {
    /// Returns whether this verifier has the tokenizer of the model.
    fn can_render(&self) -> bool {
        let snapshot = self.tenure.ledger_view.snapshot();
        snapshot.catalogue.get(&self.model).is_some_and(|entry| self.tenure.chats.has(entry))
    }
}

/// Gathers the first notice and those that follow within a moment.
async fn gather(
    tenure: &Tenure,
    consumer: &mut Box<dyn Consumer>,
    first: Arrived,
    tally: &Arc<Tally>,
) -> Vec<Arrived> {
    let until = Instant::now() + Duration::from_millis(tenure.config.take_wait_ms);
    let mut batch = vec![first];
    while batch.len() < tenure.config.take_max {
        match tokio::time::timeout_at(until, consumer.next()).await {
            Ok(Some(delivery)) => batch.push(Arrived::new(delivery, tally)),
            Ok(None) | Err(_) => break,
        }
    }
    batch
}

/// Takes a batch in a task of its own.
fn spawn_take(tenure: &Arc<Tenure>, batch: Vec<Arrived>) {
    let (tenure, jobs) = (Arc::clone(tenure), tenure.jobs.clone());
    jobs.spawn(async move {
        tokio::select! {
            // First: what waited for a job that was tried alone must not be taken when that job's end is ours.
            biased;
            // What it holds is given out again with the rest of the consumer's.
            () = tenure.ended.cancelled() => {}
            () = take(&tenure, batch) => {}
        }
    });
}

/// Takes a batch of jobs in the ledger and starts their lives.
async fn take(tenure: &Arc<Tenure>, batch: Vec<Arrived>) {
    let mut held: HashMap<JobId, HeldNotice> = HashMap::with_capacity(batch.len());
    let mut notices = Vec::with_capacity(batch.len());
    for Arrived { delivery, counted } in batch {
        match JobNotice::from_message(&delivery.message) {
            // A second notice of what is in hand already: the first one's delivery stands for it.
            Ok(notice) if is_known(tenure, notice.job_id) || held.contains_key(&notice.job_id) => {
                delivery.ack().await;
            }
            Ok(notice) => {
                notices.push(Notice::together(notice.job_id, delivery.redelivered));
                held.insert(notice.job_id, HeldNotice { delivery, counted, speaks: notice.speaks });
            }
            Err(error) if error.is_parked() => tenure.parking.park(delivery, &error).await,
            Err(error) => {
                tracing::error!(%error, "malformed notice dropped; the sweeper will send its job again");
                delivery.ack().await;
            }
        }
    }
    if notices.is_empty() {
        return;
    }
    // While a job is tried alone, nothing else is even taken: were the process to end, it would count as lost as well.
    let company = tenure.trials.company().await;
    let Some(takes) = take_in_ledger(tenure, &mut notices).await else {
        for notice in held.into_values() {
            notice.delivery.nack().await;
        }
        return;
    };
    let mut lost = Vec::new();
    for take in takes {
        let job = match &take {
            Take::Taken(taken) => taken.id,
            Take::Settled(settlement) => settlement.job_id,
            Take::Nothing(job) => *job,
        };
        let Some(notice) = held.remove(&job) else { continue };
        match take {
            Take::Taken(taken) if place(taken.lost_handouts) == Place::Alone => {
                lost.push((job, notice));
            }
            take => {
                let held = Held::new(notice, Trial::together(&company));
                begin(tenure, take, held).await;
            }
        }
    }
    suspects::set_aside(tenure, lost).await;
    // The ledger answers for every id; one that it left out would need nothing.
    for notice in held.into_values() {
        notice.delivery.ack().await;
    }
}

/// Returns whether the job is in hand, or waits to be tried alone.
fn is_known(tenure: &Tenure, job: JobId) -> bool {
    tenure.in_flight.has(job) || tenure.trials.has(job)
}
