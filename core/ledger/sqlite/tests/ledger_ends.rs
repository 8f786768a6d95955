//! Tests what a ledger of an earlier version shows of its jobs once this one has opened it.

#[path = "support/undoing.rs"]
mod undoing;

use std::time::Duration;

use infera_ledger::{
    Accepted, BatchCancelled, EndKind, EndsQuestion, JobBatches as _, JobFilter, JobIntake as _,
    JobLists as _, JobReader as _, JobsQuestion, Metadata, NewJob, Room, Standby,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, GatewayId, JobId, ModelName};
use infera_types::job::VerificationPolicy;
use infera_types::time::Timestamp;

fn now() -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000)
}

fn new_job(account: &AccountId) -> NewJob {
    NewJob {
        id: JobId::new(),
        choice: Choice::ONLY,
        shows_tokens: false,
        key: None,
        account: account.clone(),
        model: ModelName::new("m"),
        request: b"{}".to_vec(),
        policy: VerificationPolicy::default(),
        gateway: GatewayId::new("g"),
        synchronous: false,
        accepted_ms: now(),
        deadline_ms: now().after(Duration::from_secs(3_600)),
        epoch: 1,
        idempotency: None,
        waiting_max: u32::MAX,
        room: Room::UNBOUNDED,
        standby: Standby::never_held(account),
        metadata: Metadata::new(),
        keeping: infera_ledger::Keeping::default(),
        charge: None,
    }
}

/// Jobs that had not ended are listed and cancelled as any other, and their ends are read; what had ended is read by its
/// id, and cancelling it changes nothing.
#[tokio::test]
async fn an_older_ledgers_live_jobs_are_listed_and_their_ends_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    let account = AccountId::fresh();
    let (ended, live) = (new_job(&account), new_job(&account));
    for job in [&ended, &live] {
        assert_eq!(ledger.accept(job.clone()).await.expect("accept"), Accepted::New { is_held: false });
    }
    ledger.cancel(&account, ended.id, now()).await.expect("cancel");
    drop(ledger);
    undoing::take_back(&path, 10);

    let ledger = SqliteLedger::open(&path).expect("it opens again");
    let question = JobsQuestion {
        account: account.clone(),
        filter: JobFilter::default(),
        after: None,
        newest_first: true,
        limit: 9,
    };
    let listed = ledger.list(&question).await.expect("a list");
    assert_eq!(listed.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [live.id]);
    let view = ledger.job(&account, ended.id).await.expect("a job").expect("it is known");
    assert!(view.settlement.is_some() && view.metadata.is_empty());
    let outcomes = ledger.cancel_all(&account, &[live.id, ended.id], now()).await.expect("cancel");
    assert!(matches!(outcomes[..], [BatchCancelled::Now(_), BatchCancelled::Before(EndKind::Cancelled)]));
    let question = EndsQuestion { account, after: 0, limit: 9, bytes_max: u64::MAX };
    let ends = ledger.ends(&question).await.expect("ends");
    assert_eq!(ends.iter().map(|end| end.job).collect::<Vec<_>>(), [live.id]);
}
