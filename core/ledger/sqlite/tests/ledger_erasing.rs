//! Tests that what is erased is in no file of the ledger: neither in pages that became free nor in the log.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;
use std::time::Duration;

use infera_ledger::{
    ArchiveIndex as _, Erasing as _, ErasureOrders as _, JobIntake as _, JobOwner as _, Keeping, Metadata,
    NewJob, Notice, Pruning as _, RecordPlace, Room, Standby,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, Digest, GatewayId, JobId, ModelName, NodeId, SegmentId, VerifierId};
use infera_types::job::{
    Answer, End, FinishReason, ReplicaCounts, Settlement, Verification, VerificationPolicy,
    VerificationStatus,
};
use infera_types::time::Timestamp;

/// Words of texts that are erased, and of texts that stay.
const GONE: &str = "canary-that-is-to-go-5d41402a";
const STAYS: &str = "canary-that-is-to-stay-9b74c989";

/// Lengths of texts: those that fit into a page with others, and those that take pages of their own.
const LENGTHS: [usize; 6] = [40, 300, 1_500, 4_000, 20_000, 150_000];

fn now() -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000)
}

/// A text of some length with the word in many of its places.
fn text(word: &str, length: usize) -> String {
    let mut text = String::new();
    while text.len() < length {
        text += word;
        text.push(' ');
    }
    text
}

/// Runs one job from its acceptance to its answer, with the word in all that a client and nodes say.
async fn live(ledger: &SqliteLedger, word: &str, length: usize) -> NewJob {
    let account = AccountId::new("accterasing");
    let metadata: Metadata = [("label".to_owned(), word.to_owned())].into_iter().collect();
    let job = NewJob {
        id: JobId::new(),
        choice: Choice::ONLY,
        shows_tokens: false,
        key: None,
        account: account.clone(),
        model: ModelName::new("m"),
        request: format!("{{\"text\":\"{}\"}}", text(word, length)).into_bytes(),
        policy: VerificationPolicy::default(),
        gateway: GatewayId::new("g"),
        synchronous: false,
        accepted_ms: now(),
        deadline_ms: now().after(Duration::from_secs(3_600)),
        epoch: 1,
        idempotency: None,
        waiting_max: u32::MAX,
        room: Room::UNBOUNDED,
        standby: Standby::never_held(&account),
        metadata,
        keeping: Keeping::default(),
        charge: None,
    };
    ledger.accept(job.clone()).await.expect("accept");
    let owner = VerifierId::fresh();
    ledger.take(&owner, &[Notice::together(job.id, false)], now()).await.expect("take");
    let answer = Answer {
        text: text(word, length / 2),
        tokens: vec![1, 2, 3],
        finish_reason: FinishReason::Stop,
        prompt_tokens: 1,
        cached_tokens: 0,
        numbers: Vec::new(),
        spelled: Vec::new(),
        node: NodeId::new("n"),
        model: None,
    };
    let verification = Verification {
        status: VerificationStatus::Unverified,
        replicas: ReplicaCounts { asked: 1, answered: 1, agreed: 1 },
        rung: None,
        numbers: None,
        thresholds: "1".to_owned(),
        backstop: None,
    };
    let settlement = Settlement {
        job_id: job.id,
        account,
        model: job.model.clone(),
        gateway: job.gateway.clone(),
        end: End::Succeeded { answer, verification },
        group: None,
        settled_ms: now(),
    };
    ledger.settle(&settlement).await.expect("settle");
    job
}

/// Archives all that has ended, and prunes it.
async fn archive_and_prune(ledger: &SqliteLedger) {
    loop {
        let segment = SegmentId::new();
        let claimed = ledger.claim(segment, 1_000, now(), now()).await.expect("claim");
        if claimed.is_empty() {
            return;
        }
        let place = |(index, job): (u32, JobId)| RecordPlace {
            job,
            frame_offset: 0,
            frame_length: 9,
            index,
            hash: Digest::of(job.as_bytes()),
        };
        let places: Vec<_> = (0..).zip(claimed.iter().map(|record| record.job_id)).map(place).collect();
        ledger.record(segment, "jobs/one", &places).await.expect("record");
        ledger.prune(segment).await.expect("prune");
    }
}

/// Counts how often a word is in the files of a folder.
fn count(folder: &Path, word: &str) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        count += bytes.windows(word.len()).filter(|window| *window == word.as_bytes()).count();
    }
    count
}

#[tokio::test]
async fn what_is_erased_is_in_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    let mut gone = Vec::new();
    for round in 0..3 {
        for _ in 0..8 {
            for length in LENGTHS {
                gone.push(live(&ledger, GONE, length).await);
                live(&ledger, STAYS, length).await;
            }
        }
        // Some were pruned long before they are erased.
        if round == 0 {
            archive_and_prune(&ledger).await;
        }
    }
    let before = (count(folder.path(), GONE), count(folder.path(), STAYS));
    assert!(before.0 > 1_000 && before.1 > 1_000, "{before:?}");
    for job in &gone {
        ledger.erase_job(Some(&job.account), job.id, now()).await.expect("an order");
    }
    let mut erased = 0;
    loop {
        let more = ledger.erase_text(100, now()).await.expect("erasing");
        if more == 0 {
            break;
        }
        erased += more;
    }
    assert_eq!(usize::try_from(erased).expect("a number"), gone.len());
    assert_eq!(count(folder.path(), GONE), 0, "while the ledger is open");
    assert!(count(folder.path(), STAYS) > 1_000, "its neighbours are whole");
    drop(ledger);
    assert_eq!(count(folder.path(), GONE), 0, "and once it is closed");
    SqliteLedger::open(&path).expect("it is sound");
}
