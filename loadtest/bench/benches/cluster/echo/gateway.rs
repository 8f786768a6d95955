//! The echo's gateway with its clients: accept, mark, notice, and the completion that ends a job.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use infera_ledger::JobIntake as _;
use infera_ledger_postgres::PostgresLedger;
use infera_types::ids::JobId;
use infera_types::time::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::queues::{Deliveries, JOBS, Queues};
use super::{Part, READY, Role, message_id, say};
use crate::bodies::Bodies;
use crate::databases;
use crate::publisher::{Parcel, Publisher, ack, connect};
use infera_bench::Fault;
use infera_bench::fixtures::Asker;

/// The most marks of a commit; they are gathered and committed together, as the gateway's publisher does.
const MARKS_MAX: usize = 256;
const MARK_EVERY: Duration = Duration::from_millis(200);

/// How long a job may take; a slower one has lost a message, which ends the run.
const JOB_WITHIN: Duration = Duration::from_secs(30);

/// The client that each completion wakes.
type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<()>>>>;

/// Reports how many of the clients' jobs ended in the span, then waits until it is ended.
pub(super) async fn run(part: &Part) -> Result<(), Fault> {
    let Role::Gateway { index, clients, warm_up, span } = part.role else {
        return Err("not a gateway's part".into());
    };
    let ledger = databases::open(&part.database).await?;
    let asker = Asker::new(part.account.clone(), 1)?;
    let bodies = Arc::new(Bodies::new(&asker)?);
    let publishing = connect(&part.broker).await?;
    let publisher = Publisher::open(&publishing).await?;
    let consuming = Queues::over(connect(&part.broker).await?);
    let completions = consuming.completions(index).await?;
    let waiting = Waiting::default();
    let (marks, marked) = mpsc::unbounded_channel();
    let mut parts = JoinSet::new();
    parts.spawn(complete(completions, Arc::clone(&waiting)));
    parts.spawn(mark(Arc::clone(&ledger), marked));
    say(READY)?;
    let begin = Instant::now() + warm_up;
    let mut asking = JoinSet::new();
    for _ in 0..clients {
        let client = Client {
            gateway: index,
            publisher: publisher.clone(),
            ledger: Arc::clone(&ledger),
            waiting: Arc::clone(&waiting),
            marks: marks.clone(),
            asker: asker.clone(),
            bodies: Arc::clone(&bodies),
        };
        asking.spawn(async move { client.ask(begin, begin + span).await });
    }
    let mut count = 0;
    loop {
        tokio::select! {
            Some(failed) = parts.join_next() => {
                failed??;
                return Err("a gateway's part of the echo ended".into());
            }
            client = asking.join_next() => match client {
                Some(ended) => count += ended??,
                None => break,
            },
        }
    }
    say(&count.to_string())?;
    std::future::pending().await
}

/// A client, with what the gateway does for its jobs.
struct Client {
    gateway: usize,
    publisher: Publisher,
    ledger: Arc<PostgresLedger>,
    waiting: Waiting,
    marks: mpsc::UnboundedSender<JobId>,
    asker: Asker,
    bodies: Arc<Bodies>,
}

impl Client {
    /// Runs one job after the other; returns how many ended between `begin` and `end`.
    async fn ask(&self, begin: Instant, end: Instant) -> Result<usize, Fault> {
        let mut count = 0;
        while Instant::now() < end {
            let job = self.asker.job();
            let id = job.id;
            let (reply, completed) = oneshot::channel();
            lock(&self.waiting).insert(id.to_string(), reply);
            self.ledger.accept(job).await?;
            let notify = async {
                let (key, body) = (JOBS.to_owned(), self.bodies.notice.clone());
                // Names the gateway that the completion is for, which a real verifier reads in the job's row.
                let name = format!("{}:{id}", self.gateway);
                self.publisher.publish(Parcel { exchange: "", key, id: name, body }).await?;
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

/// Wakes the clients whose jobs have ended.
async fn complete(completions: Deliveries, waiting: Waiting) -> Result<(), Fault> {
    let Deliveries { channel, consumer: mut completions } = completions;
    while let Some(completion) = completions.next().await {
        let completion = completion?;
        if let Some(client) = lock(&waiting).remove(message_id(&completion)?) {
            // If the client has given up, the run has ended.
            let _ = client.send(());
        }
        ack(&channel, &completion)?;
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
        let is_due = tokio::select! {
            taken = confirmed.recv_many(&mut marks, MARKS_MAX) => {
                if taken == 0 {
                    return Err("nothing more to mark".into());
                }
                marks.len() >= MARKS_MAX
            }
            _ = ticks.tick() => !marks.is_empty(),
        };
        if is_due {
            ledger.confirm(&marks, Timestamp::now()).await?;
            marks.clear();
        }
    }
}

/// Locks the map. No section under this lock can panic halfway.
fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<String, oneshot::Sender<()>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
