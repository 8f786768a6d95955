//! The ledger alone: how many jobs it accepts, how long one commit takes, and how many jobs' lives it records.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_ledger::{Accepted, JobIntake as _, JobOwner as _, Notice, Settled, Sweeping as _, Take};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{AccountId, JobId, VerifierId};
use infera_types::time::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use infera_bench::Fault;
use infera_bench::fixtures::{Asker, postings};
use infera_bench::measure::{as_f64, cpu_time, cpu_us_each};

/// A ledger of its own, and an account whose jobs fill it.
#[derive(Clone)]
pub(crate) struct Bench {
    ledger: Arc<SqliteLedger>,
    asker: Asker,
    verifier: VerifierId,
}

/// The commits that one caller waits for, and how long each takes.
#[derive(Default)]
pub(crate) struct Commits {
    pub(crate) accept: Vec<Duration>,
    pub(crate) take: Vec<Duration>,
    pub(crate) settle: Vec<Duration>,
}

/// The most marks of a commit; they are gathered and committed together, as the gateway's publisher does.
const MARKS_MAX: usize = 256;
const MARK_EVERY: Duration = Duration::from_millis(200);

impl Bench {
    pub(crate) async fn open(folder: &Path) -> Result<Self, Fault> {
        let path = folder.join("alone.sqlite");
        let ledger = tokio::task::spawn_blocking(move || SqliteLedger::open(&path)).await??;
        let verifier = VerifierId::fresh();
        let ttl = Duration::from_secs(24 * 3600);
        ledger.lease(verifier.as_str(), &verifier, Timestamp::now(), ttl).await?;
        Ok(Self { ledger, asker: Asker::new(AccountId::fresh(), 1)?, verifier })
    }

    /// Returns how many jobs per second `callers` callers get accepted, while the notices of accepted jobs are marked
    /// as confirmed; and the CPU time of each in microseconds.
    pub(crate) async fn accepts(&self, callers: usize, span: Duration) -> Result<(f64, Option<f64>), Fault> {
        let (accepted, marks) = mpsc::unbounded_channel();
        let marking = tokio::spawn(mark(Arc::clone(&self.ledger), marks));
        let (cpu_before, end) = (cpu_time(), Instant::now() + span);
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (bench, accepted) = (self.clone(), accepted.clone());
            tasks.spawn(async move {
                let mut count = 0;
                while Instant::now() < end {
                    let job = bench.asker.job();
                    let id = job.id;
                    if bench.ledger.accept(job).await? != (Accepted::New { is_held: false }) {
                        return Err("a new job was not accepted as new".into());
                    }
                    accepted.send(id)?;
                    count += 1;
                }
                Ok::<usize, Fault>(count)
            });
        }
        drop(accepted);
        let mut count = 0;
        while let Some(ended) = tasks.join_next().await {
            count += ended??;
        }
        marking.await??;
        Ok((as_f64(count) / span.as_secs_f64(), cpu_us_each(cpu_before, count)))
    }

    /// Measures the commits that a synchronous request waits for, one after the other by one caller.
    pub(crate) async fn one_by_one(&self, span: Duration) -> Result<Commits, Fault> {
        let mut commits = Commits::default();
        let end = Instant::now() + span;
        while Instant::now() < end {
            let (job, begun) = (self.asker.job(), Instant::now());
            let id = job.id;
            self.ledger.accept(job).await?;
            let accepted = Instant::now();
            self.take(id).await?;
            let taken = Instant::now();
            let settlement = self.asker.settlement(id, &self.verifier);
            let settling = Instant::now();
            if self.ledger.settle(&settlement).await? != Settled::Now {
                return Err("a job ended twice".into());
            }
            commits.accept.push(accepted - begun);
            commits.take.push(taken - accepted);
            commits.settle.push(settling.elapsed());
        }
        Ok(commits)
    }

    /// Returns how many lives of jobs per second the ledger records for `callers` verifiers' tasks: take, settle,
    /// post. The jobs are accepted before the time begins.
    pub(crate) async fn lives(&self, jobs: usize, callers: usize) -> Result<f64, Fault> {
        let ids = accept_all(&self.ledger, &self.asker, jobs).await?;
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for share in ids.chunks(jobs.div_ceil(callers)) {
            let (bench, share) = (self.clone(), share.to_vec());
            tasks.spawn(async move {
                for id in share {
                    bench.take(id).await?;
                    let settlement = bench.asker.settlement(id, &bench.verifier);
                    bench.ledger.settle(&settlement).await?;
                    bench.ledger.post(id, &postings(&settlement), true).await?;
                }
                Ok::<(), Fault>(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(as_f64(jobs) / begun.elapsed().as_secs_f64())
    }

    async fn take(&self, job: JobId) -> Result<(), Fault> {
        let notices = [Notice::together(job, false)];
        let takes = self.ledger.take(&self.verifier, &notices, Timestamp::now()).await?;
        if matches!(takes[..], [Take::Taken(_)]) { Ok(()) } else { Err("a job could not be taken".into()) }
    }
}

/// Accepts this many `jobs` as fast as possible, and returns their ids.
pub(crate) async fn accept_all(
    ledger: &Arc<SqliteLedger>,
    asker: &Asker,
    jobs: usize,
) -> Result<Vec<JobId>, Fault> {
    /// The number of callers, enough to fill commits.
    const CALLERS: usize = 64;
    let mut tasks = JoinSet::new();
    for caller in 0..CALLERS {
        let (ledger, asker) = (Arc::clone(ledger), asker.clone());
        let share = jobs / CALLERS + usize::from(caller < jobs % CALLERS);
        tasks.spawn(async move {
            let mut ids = Vec::with_capacity(share);
            for _ in 0..share {
                let job = asker.job();
                ids.push(job.id);
                ledger.accept(job).await?;
            }
            Ok::<_, Fault>(ids)
        });
    }
    let mut ids = Vec::with_capacity(jobs);
    while let Some(ended) = tasks.join_next().await {
        ids.extend(ended??);
    }
    Ok(ids)
}

async fn mark(ledger: Arc<SqliteLedger>, mut accepted: mpsc::UnboundedReceiver<JobId>) -> Result<(), Fault> {
    let mut marks = Vec::with_capacity(MARKS_MAX);
    loop {
        let room = MARKS_MAX - marks.len();
        let more = tokio::time::timeout(MARK_EVERY, accepted.recv_many(&mut marks, room)).await;
        let is_over = more == Ok(0);
        if is_over || more.is_err() || marks.len() == MARKS_MAX {
            if !marks.is_empty() {
                ledger.confirm(&marks, Timestamp::now()).await?;
                marks.clear();
            }
            if is_over {
                return Ok(());
            }
        }
    }
}
