//! Opens a ledger of an earlier version.

use infera_ledger::{
    Accepted, AccountBook as _, ArchiveIndex as _, Feeding as _, FirstKey, JobIntake as _, JobOwner as _,
    JobReader as _, NewJob, Posting, PostingEntry, Room, Settled, Standing as _, Sweeping as _, Verdict,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{AccountId, AssignmentId, Digest, NodeId, SegmentId};
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

/// Rows that programs of before wrote as text are read as they were, and what was posted then is not posted again.
#[tokio::test]
async fn an_older_ledgers_groups_and_postings_are_read_and_posted_once() {
    let (_folder, path) = place();
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    let account = AccountId::fresh();
    let job = new_job(&account);
    ledger.accept(job.clone()).await.expect("accept");
    let node = NodeId::fresh();
    let assignment = AssignmentId::new();
    let settlement: Settlement = serde_json::from_value(serde_json::json!({
        "job_id": job.id, "account": account, "model": job.model, "gateway": job.gateway, "settled_ms": now(),
        "end": { "status": "succeeded", "verification": {
            "status": "unverified", "replicas": { "asked": 1, "answered": 1, "agreed": 1 }, "thresholds": "1",
        }, "answer": {
            "text": "12", "tokens": [4, 8], "finish_reason": "stop", "prompt_tokens": 11, "node": node,
        } },
        "group": {
            "verifier": "v", "deadline_ms": now(), "temperature": 0.5, "sample_key": Digest::of(b"key"),
            "assignments": [{
                "id": assignment, "node": node, "owner": "anonymous", "state": "answered", "sent_ms": now(),
                "budget_ms": 9, "replica": {
                    "tokens": [4, 8], "numbers": [{ "top": [[4, 1.5]], "log_sum_exp": 2.5 }],
                    "numeric_class": {
                        "model_digest": Digest::of(b"model"), "provider": "cpu", "hardware": "h", "runtime": "r",
                        "compute": "fp32",
                    }, "arrived_ms": now(), "prompt_tokens": 11, "sound": true,
                },
            }],
        },
    }))
    .expect("a settlement");
    ledger.settle(&settlement).await.expect("settle");
    let posting = |assignment: AssignmentId, verdict| Posting {
        id: format!("verdict:{assignment}"),
        job_id: job.id,
        posted_ms: now(),
        entry: PostingEntry::Verdict {
            node: node.clone(),
            model: job.model.clone(),
            verdict,
            millipoints: 500,
            elapsed_ms: 1,
            tokens: 2,
            on_time: true,
            numbers_outside: false,
            is_for_chosen_nodes: false,
        },
    };
    let (paid, missed) = (posting(assignment, Verdict::Valid), posting(AssignmentId::new(), Verdict::Missed));
    ledger.post(job.id, &[paid.clone(), missed.clone()], false).await.expect("post");
    drop(ledger);
    undoing::take_back(&path, 18);
    let is_text = "SELECT COUNT(*) FROM postings WHERE typeof(id) = 'text' AND typeof(entry) = 'text'";
    let connection = rusqlite::Connection::open(&path).expect("a database");
    assert_eq!(connection.query_row(is_text, [], |row| row.get::<_, i64>(0)).expect("a count"), 3);
    drop(connection);

    let ledger = SqliteLedger::open(&path).expect("it opens again");
    let group = ledger.groups(&[job.id]).await.expect("groups").pop().expect("a group");
    assert_eq!(group.settlement, settlement);
    assert_eq!(ledger.settle(&settlement).await.expect("settle"), Settled::Before(settlement.clone()));
    // The same once more, and the same work under another assignment, as a second verifier posts it.
    let again = posting(AssignmentId::new(), Verdict::Valid);
    ledger.post(job.id, &[paid.clone(), missed.clone(), again], true).await.expect("post");
    while ledger.project(9, now()).await.expect("project") > 0 {}
    let balance = ledger.balance(node.as_str()).await.expect("a balance");
    assert_eq!((balance.postings, balance.millipoints), (2, 1_000));
    assert_eq!(ledger.replay().await.expect("replay").len(), 2, "the node and the account");
    let record =
        ledger.claim(SegmentId::new(), 9, now(), now()).await.expect("claim").pop().expect("a record");
    assert_eq!((&record.postings[1..], record.settlement), (&[paid, missed][..], settlement));
}
