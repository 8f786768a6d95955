//! A bare echo of a job's messages through RabbitMQ, with the ledger's commits in between and nothing else: notice,
//! three assignments, three replicas, completion, each as long as a real one and confirmed; accept, mark, take, settle,
//! post. Nothing is parsed, drawn, decoded, compared or scored, no HTTP is spoken, and nothing is swept, folded or
//! archived. It is the limit that the programs are measured against, so it has as many parts as they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use infera_core::ids::{JobId, VerifierId};
use infera_core::ledger::postgres::PostgresLedger;
use infera_core::ledger::{JobIntake as _, JobOwner as _, Notice, Settled, Sweeping as _, Take};
use infera_core::time::Timestamp;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::Fault;
use crate::bodies::Bodies;
use crate::echo_queues::{self as queues, Queues};
use crate::fixtures::{Asker, postings};
use crate::measure::as_f64;
use crate::publisher::{Parcel, Publisher};

/// Replicas that make an answer, and all of them.
const QUORUM: usize = 2;
const REPLICAS: usize = 3;

/// As the gateway's courier does it.
const MARKS_MAX: usize = 256;
const MARK_EVERY: Duration = Duration::from_millis(200);

/// As many notices as a verifier takes in one statement.
const TAKE_MAX: usize = 64;

/// A job that takes longer has lost a message, which ends the run.
const JOB_WITHIN: Duration = Duration::from_secs(30);

/// Whom a job's next message wakes.
type Waiting<T> = Arc<Mutex<HashMap<String, T>>>;

/// What an echo is made of.
pub(crate) struct Echo {
    broker: String,
    intake: Arc<PostgresLedger>,
    verifiers: Vec<(VerifierId, Arc<PostgresLedger>)>,
    nodes: usize,
    asker: Asker,
    bodies: Arc<Bodies>,
}

impl Echo {
    /// Ledgers are connected once: each verifier has its own, as processes have.
    pub(crate) async fn open(
        broker: &str,
        connect: impl AsyncFn() -> Result<Arc<PostgresLedger>, Fault>,
        (verifiers, nodes): (usize, usize),
        asker: Asker,
    ) -> Result<Self, Fault> {
        let intake = connect().await?;
        let mut owners = Vec::new();
        for _ in 0..verifiers {
            let (id, ledger) = (VerifierId::fresh(), connect().await?);
            let day = Duration::from_secs(24 * 3600);
            ledger.lease(id.as_str(), &id, Timestamp::now(), day).await?;
            owners.push((id, ledger));
        }
        let bodies = Arc::new(Bodies::new(&asker)?);
        Ok(Self { broker: broker.to_owned(), intake, verifiers: owners, nodes, asker, bodies })
    }

    /// Jobs ended a second, with so many on the way at once.
    pub(crate) async fn run(
        &self,
        in_flight: usize,
        warm_up: Duration,
        span: Duration,
    ) -> Result<f64, Fault> {
        let queues = Queues::declare(&self.broker, self.verifiers.len(), self.nodes).await?;
        // Dropped at the end, and with them all of the echo's tasks; the first that fails ends the run.
        let mut parts = JoinSet::new();
        for node in 0..self.nodes {
            parts.spawn(answer(queues.node(node).await?, Arc::clone(&self.bodies)));
        }
        for (index, (id, ledger)) in self.verifiers.iter().enumerate() {
            let (publisher, notices, replicas) = queues.verifier(index).await?;
            let waiting = Waiting::default();
            parts.spawn(collect(replicas, Arc::clone(&waiting)));
            let owner = Owner {
                index,
                id: id.clone(),
                ledger: Arc::clone(ledger),
                publisher,
                waiting,
                nodes: self.nodes,
                asker: self.asker.clone(),
                bodies: Arc::clone(&self.bodies),
            };
            parts.spawn(own(Arc::new(owner), notices));
        }
        let (publisher, completions) = queues.gateway().await?;
        let waiting: Waiting<oneshot::Sender<()>> = Waiting::default();
        parts.spawn(complete(completions, Arc::clone(&waiting)));
        let (marks, marked) = mpsc::unbounded_channel();
        parts.spawn(mark(Arc::clone(&self.intake), marked));

        let begin = Instant::now() + warm_up;
        let end = begin + span;
        let mut clients = JoinSet::new();
        for _ in 0..in_flight {
            let client = Client {
                publisher: publisher.clone(),
                ledger: Arc::clone(&self.intake),
                waiting: Arc::clone(&waiting),
                marks: marks.clone(),
                asker: self.asker.clone(),
                bodies: Arc::clone(&self.bodies),
            };
            clients.spawn(async move { client.ask(begin, end).await });
        }
        let mut count = 0;
        loop {
            tokio::select! {
                Some(failed) = parts.join_next() => {
                    failed??;
                    return Err("a part of the echo ended".into());
                }
                client = clients.join_next() => match client {
                    Some(ended) => count += ended??,
                    None => return Ok(as_f64(count) / span.as_secs_f64()),
                },
            }
        }
    }
}

/// A client and the gateway's part of its jobs.
struct Client {
    publisher: Publisher,
    ledger: Arc<PostgresLedger>,
    waiting: Waiting<oneshot::Sender<()>>,
    marks: mpsc::UnboundedSender<JobId>,
    asker: Asker,
    bodies: Arc<Bodies>,
}

impl Client {
    /// One job after the other; how many ended between `begin` and `end`.
    async fn ask(&self, begin: Instant, end: Instant) -> Result<usize, Fault> {
        let mut count = 0;
        while Instant::now() < end {
            let job = self.asker.job();
            let id = job.id;
            let (reply, completed) = oneshot::channel();
            lock(&self.waiting).insert(id.to_string(), reply);
            self.ledger.accept(job).await?;
            let notify = async {
                let key = queues::JOBS.to_owned();
                let notice = self.bodies.notice.clone();
                self.publisher
                    .publish(Parcel { exchange: "", key, id: id.to_string(), body: notice })
                    .await?;
                Ok::<_, Fault>(self.marks.send(id)?)
            };
            let ended = async { Ok::<_, Fault>(tokio::time::timeout(JOB_WITHIN, completed).await??) };
            tokio::try_join!(notify, ended)?;
            let now = Instant::now();
            count += usize::from(now >= begin && now < end);
        }
        Ok(count)
    }
}

/// One verifier's part.
struct Owner {
    index: usize,
    id: VerifierId,
    ledger: Arc<PostgresLedger>,
    publisher: Publisher,
    waiting: Waiting<mpsc::UnboundedSender<()>>,
    nodes: usize,
    asker: Asker,
    bodies: Arc<Bodies>,
}

async fn own(owner: Arc<Owner>, mut notices: lapin::Consumer) -> Result<(), Fault> {
    let mut jobs = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = jobs.join_next() => ended??,
            notice = notices.next() => {
                let mut batch = vec![notice.ok_or("no more notices")??];
                while batch.len() < TAKE_MAX && let Some(Some(more)) = notices.next().now_or_never() {
                    batch.push(more?);
                }
                // While these are taken the next may be, as in the verifier.
                jobs.spawn(take(Arc::clone(&owner), batch));
            }
        }
    }
}

async fn take(owner: Arc<Owner>, batch: Vec<Delivery>) -> Result<(), Fault> {
    let mut jobs = Vec::with_capacity(batch.len());
    for notice in &batch {
        jobs.push(message_id(notice)?.parse::<JobId>()?);
    }
    let notices: Vec<Notice> = jobs.iter().map(|job| Notice { job: *job, redelivered: false }).collect();
    let takes = owner.ledger.take(&owner.id, &notices, Timestamp::now()).await?;
    if !takes.iter().all(|take| matches!(take, Take::Taken(_))) {
        return Err("a job could not be taken".into());
    }
    let mut lives = JoinSet::new();
    for (job, notice) in jobs.into_iter().zip(batch) {
        let owner = Arc::clone(&owner);
        lives.spawn(async move { owner.live(job, notice).await });
    }
    while let Some(ended) = lives.join_next().await {
        ended??;
    }
    Ok(())
}

impl Owner {
    async fn live(&self, job: JobId, notice: Delivery) -> Result<(), Fault> {
        let (sender, mut replicas) = mpsc::unbounded_channel();
        lock(&self.waiting).insert(job.to_string(), sender);
        // Another group for each job, as if it was drawn.
        let first = usize::from(job.as_bytes()[15]);
        let assigned = (0..REPLICAS).map(|place| {
            let key = queues::node_queue((first + place) % self.nodes);
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
        let key = queues::COMPLETIONS.to_owned();
        let completion = self.bodies.completion.clone();
        self.publisher.publish(Parcel { exchange: "", key, id: job.to_string(), body: completion }).await?;
        notice.acker.ack(BasicAckOptions::default()).await?;
        for _ in QUORUM..REPLICAS {
            replicas.recv().await.ok_or("no more replicas")?;
        }
        lock(&self.waiting).remove(&job.to_string());
        Ok(self.ledger.post(job, &postings(&settlement), true).await?)
    }
}

/// Hands a verifier's replicas to the jobs that wait for them.
async fn collect(
    mut replicas: lapin::Consumer,
    waiting: Waiting<mpsc::UnboundedSender<()>>,
) -> Result<(), Fault> {
    while let Some(replica) = replicas.next().await {
        let replica = replica?;
        if let Some(job) = lock(&waiting).get(&message_id(&replica)?) {
            job.send(())?;
        }
        replica.acker.ack(BasicAckOptions::default()).await?;
    }
    Err("no more replicas".into())
}

/// A node: a replica for every assignment.
async fn answer(
    (node, publisher, mut assignments): (usize, Publisher, lapin::Consumer),
    bodies: Arc<Bodies>,
) -> Result<(), Fault> {
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = answers.join_next() => { ended??; }
            assignment = assignments.next() => {
                let assignment = assignment.ok_or("no more assignments")??;
                let (publisher, body) = (publisher.clone(), bodies.replica.clone());
                answers.spawn(async move {
                    let id = message_id(&assignment)?;
                    let (verifier, job) = id.split_once(':').ok_or("not an assignment of ours")?;
                    let (key, id) = (format!("n{node}.replica.{verifier}"), job.to_owned());
                    publisher.publish(Parcel { exchange: queues::EXCHANGE, key, id, body }).await?;
                    Ok::<_, Fault>(assignment.acker.ack(BasicAckOptions::default()).await?)
                });
            }
        }
    }
}

/// Wakes the clients whose jobs have ended.
async fn complete(
    mut completions: lapin::Consumer,
    waiting: Waiting<oneshot::Sender<()>>,
) -> Result<(), Fault> {
    while let Some(completion) = completions.next().await {
        let completion = completion?;
        if let Some(client) = lock(&waiting).remove(&message_id(&completion)?) {
            // A client that has given up has ended the run.
            let _ = client.send(());
        }
        completion.acker.ack(BasicAckOptions::default()).await?;
    }
    Err("no more completions".into())
}

async fn mark(
    ledger: Arc<PostgresLedger>,
    mut confirmed: mpsc::UnboundedReceiver<JobId>,
) -> Result<(), Fault> {
    let mut marks = Vec::with_capacity(MARKS_MAX);
    let mut ticks = tokio::time::interval(MARK_EVERY);
    loop {
        tokio::select! {
            taken = confirmed.recv_many(&mut marks, MARKS_MAX) => {
                if taken == 0 {
                    // The clients have gone; the run is about to end.
                    std::future::pending::<()>().await;
                }
            }
            _ = ticks.tick() => {}
        }
        if marks.len() >= MARKS_MAX {
            ledger.confirm(&marks, Timestamp::now()).await?;
            marks.clear();
        }
    }
}

fn message_id(delivery: &Delivery) -> Result<String, Fault> {
    let id = delivery.properties.message_id().as_ref();
    Ok(id.ok_or("a message without an id")?.to_string())
}

/// No section under these locks can panic halfway.
fn lock<T>(waiting: &Waiting<T>) -> std::sync::MutexGuard<'_, HashMap<String, T>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
