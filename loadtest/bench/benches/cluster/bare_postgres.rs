//! PostgreSQL alone, by tokio-postgres: it writes the rows of accepted jobs in batches of what waits, and after them
//! the marks of confirmed notices; and a loop commits single rows at a given rate. It checks nothing: no limit of an
//! account, no idempotency, no job that is sent twice. The tables and their indexes are the ledger's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_ledger::NewJob;
use infera_types::ids::JobId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};

use infera_bench::Fault;
use infera_bench::fixtures::Asker;
use infera_bench::measure::as_f64;
use infera_bench::schedule::Schedule;

/// The most rows of a transaction, the same as the ledger's.
const BATCH_MAX: usize = 512;
/// The most marks of a commit; they are gathered and committed together, as the gateway's publisher does.
const MARKS_MAX: usize = 256;
const MARK_EVERY: Duration = Duration::from_millis(200);
/// Connections of the loop of single commits: enough that one slow commit delays no arrival.
const COMMITTERS: usize = 32;

const INSERT: &str = "INSERT INTO jobs (id, account, model, request, quorum, replicas, gateway, synchronous,
        accepted_ms, deadline_ms, epoch, state, handouts, is_handed_out, lost_handouts, misses, unconfirmed_ms)
    SELECT id, $3, $4, request, 2, 3, $5, 0, $6, $7, 1, 0, 0, 0, 0, '[]', $6
    FROM unnest($1::bytea[], $2::bytea[]) AS jobs (id, request)";
const COUNT: &str = "INSERT INTO waiting (account, jobs) VALUES ($1, $2)
    ON CONFLICT (account) DO UPDATE SET jobs = waiting.jobs + excluded.jobs";
const MARK: &str = "UPDATE jobs SET unconfirmed_ms = NULL WHERE id = ANY($1)";

/// One connection with its statements.
struct Writer {
    client: Client,
    insert: Statement,
    count: Statement,
    mark: Statement,
}

impl Writer {
    async fn connect(url: &str) -> Result<Self, Fault> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        // The task ends with its client; the client reports its errors.
        tokio::spawn(connection);
        let insert = client.prepare(INSERT).await?;
        let (count, mark) = (client.prepare(COUNT).await?, client.prepare(MARK).await?);
        Ok(Self { client, insert, count, mark })
    }

    async fn rows(&self, jobs: &[&NewJob]) -> Result<(), Fault> {
        let Some(first) = jobs.first() else { return Ok(()) };
        let ids: Vec<&[u8]> = jobs.iter().map(|job| &job.id.as_bytes()[..]).collect();
        let requests: Vec<&[u8]> = jobs.iter().map(|job| &job.request[..]).collect();
        let words = [first.account.as_str(), first.model.as_str(), first.gateway.as_str()];
        let times = [first.accepted_ms, first.deadline_ms].map(|time| i64::try_from(time.as_millis()));
        let ([account, model, gateway], [accepted, deadline]) = (words, times);
        let (accepted, deadline) = (accepted?, deadline?);
        let values: [&(dyn ToSql + Sync); 7] =
            [&ids, &requests, &account, &model, &gateway, &accepted, &deadline];
        self.client.execute(&self.insert, &values).await?;
        Ok(())
    }

    /// Runs one transaction, sent without waiting between its statements.
    async fn accept(&self, jobs: &[&NewJob]) -> Result<(), Fault> {
        let Some(first) = jobs.first() else { return Ok(()) };
        let (account, more) = (first.account.as_str(), i64::try_from(jobs.len())?);
        let count: [&(dyn ToSql + Sync); 2] = [&account, &more];
        let (begun, rows, counted, committed) = tokio::join!(
            biased;
            self.client.batch_execute("BEGIN"),
            self.rows(jobs),
            self.client.execute(&self.count, &count),
            self.client.batch_execute("COMMIT"),
        );
        begun?;
        rows?;
        counted?;
        Ok(committed?)
    }

    async fn mark(&self, jobs: &[JobId]) -> Result<(), Fault> {
        let ids: Vec<&[u8]> = jobs.iter().map(|job| &job.as_bytes()[..]).collect();
        self.client.execute(&self.mark, &[&ids]).await?;
        Ok(())
    }
}

type Waiting = (NewJob, oneshot::Sender<JobId>);

/// A database with the ledger's tables that nothing else uses.
pub(crate) struct BarePostgres {
    url: String,
    asker: Asker,
    committers: Vec<Arc<Writer>>,
}

impl BarePostgres {
    pub(crate) async fn open(url: &str, asker: Asker) -> Result<Self, Fault> {
        let mut committers = Vec::with_capacity(COMMITTERS);
        for _ in 0..COMMITTERS {
            committers.push(Arc::new(Writer::connect(url).await?));
        }
        Ok(Self { url: url.to_owned(), asker, committers })
    }

    /// Returns how many rows of jobs are committed per second for `callers` callers, each of which waits for its own
    /// row before it sends the next.
    pub(crate) async fn accepts(&self, callers: usize, span: Duration) -> Result<f64, Fault> {
        let (sender, waiting) = mpsc::channel::<Waiting>(callers);
        let (accepted, marks) = mpsc::unbounded_channel();
        let writing = tokio::spawn(write(Writer::connect(&self.url).await?, waiting, accepted));
        let marking = tokio::spawn(mark(Writer::connect(&self.url).await?, marks));
        let end = Instant::now() + span;
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (sender, asker) = (sender.clone(), self.asker.clone());
            tasks.spawn(async move {
                let mut count = 0_usize;
                while Instant::now() < end {
                    let (reply, committed) = oneshot::channel();
                    sender.send((asker.job(), reply)).await?;
                    committed.await?;
                    count += 1;
                }
                Ok::<usize, Fault>(count)
            });
        }
        drop(sender);
        let mut count = 0;
        while let Some(ended) = tasks.join_next().await {
            count += ended??;
        }
        writing.await??;
        marking.await??;
        Ok(as_f64(count) / span.as_secs_f64())
    }

    /// Returns how long single commits of one row take that arrive at this rate.
    pub(crate) async fn paced(&self, rate: f64, span: Duration) -> Result<Vec<Duration>, Fault> {
        let schedule = Arc::new(Schedule::new(rate, span));
        let mut tasks = JoinSet::new();
        for writer in &self.committers {
            let (writer, schedule, asker) = (Arc::clone(writer), Arc::clone(&schedule), self.asker.clone());
            tasks.spawn(async move {
                let mut times = Vec::new();
                while let Some(begun) = schedule.next().await {
                    writer.rows(&[&asker.job()]).await?;
                    times.push(begun.elapsed());
                }
                Ok::<_, Fault>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            times.extend(ended??);
        }
        Ok(times)
    }
}

async fn write(
    writer: Writer,
    mut waiting: mpsc::Receiver<Waiting>,
    accepted: mpsc::UnboundedSender<JobId>,
) -> Result<(), Fault> {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let jobs: Vec<&NewJob> = batch.iter().map(|(job, _)| job).collect();
        writer.accept(&jobs).await?;
        for (job, reply) in batch.drain(..) {
            accepted.send(job.id)?;
            // The send fails if the caller has seen the end of the span.
            let _ = reply.send(job.id);
        }
    }
    Ok(())
}

async fn mark(writer: Writer, mut accepted: mpsc::UnboundedReceiver<JobId>) -> Result<(), Fault> {
    let mut marks = Vec::with_capacity(MARKS_MAX);
    loop {
        let room = MARKS_MAX - marks.len();
        let more = tokio::time::timeout(MARK_EVERY, accepted.recv_many(&mut marks, room)).await;
        let is_over = more == Ok(0);
        if is_over || more.is_err() || marks.len() == MARKS_MAX {
            writer.mark(&marks).await?;
            marks.clear();
            if is_over {
                return Ok(());
            }
        }
    }
}
