//! Tests that takes which wait for each other share a statement and still get their own outcomes.

use std::sync::Arc;
use std::time::Duration;

use infera_ledger::{JobIntake as _, JobOwner as _, LedgerError, Notice, Sweeping as _, Take};
use infera_ledger_postgres::PostgresLedger;
use infera_types::ids::{AccountId, JobId, VerifierId};
use infera_types::job::End;
use tokio::task::{JoinHandle, JoinSet};

use super::schema::{Schema, connect, server};
use super::{ended, new_job, now};

/// Begins a transaction whose locks end by themselves after a while, because a failed test could not drop its schema
/// otherwise.
const BEGIN: &str = "SET idle_in_transaction_session_timeout = '20s'; BEGIN";

type Taken = Result<Vec<Take>, LedgerError>;

/// A take that waits in the database for a locked row; others wait behind it until the lock is released.
struct HeldUp {
    holder: tokio_postgres::Client,
    take: JoinHandle<Taken>,
}

impl HeldUp {
    async fn begin(schema: &Schema, ledger: &Arc<PostgresLedger>, owner: &VerifierId, job: JobId) -> Self {
        let holder = connect(&schema.within(&server())).await;
        holder.batch_execute(BEGIN).await.expect("a transaction");
        let lock = "SELECT pg_backend_pid() FROM jobs WHERE id = $1 FOR UPDATE";
        let pid: i32 = holder.query_one(lock, &[&&job.as_bytes()[..]]).await.expect("the lock").get(0);
        let take = tokio::spawn(take(Arc::clone(ledger), owner.clone(), job, false));
        let held_up =
            format!("SELECT COUNT(*) FROM pg_stat_activity WHERE {pid} = ANY(pg_blocking_pids(pid))");
        let waits = async { while schema.number(&held_up).await == 0 {} };
        tokio::time::timeout(Duration::from_secs(4), waits).await.expect("the take waits");
        Self { holder, take }
    }

    /// Releases the lock. A task that was spawned on this one thread waits in the lane once anything else was
    /// awaited.
    async fn let_go(self) {
        self.holder.batch_execute("SELECT 1; ROLLBACK").await.expect("the lock goes");
        assert!(matches!(self.take.await.expect("no panic").as_deref(), Ok([Take::Taken(_)])));
    }
}

async fn take(ledger: Arc<PostgresLedger>, owner: VerifierId, job: JobId, redelivered: bool) -> Taken {
    ledger.take(&owner, &[Notice::together(job, redelivered)], now()).await
}

async fn accepted(ledger: &PostgresLedger, count: usize) -> Vec<JobId> {
    let account = AccountId::fresh();
    let mut jobs = Vec::new();
    for _ in 0..count {
        let job = new_job(&account);
        jobs.push(job.id);
        ledger.accept(job).await.expect("accept");
    }
    jobs
}

/// Makes an owner with a long lease.
async fn alive(ledger: &PostgresLedger) -> VerifierId {
    let owner = VerifierId::fresh();
    let leased = ledger.lease(owner.as_str(), &owner, now(), Duration::from_secs(60)).await;
    assert!(leased.expect("a lease"));
    owner
}

/// When a row turns out to be unreadable, all jobs are already taken: if the statement were run again for the others,
/// it would find their jobs taken and return them to no caller.
#[tokio::test]
async fn an_unreadable_job_leaves_those_that_are_taken_with_it() {
    const UNREADABLE: usize = 3;
    let schema = Schema::make().await;
    let ledger = schema.ledger().await;
    let (owner, mut jobs) = (alive(&ledger).await, accepted(&ledger, 9).await);
    let client = connect(&schema.within(&server())).await;
    let spoil = "UPDATE jobs SET misses = '{' WHERE id = $1";
    assert_eq!(client.execute(spoil, &[&&jobs[UNREADABLE].as_bytes()[..]]).await.expect("update"), 1);

    let first = jobs.pop().expect("the last of them");
    let held_up = HeldUp::begin(&schema, &ledger, &owner, first).await;
    let mut others = JoinSet::new();
    for (place, job) in jobs.into_iter().enumerate() {
        let taking = take(Arc::clone(&ledger), owner.clone(), job, false);
        others.spawn(async move { (place, job, taking.await) });
    }
    held_up.let_go().await;
    for (place, job, outcome) in others.join_all().await {
        match outcome.as_deref() {
            Ok([Take::Nothing(passed_by)]) if place == UNREADABLE => assert_eq!(*passed_by, job),
            Ok([Take::Taken(taken)]) if place != UNREADABLE => assert_eq!(taken.id, job),
            _ => panic!("{place}: {outcome:?}"),
        }
    }
    let statements = "SELECT COUNT(DISTINCT xmin::text) FROM jobs";
    assert_eq!(schema.number(statements).await, 2, "the others shared one");
    assert_eq!(schema.number("SELECT COUNT(*) FROM jobs WHERE handouts <> 1").await, 0, "each once");
}

/// A verifier that gave up while its take waited must not get a job that another one took meanwhile.
#[tokio::test]
async fn a_take_whose_caller_has_gone_takes_nothing() {
    let schema = Schema::make().await;
    let (ledger, other_ledger) = (schema.ledger().await, schema.ledger().await);
    let (owner, other) = (alive(&ledger).await, alive(&ledger).await);
    let jobs = accepted(&ledger, 2).await;
    let held_up = HeldUp::begin(&schema, &ledger, &owner, jobs[0]).await;
    let gone = tokio::spawn(take(Arc::clone(&ledger), owner.clone(), jobs[1], true));
    // When this is answered, the other take is waiting in the lane.
    let taken = take(other_ledger, other.clone(), jobs[1], false).await;
    assert!(matches!(taken.as_deref(), Ok([Take::Taken(_)])), "{taken:?}");
    gone.abort();
    assert!(gone.await.expect_err("aborted").is_cancelled());
    held_up.let_go().await;
    // By now the lane has processed the abandoned take.
    let again = take(ledger, owner, jobs[0], false).await;
    assert!(matches!(again.as_deref(), Ok([Take::Nothing(_)])), "{again:?}");
    let others = format!("SELECT COUNT(*) FROM jobs WHERE owner = '{}' AND handouts = 1", other.as_str());
    assert_eq!(schema.number(&others).await, 1);
}

/// Of two notices, only the redelivered one may take a job that a live owner has lost.
#[tokio::test]
async fn a_redelivered_notice_keeps_its_right_beside_another() {
    let schema = Schema::make().await;
    let ledger = schema.ledger().await;
    let (owner, other) = (alive(&ledger).await, alive(&ledger).await);
    let jobs = accepted(&ledger, 2).await;
    let before = take(Arc::clone(&ledger), other, jobs[1], false).await;
    assert!(matches!(before.as_deref(), Ok([Take::Taken(_)])), "{before:?}");

    let held_up = HeldUp::begin(&schema, &ledger, &owner, jobs[0]).await;
    let twin = tokio::spawn(take(Arc::clone(&ledger), owner.clone(), jobs[1], false));
    let redelivered = tokio::spawn(take(Arc::clone(&ledger), owner, jobs[1], true));
    held_up.let_go().await;
    let (twin, redelivered) = (twin.await.expect("no panic"), redelivered.await.expect("no panic"));
    assert!(matches!(twin.as_deref(), Ok([Take::Nothing(_)])), "{twin:?}");
    assert!(matches!(redelivered.as_deref(), Ok([Take::Taken(_)])), "{redelivered:?}");
}

/// If a verifier were told that nothing was taken, it would ask for the job again as if for the first time, and then
/// leave it.
#[tokio::test]
async fn jobs_are_taken_though_the_ends_of_others_cannot_be_read() {
    let schema = Schema::make().await;
    let ledger = schema.ledger().await;
    let (owner, account) = (alive(&ledger).await, AccountId::fresh());
    let (fresh, over) = (new_job(&account), new_job(&account));
    for job in [&fresh, &over] {
        ledger.accept(job.clone()).await.expect("accept");
    }
    ledger.settle(&ended(&over, End::Expired)).await.expect("settle");
    let notices = [&fresh, &over].map(|job| Notice::together(job.id, false));
    let holder = connect(&schema.within(&server())).await;
    holder.batch_execute(BEGIN).await.expect("a transaction");
    holder.batch_execute("LOCK TABLE settlements").await.expect("the lock");
    let takes = ledger.take(&owner, &notices, now()).await;
    assert!(matches!(takes, Err(LedgerError::Unknown(_))), "{takes:?}");
    holder.batch_execute("ROLLBACK").await.expect("the lock goes");
    let notices = notices.map(|notice| Notice { redelivered: true, ..notice });
    let takes = ledger.take(&owner, &notices, now()).await;
    assert!(matches!(takes.as_deref(), Ok([Take::Taken(_), Take::Settled(_)])), "{takes:?}");
}
