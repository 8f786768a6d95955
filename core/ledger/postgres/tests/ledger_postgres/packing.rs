//! Tests in which form rows are written: packed once no live verifier reads only the form of before, and read in both.

use std::time::Duration;

use infera_conformance::ledger::Halves;
use infera_ledger::{JobOwner as _, Posting, PostingEntry, Standing as _, Sweeping as _, Verdict};
use infera_types::ids::{AssignmentId, JobId, ModelName, NodeId, VerifierId};
use infera_types::time::Timestamp;

use super::{Schema, connect, server};

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

fn posting(job_id: JobId, verdict: Verdict) -> Posting {
    let entry = PostingEntry::Verdict {
        node: NodeId::fresh(),
        model: ModelName::new("m"),
        verdict,
        millipoints: 500,
        elapsed_ms: 250,
        tokens: 3,
        on_time: true,
        numbers_outside: false,
        is_for_chosen_nodes: false,
    };
    Posting { id: format!("verdict:{}", AssignmentId::new()), job_id, posted_ms: at(1), entry }
}

/// A verifier of the version before says nothing of what it reads.
const LEASE_OF_BEFORE: &str =
    "INSERT INTO leases (name, holder, until_ms, taken_ms) VALUES ('vold', 'vold', $1, $2)";

#[tokio::test]
async fn postings_are_packed_once_every_live_verifier_reads_them_so() {
    let schema = Schema::make().await;
    let ledger = schema.ledger().await;
    let client = connect(&schema.within(&server())).await;
    let (until, taken) = (1_790_000_005_000_i64, 1_790_000_000_000_i64);
    client.execute(LEASE_OF_BEFORE, &[&until, &taken]).await.expect("a lease");
    let verifier = VerifierId::fresh();
    let lease = async |now: u64| {
        let ttl = Duration::from_secs(60);
        assert!(ledger.lease(verifier.as_str(), &verifier, at(now), ttl).await.expect("a lease"));
    };
    let packed =
        async || schema.number("SELECT COUNT(*) FROM postings WHERE id IS NULL AND entry IS NULL").await;
    let plain =
        async || schema.number("SELECT COUNT(*) FROM postings WHERE key IS NULL AND line IS NULL").await;

    let job = JobId::new();
    let (paid, missed) = (posting(job, Verdict::Valid), posting(job, Verdict::Missed));
    ledger.post(job, &[paid.clone()], false).await.expect("post");
    lease(1_000).await;
    ledger.post(job, &[missed.clone()], false).await.expect("post");
    assert_eq!((plain().await, packed().await), (2, 0), "one that is alive can't read them");

    lease(6_000).await;
    let later = posting(job, Verdict::Valid);
    // What was posted before is not posted again, in whichever form, and no node is paid twice.
    let again = Posting { id: format!("verdict:{}", AssignmentId::new()), ..paid.clone() };
    for _ in 0..2 {
        let all = [paid.clone(), missed.clone(), again.clone(), later.clone()];
        ledger.post(job, &all, false).await.expect("post");
    }
    assert_eq!((plain().await, packed().await), (2, 1));

    // One of before that comes back finds what was posted meanwhile.
    client.execute("DELETE FROM leases WHERE name = 'vold'", &[]).await.expect("its end");
    let (until, taken) = (until + 60_000, taken + 6_000);
    client.execute(LEASE_OF_BEFORE, &[&until, &taken]).await.expect("a lease");
    lease(7_000).await;
    ledger.post(job, &[later.clone(), posting(job, Verdict::Neutral)], false).await.expect("post");
    assert_eq!((plain().await, packed().await), (3, 1));

    while ledger.project(9, at(9_000)).await.expect("project") > 0 {}
    for one in [&paid, &missed, &later] {
        let node = one.entry.node().expect("a node").as_str().to_owned();
        assert_eq!(ledger.balance(&node).await.expect("a balance").postings, 1, "{one:?}");
    }
    assert_eq!(ledger.replay().await.expect("replay").len(), 4);
}

/// The suite's sample group, in the form that the lease allows.
#[tokio::test]
async fn groups_are_packed_for_verifiers_that_read_them_so() {
    let schema = Schema::make().await;
    let ledger = schema.ledger().await;
    let halves = Halves::of(&ledger);
    infera_conformance::ledger::a_group_and_an_answer_come_back_to_the_bit(&halves).await;
    let forms = "SELECT COUNT(*) FROM groups WHERE get_byte(record, 0) = 1";
    assert_eq!(schema.number(forms).await, 1, "it is packed");
}
