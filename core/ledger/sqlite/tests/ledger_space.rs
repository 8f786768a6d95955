//! Tests that the ledger's file shrinks while the ledger runs, also a file of an earlier version.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use infera_ledger::{
    Accepted, ArchiveIndex as _, JobIntake as _, JobOwner as _, JobReader as _, Metadata, NewJob,
    Pruning as _, RecordPlace, Room, Standby,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, Digest, GatewayId, JobId, ModelName, SegmentId};
use infera_types::job::{End, Settlement, VerificationPolicy};
use infera_types::time::Timestamp;

const MIB: u64 = 1024 * 1024;

/// The free pages that stay in the file, and some MiB of rows.
const SPARE: u64 = 24 * MIB;

fn now() -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000)
}

/// Accepts and ends this many jobs of 200 kB.
async fn fill(ledger: &SqliteLedger, jobs: usize) -> Vec<NewJob> {
    let account = AccountId::new("acctspace");
    let mut filled = Vec::new();
    for _ in 0..jobs {
        let job = NewJob {
            id: JobId::new(),
            choice: Choice::ONLY,
            shows_tokens: false,
            key: None,
            account: account.clone(),
            model: ModelName::new("m"),
            request: vec![b'x'; 200_000],
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
            metadata: Metadata::new(),
            keeping: infera_ledger::Keeping::default(),
            charge: None,
        };
        assert_eq!(ledger.accept(job.clone()).await.expect("accept"), Accepted::New { is_held: false });
        let end = Settlement {
            job_id: job.id,
            account: account.clone(),
            model: job.model.clone(),
            gateway: job.gateway.clone(),
            end: End::Expired,
            group: None,
            settled_ms: now(),
        };
        ledger.settle(&end).await.expect("settle");
        filled.push(job);
    }
    filled
}

/// Records all ended jobs as archived. A segment holds a bounded number of bytes, so there are several.
async fn archive(ledger: &SqliteLedger) -> Vec<SegmentId> {
    let mut segments = Vec::new();
    loop {
        let segment = SegmentId::new();
        let claimed = ledger.claim(segment, 10_000, now(), now()).await.expect("claim");
        if claimed.is_empty() {
            return segments;
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
        segments.push(segment);
    }
}

/// Prunes segments, and returns how many jobs lost their bodies.
async fn prune(ledger: &SqliteLedger, segments: &[SegmentId]) -> u64 {
    let mut pruned = 0;
    for segment in segments {
        pruned += ledger.prune(*segment).await.expect("prune");
    }
    pruned
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).expect("the file").len()
}

async fn all_are_known(ledger: &SqliteLedger, jobs: &[NewJob]) {
    for job in jobs {
        assert!(ledger.job(&job.account, job.id).await.expect("read").is_some());
    }
}

#[tokio::test]
async fn the_file_becomes_smaller_while_it_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    let jobs = fill(&ledger, 300).await;
    let segments = archive(&ledger).await;
    let later = fill(&ledger, 30).await;
    assert!(size(&path) > 50 * MIB, "{}", size(&path));
    assert_eq!(prune(&ledger, &segments).await, 300);
    let after = size(&path);
    println!("{} MiB after pruning, with {} MiB that stay", after / MIB, 30 * 200_000 / MIB);
    assert!(after < SPARE + 6 * MIB, "{after}");
    // The remaining rows are whole, and the ledger goes on.
    all_are_known(&ledger, &jobs).await;
    all_are_known(&ledger, &later).await;
    fill(&ledger, 10).await;
    drop(ledger);
    let ledger = SqliteLedger::open(&path).expect("it is sound");
    all_are_known(&ledger, &later).await;
}

/// Makes the file one that cannot return pages, as earlier versions did.
fn make_old(path: &Path) {
    let connection = rusqlite::Connection::open(path).expect("a database");
    connection.execute_batch("PRAGMA auto_vacuum = NONE; VACUUM").expect("an old file");
}

#[tokio::test]
async fn a_small_old_file_is_made_anew_at_its_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    let jobs = fill(&SqliteLedger::open(&path).expect("a ledger"), 200).await;
    make_old(&path);
    let ledger = Arc::clone(&SqliteLedger::open(&path).expect("an old ledger"));
    all_are_known(&ledger, &jobs).await;
    let segments = archive(&ledger).await;
    prune(&ledger, &segments).await;
    assert!(size(&path) < SPARE, "{}", size(&path));
}

#[tokio::test]
async fn a_large_old_file_is_made_anew_by_its_operator() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    let jobs = fill(&SqliteLedger::open(&path).expect("a ledger"), 400).await;
    make_old(&path);
    let ledger = SqliteLedger::open(&path).expect("an old ledger");
    let segments = archive(&ledger).await;
    prune(&ledger, &segments).await;
    assert!(size(&path) > 70 * MIB, "it can't become smaller");
    assert!(SqliteLedger::compact(&path).is_err(), "it runs");
    drop(ledger);
    let (before, after) = SqliteLedger::compact(&path).expect("compact");
    assert!(before > 70 * MIB && after < 2 * MIB && after == size(&path), "{before} {after}");
    let ledger = SqliteLedger::open(&path).expect("it is sound");
    all_are_known(&ledger, &jobs).await;
    fill(&ledger, 400).await;
    let segments = archive(&ledger).await;
    prune(&ledger, &segments).await;
    assert!(size(&path) < SPARE, "from now on by itself: {}", size(&path));
    let nothing = folder.path().join("none.sqlite");
    assert!(SqliteLedger::compact(&nothing).is_err() && !nothing.exists(), "none is made");
}

/// Readers that follow each other without a gap, as many clients' questions do, don't keep the log from beginning again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_bounded_under_readers_that_overlap() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    fill(&ledger, 1).await;
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|number| {
            let (path, is_over) = (path.clone(), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let connection = rusqlite::Connection::open(path).expect("a database");
                std::thread::sleep(Duration::from_millis(20 * number));
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    connection.execute_batch("BEGIN; SELECT COUNT(*) FROM totals").expect("a question");
                    std::thread::sleep(Duration::from_millis(40));
                    connection.execute_batch("COMMIT").expect("its end");
                }
            })
        })
        .collect();
    let log = folder.path().join("ledger.sqlite-wal");
    let mut longest = 0;
    for _ in 0..40 {
        fill(&ledger, 20).await;
        longest = longest.max(size(&log));
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().expect("a reader"));
    println!("the log had {} MiB at most, of some {} written", longest / MIB, 40 * 20 / 5);
    assert!(longest < 96 * MIB, "{longest}");
}
