//! Clients that wait for a job whose stored end is damaged.

use std::time::Duration;

use infera_gateway::waiters::{Damaged, Waiters};
use infera_ledger::{JobIntake as _, JobOwner as _, NewJob, Room};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{AccountId, GatewayId, JobId, ModelName, NodeId};
use infera_types::job::{
    Answer, End, FinishReason, ReplicaCounts, Settlement, Verification, VerificationPolicy,
    VerificationStatus,
};
use infera_types::time::Timestamp;

async fn ended(ledger: &SqliteLedger, text: &str) -> JobId {
    let (now, account) = (Timestamp::from_millis(1_790_000_000_000), AccountId::fresh());
    let job = NewJob {
        id: JobId::new(),
        account: account.clone(),
        model: ModelName::new("m"),
        request: b"{}".to_vec(),
        policy: VerificationPolicy::default(),
        gateway: GatewayId::new("g"),
        synchronous: true,
        accepted_ms: now,
        deadline_ms: now.after(Duration::from_secs(60)),
        epoch: 1,
        idempotency: None,
        waiting_max: 9,
        room: Room::UNBOUNDED,
    };
    ledger.accept(job.clone()).await.expect("accept");
    let answer = Answer {
        text: text.to_owned(),
        tokens: vec![1],
        finish_reason: FinishReason::Stop,
        prompt_tokens: 1,
        node: NodeId::new("n"),
        model: None,
    };
    let verification = Verification {
        status: VerificationStatus::Verified,
        replicas: ReplicaCounts { asked: 3, answered: 3, agreed: 3 },
        rung: None,
        numbers: None,
        thresholds: "test".to_owned(),
    };
    let settlement = Settlement {
        job_id: job.id,
        account,
        model: job.model,
        gateway: job.gateway,
        end: End::Succeeded { answer, verification },
        group: None,
        settled_ms: now,
    };
    ledger.settle(&settlement).await.expect("settle");
    job.id
}

/// The one whose record is damaged is told so at once, and the others get their ends by the same look.
#[tokio::test]
async fn a_damaged_end_is_told_and_keeps_no_other_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    let broken = ended(&ledger, "the answer is 42").await;
    let sound = ended(&ledger, "the answer is 43").await;
    drop(ledger);
    let mut bytes = std::fs::read(&path).expect("read");
    let stored = b"the answer is 42";
    let at = bytes.windows(stored.len()).position(|part| part == stored).expect("it is stored");
    bytes[at] = b'T';
    std::fs::write(&path, &bytes).expect("write");

    let ledger = SqliteLedger::open(&path).expect("its structure is sound");
    let waiters = Waiters::new(9);
    let [mut told, mut answered, running] =
        [broken, sound, JobId::new()].map(|job| waiters.begin(job).expect("room"));
    waiters.poll(&*ledger).await.expect("the ledger answers");
    assert_eq!(told.end().await, Err(Damaged));
    assert_eq!(answered.end().await.map(|end| end.job_id), Ok(sound));
    assert_eq!(waiters.len(), 1, "the one that runs");
    drop(running);
}
