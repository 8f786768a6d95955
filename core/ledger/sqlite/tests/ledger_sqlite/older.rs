//! Opens a ledger of an earlier version.

use infera_ledger::{
    Accepted, AccountBook as _, Feeding as _, FirstKey, JobIntake as _, JobOwner as _, JobReader as _,
    NewJob, Room,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{AccountId, Digest};
use infera_types::job::{End, FailureReason, Settlement};

use super::{new_job, now, place, undoing};

/// In a ledger from before failures had a column of their own, poison is found as in any other.
#[tokio::test]
async fn an_older_ledgers_poison_is_found() {
    let (_folder, path) = place();
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    let account = AccountId::fresh();
    let first = FirstKey { hash: Digest::of(b"key"), hint: "abcd".to_owned() };
    ledger.sign_up("a@example.org", Some(first), now()).await.expect("an account");
    let waits = new_job(&account);
    ledger.accept(waits.clone()).await.expect("accept");
    let mut jobs = Vec::new();
    for reason in [FailureReason::NoConsensus, FailureReason::Poison] {
        let job = new_job(&account);
        ledger.accept(job.clone()).await.expect("accept");
        let NewJob { id: job_id, model, gateway, .. } = job;
        let end = End::Failed { reason, message: "\0".to_owned() };
        let settlement = Settlement {
            job_id,
            account: account.clone(),
            model,
            gateway,
            end,
            group: None,
            settled_ms: now(),
        };
        ledger.settle(&settlement).await.expect("settle");
        jobs.push(job_id);
    }
    drop(ledger);
    undoing::take_back(&path, 3);
    let ledger = SqliteLedger::open(&path).expect("it opens again");
    let found = ledger.poisoned(None, 9).await.expect("poison");
    assert_eq!(found.iter().map(|job| job.id).collect::<Vec<_>>(), jobs[1..]);
    // Jobs of before count as offered, and accounts of before as proven.
    let waiting = ledger.waiting(9).await.expect("what waits");
    assert_eq!(waiting.iter().map(|kind| (kind.offered, kind.held)).collect::<Vec<_>>(), [(1, 0)]);
    let key = ledger.key(Digest::of(b"key")).await.expect("the key").expect("it is there");
    assert!(key.proven && !key.may_prioritise && key.weight == 1, "{key:?}");
    ledger.cancel(&account, waits.id, now()).await.expect("cancel");
    // The migration counted its bodies.
    let full = NewJob { room: Room { account_max_bytes: 4_000, ..Room::UNBOUNDED }, ..new_job(&account) };
    let accepted = ledger.accept(full).await.expect("accept");
    assert_eq!(accepted, Accepted::NoRoomForAccount { stored: 3_072 });
    let full =
        NewJob { room: Room { all_max_bytes: 4_000, ..Room::UNBOUNDED }, ..new_job(&AccountId::fresh()) };
    assert_eq!(ledger.accept(full).await.expect("accept"), Accepted::NoRoom { stored: 3_072 });
}
