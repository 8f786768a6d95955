//! Damaged rows of the ledger: the end of a job for which a client waits, and a key.

use std::sync::Arc;
use std::time::Duration;

use infera_broker::memory::MemoryBroker;
use infera_gateway::jobs::{Damaged, Waiters};
use infera_gateway::{Gateway, Seams};
use infera_ledger::{JobIntake as _, JobOwner as _, Metadata, NewJob, Room, Standby};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, GatewayId, JobId, ModelName, NodeId};
use infera_types::job::{
    Answer, End, FinishReason, ReplicaCounts, Settlement, Verification, VerificationPolicy,
    VerificationStatus,
};
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::client::send;
use crate::support::rig::{new_key, unlimited};

async fn ended(ledger: &SqliteLedger, text: &str) -> JobId {
    let (now, account) = (Timestamp::from_millis(1_790_000_000_000), AccountId::fresh());
    let job = NewJob {
        id: JobId::new(),
        choice: Choice::ONLY,
        shows_tokens: false,
        key: None,
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
        standby: Standby::never_held(&account),
        metadata: Metadata::new(),
        keeping: infera_ledger::Keeping::default(),
        charge: None,
    };
    ledger.accept(job.clone()).await.expect("accept");
    let answer = Answer {
        text: text.to_owned(),
        tokens: vec![1],
        finish_reason: FinishReason::Stop,
        prompt_tokens: 1,
        cached_tokens: 0,
        numbers: Vec::new(),
        spelled: Vec::new(),
        node: NodeId::new("n"),
        model: None,
    };
    let verification = Verification {
        status: VerificationStatus::Verified,
        replicas: ReplicaCounts { asked: 3, answered: 3, agreed: 3 },
        rung: None,
        numbers: None,
        thresholds: "test".to_owned(),
        backstop: None,
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

/// Finds a job's packed settlement in a ledger's file: its id stands before it, with the time of its end between.
fn packed_settlement(file: &[u8], job: JobId) -> Option<usize> {
    const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
    let ids = file.windows(16).enumerate().filter(|(_, part)| *part == job.as_bytes());
    let mut frames = ids.filter_map(|(at, _)| {
        let near = file.get(at + 16..at + 32)?;
        near.windows(4).position(|part| part == ZSTD).map(|place| at + 16 + place)
    });
    frames.next()
}

/// The client whose job's record is damaged is told so at once; the others get their ends in the same poll.
#[tokio::test]
async fn a_damaged_end_is_told_and_keeps_no_other_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    let broken = ended(&ledger, "the answer is 42").await;
    let sound = ended(&ledger, "the answer is 43").await;
    drop(ledger);
    let mut bytes = std::fs::read(&path).expect("read");
    let at = packed_settlement(&bytes, broken).expect("it is stored");
    bytes[at + 40] ^= 1;
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

/// A damaged row can't be read later either, so the client must not be told to try again soon.
#[tokio::test]
async fn a_damaged_key_is_an_error_of_ours_and_not_a_ledger_that_is_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    let (account, key) = new_key(&ledger, "ada@example.com").await;
    drop(ledger);
    // The last four characters of a key follow its account, as a text.
    let mut bytes = std::fs::read(&path).expect("read");
    let stored = [account.as_str().as_bytes(), &key.as_bytes()[key.len() - 4..]].concat();
    let at = bytes.windows(stored.len()).position(|part| part == stored).expect("it is stored");
    bytes[at + stored.len() - 1] = 0xff;
    std::fs::write(&path, &bytes).expect("write");

    let ledger = SqliteLedger::open(&path).expect("its structure is sound");
    let seams = Seams {
        intake: ledger.clone(),
        reader: ledger.clone(),
        batches: ledger.clone(),
        lists: ledger.clone(),
        accounts: ledger.clone(),
        keys: ledger.clone(),
        erasures: ledger.clone(),
        network: Arc::clone(&ledger) as _,
        roster: Arc::clone(&ledger) as _,
        node_reader: Arc::clone(&ledger) as _,
        groups: Arc::clone(&ledger) as _,
        broker: MemoryBroker::new(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (address, shutdown) = (listener.local_addr().expect("an address"), Shutdown::new());
    let running = tokio::spawn(Gateway::new(unlimited(), seams).run(listener, shutdown.clone()));
    for path in ["/network_stats", "/v1/models"] {
        let reply = send(address, "GET", path, &[("api_key", &key)], b"").await.expect("a reply");
        assert_eq!((reply.status, reply.header("retry-after")), (500, None), "{path}");
        if path.starts_with("/v1") {
            assert_eq!(reply.json()["error"]["code"], json!("internal_error"));
        }
    }
    shutdown.cancel();
    running.await.expect("it drains");
}
