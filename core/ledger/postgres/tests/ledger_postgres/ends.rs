//! Tests that a cursor in the ends of jobs skips none, although several processes commit them out of their order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use infera_ledger::{
    BatchAccepted, EndsCursor, EndsQuestion, JobBatches as _, JobLists as _, JobOwner as _, NewJob,
    Standing as _,
};
use infera_ledger_postgres::PostgresLedger;
use infera_types::ids::{AccountId, JobId};
use infera_types::job::End;
use tokio::task::JoinSet;

use super::schema::{Schema, connect, server};
use super::{ended, new_job, now};

/// Follows the account's ends until all were made and nothing is left.
async fn follow(ledger: Arc<PostgresLedger>, account: AccountId, over: Arc<AtomicBool>) -> Vec<JobId> {
    let (mut after, mut all) = (0, Vec::new());
    loop {
        let was_over = over.load(Ordering::Relaxed);
        let question = EndsQuestion { account: account.clone(), after, limit: 7, bytes_max: u64::MAX };
        let page = ledger.ends(&question).await.expect("a page");
        if page.is_empty() && was_over {
            return all;
        }
        for end in page {
            assert!(end.number > after, "numbers rise");
            after = end.number;
            all.push(end.job);
        }
    }
}

/// An end whose commit is slower than that of a later number is not skipped: until it is there, the later one isn't shown
/// either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_is_committed_late_is_not_skipped() {
    let schema = Schema::make().await;
    let ledger = schema.ledger().await;
    let account = AccountId::fresh();
    let (slow, quick) = (new_job(&account), new_job(&account));
    ledger.accept_all(vec![slow.clone(), quick.clone()]).await.expect("accept");
    // As a settlement does that takes the first number and whose commit is held up.
    let stranger = connect(&schema.within(&server())).await;
    let begin = format!(
        "BEGIN; SELECT pg_advisory_xact_lock_shared(1229866574, hashtext(current_schema()));
         INSERT INTO ends (account, job_id) VALUES ('{account}', '\\x{}')",
        slow.id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    );
    stranger.batch_execute(&begin).await.expect("a transaction");
    ledger.settle(&ended(&quick, End::Expired)).await.expect("settle");
    let projecting = tokio::spawn({
        let ledger = Arc::clone(&ledger);
        async move { ledger.project(1_000, now()).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let question = EndsQuestion { account: account.clone(), after: 0, limit: 7, bytes_max: u64::MAX };
    assert!(ledger.ends(&question).await.expect("a page").is_empty(), "the first is not there yet");
    let cursor = EndsCursor { account, after: 0 };
    let ready = ledger.ends_ready(&[cursor.clone()]).await.expect("counts");
    assert_eq!((ready[0].ends, ready[0].live), (0, 2), "an end that cannot be read yet counts as a live job");
    stranger.batch_execute("COMMIT").await.expect("a commit");
    projecting.await.expect("no panic").expect("project");
    let ends = ledger.ends(&question).await.expect("a page");
    assert_eq!(ends.iter().map(|end| end.job).collect::<Vec<_>>(), [slow.id, quick.id]);
    assert_eq!(ledger.ends_ready(&[cursor]).await.expect("counts")[0].ends, 2);
}

/// Three processes end jobs at once, each on connections of its own, while a projector shows what is complete and
/// readers follow their cursors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_of_several_processes_are_read_once() {
    const JOBS: usize = 600;
    let schema = Schema::make().await;
    let ledgers = [schema.ledger().await, schema.ledger().await, schema.ledger().await];
    let account = AccountId::fresh();
    let jobs: Vec<NewJob> = (0..JOBS).map(|_| new_job(&account)).collect();
    for many in jobs.chunks(200) {
        let accepted = ledgers[0].accept_all(many.to_vec()).await.expect("accept");
        assert!(matches!(accepted, BatchAccepted::Stored(stored) if stored.len() == 200));
    }
    let over = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for ledger in &ledgers {
        readers.spawn(follow(Arc::clone(ledger), account.clone(), Arc::clone(&over)));
    }
    let projector = tokio::spawn({
        let (ledger, over) = (Arc::clone(&ledgers[0]), Arc::clone(&over));
        async move {
            while !over.load(Ordering::Relaxed) {
                ledger.project(1_000, now()).await.expect("project");
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        }
    });
    let mut callers = JoinSet::new();
    for (number, job) in jobs.iter().cloned().enumerate() {
        let ledger = Arc::clone(&ledgers[number % 3]);
        callers.spawn(async move {
            if number.is_multiple_of(5) {
                ledger.cancel_all(&job.account, &[job.id], now()).await.expect("cancel");
            } else {
                ledger.settle(&ended(&job, End::Expired)).await.expect("settle");
            }
        });
    }
    callers.join_all().await;
    ledgers[1].project(1_000, now()).await.expect("project");
    over.store(true, Ordering::Relaxed);
    projector.await.expect("no panic");
    let mut expected: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    expected.sort_unstable();
    for mut read in readers.join_all().await {
        read.sort_unstable();
        assert_eq!(read.len(), JOBS, "each once, every one");
        assert_eq!(read, expected);
    }
}
