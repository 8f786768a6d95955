//! The echo's verifier: take, assignments, replicas, settle, completion, post.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use infera_ledger::{JobOwner as _, Notice, Settled, Sweeping as _, Take};
use infera_ledger_postgres::PostgresLedger;
use infera_types::ids::{JobId, VerifierId};
use infera_types::time::Timestamp;
use lapin::Channel;
use lapin::message::Delivery;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::queues::{Deliveries, Queues, completions_queue, node_queue};
use super::{Part, QUORUM, READY, REPLICAS, message_id, say};
use crate::bodies::Bodies;
use crate::databases;
use crate::publisher::{Parcel, Publisher, ack, connect};
use infera_bench::Fault;
use infera_bench::fixtures::{Asker, postings};

/// The most notices of one statement, the same as a verifier's.
const TAKE_MAX: usize = 64;

/// How long a lease lasts: longer than a run.
const LEASE: Duration = Duration::from_secs(24 * 3600);

/// The job that each replica is for.
type Waiting = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<()>>>>;

pub(super) async fn run(part: &Part, index: usize) -> Result<(), Fault> {
    let (id, ledger) = (VerifierId::fresh(), databases::open(&part.database).await?);
    ledger.lease(id.as_str(), &id, Timestamp::now(), LEASE).await?;
    let asker = Asker::new(part.account.clone(), 1)?;
    let bodies = Bodies::new(&asker)?;
    let publishing = connect(&part.broker).await?;
    let publisher = Publisher::open(&publishing).await?;
    let consuming = Queues::over(connect(&part.broker).await?);
    let (replicas, notices) = (consuming.replicas(index).await?, consuming.notices().await?);
    let waiting = Waiting::default();
    let owner = Owner {
        index,
        id,
        ledger,
        publisher,
        waiting: Arc::clone(&waiting),
        nodes: part.nodes,
        asker,
        bodies,
    };
    say(READY)?;
    tokio::select! {
        failed = tokio::spawn(collect(replicas, waiting)) => failed?,
        failed = tokio::spawn(own(Arc::new(owner), notices)) => failed?,
    }
}

/// What is needed for a job's life.
struct Owner {
    index: usize,
    id: VerifierId,
    ledger: Arc<PostgresLedger>,
    publisher: Publisher,
    waiting: Waiting,
    nodes: usize,
    asker: Asker,
    bodies: Bodies,
}

async fn own(owner: Arc<Owner>, notices: Deliveries) -> Result<(), Fault> {
    let Deliveries { channel, consumer: mut notices } = notices;
    let mut jobs = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = jobs.join_next() => ended??,
            notice = notices.next() => {
                let mut batch = vec![notice.ok_or("no more notices")??];
                while batch.len() < TAKE_MAX && let Some(Some(more)) = notices.next().now_or_never() {
                    batch.push(more?);
                }
                // The next jobs may be taken at the same time, as in the verifier.
                jobs.spawn(take(Arc::clone(&owner), (batch, Arc::clone(&channel))));
            }
        }
    }
}

async fn take(owner: Arc<Owner>, (batch, channel): (Vec<Delivery>, Arc<Channel>)) -> Result<(), Fault> {
    let mut jobs: Vec<(JobId, usize)> = Vec::with_capacity(batch.len());
    for notice in &batch {
        let (gateway, job) = message_id(notice)?.split_once(':').ok_or("not a notice of ours")?;
        jobs.push((job.parse()?, gateway.parse()?));
    }
    let notices: Vec<Notice> = jobs.iter().map(|(job, _)| Notice::together(*job, false)).collect();
    let takes = owner.ledger.take(&owner.id, &notices, Timestamp::now()).await?;
    if !takes.iter().all(|take| matches!(take, Take::Taken(_))) {
        return Err("a job could not be taken".into());
    }
    let mut lives = JoinSet::new();
    for (job, notice) in jobs.into_iter().zip(batch) {
        let (owner, channel) = (Arc::clone(&owner), Arc::clone(&channel));
        lives.spawn(async move { owner.live(job, (notice, channel)).await });
    }
    while let Some(ended) = lives.join_next().await {
        ended??;
    }
    Ok(())
}

impl Owner {
    async fn live(
        &self,
        (job, gateway): (JobId, usize),
        (notice, channel): (Delivery, Arc<Channel>),
    ) -> Result<(), Fault> {
        let (sender, mut replicas) = mpsc::unbounded_channel();
        lock(&self.waiting).insert(job.to_string(), sender);
        // Each job gets another group, as if it were drawn.
        let first = usize::from(job.as_bytes()[15]);
        let assigned = (0..REPLICAS).map(|place| {
            let key = node_queue((first + place) % self.nodes);
            let id = format!("{}:{job}", self.index);
            self.publisher.publish(Parcel { exchange: "", key, id, body: self.bodies.assignment.clone() })
        });
        futures::future::try_join_all(assigned).await?;
        for _ in 0..QUORUM {
            replicas.recv().await.ok_or("no more replicas")?;
        }
        let settlement = self.asker.settlement(job, &self.id);
        if self.ledger.settle(&settlement).await? != Settled::Now {
            return Err("a job ended twice".into());
        }
        let (key, body) = (completions_queue(gateway), self.bodies.completion.clone());
        self.publisher.publish(Parcel { exchange: "", key, id: job.to_string(), body }).await?;
        ack(&channel, &notice)?;
        for _ in QUORUM..REPLICAS {
            replicas.recv().await.ok_or("no more replicas")?;
        }
        lock(&self.waiting).remove(&job.to_string());
        Ok(self.ledger.post(job, &postings(&settlement), true).await?)
    }
}

/// Hands the replicas to the jobs that wait for them.
async fn collect(replicas: Deliveries, waiting: Waiting) -> Result<(), Fault> {
    let Deliveries { channel, consumer: mut replicas } = replicas;
    while let Some(replica) = replicas.next().await {
        let replica = replica?;
        if let Some(job) = lock(&waiting).get(message_id(&replica)?) {
            job.send(())?;
        }
        ack(&channel, &replica)?;
    }
    Err("no more replicas".into())
}

/// Locks the map. No section under this lock can panic halfway.
fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<String, mpsc::UnboundedSender<()>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
