//! An operator finds the record of one job, or is told why there is none: on a ledger and an archive as `infera up` has
//! them.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use infera_archive::Archive as _;
use infera_archive::local::LocalArchive;
use infera_archive::record::{RecordError, find};
use infera_archive::segment::{self, SegmentError};
use infera_ledger::{
    Accepted, ArchiveIndex as _, JobIntake as _, Metadata, NewJob, Pruning as _, Room, SettledRecord, Standby,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, Digest, GatewayId, JobId, ModelName, SegmentId};
use infera_types::job::VerificationPolicy;
use infera_types::time::Timestamp;
use tempfile::TempDir;

struct Store {
    ledger: Arc<SqliteLedger>,
    archive: Arc<LocalArchive>,
    account: AccountId,
    folder: TempDir,
}

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

impl Store {
    fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).expect("a ledger");
        let archive = LocalArchive::open(folder.path().join("archive")).expect("an archive");
        Self { ledger, archive, account: AccountId::fresh(), folder }
    }

    async fn accept(&self) -> JobId {
        let job = NewJob {
            id: JobId::new(),
            choice: Choice::ONLY,
            shows_tokens: false,
            key: None,
            account: self.account.clone(),
            model: ModelName::new("m"),
            request: br#"{"model":"m","messages":[],"max_tokens":8,"temperature":0.5}"#.to_vec(),
            policy: VerificationPolicy { quorum: 3, replicas: 3 },
            gateway: GatewayId::new("g"),
            synchronous: false,
            accepted_ms: NOW,
            deadline_ms: Timestamp::from_millis(NOW.as_millis() + 600_000),
            epoch: 1,
            idempotency: None,
            waiting_max: 10,
            room: Room::UNBOUNDED,
            standby: Standby::never_held(&self.account),
            charge: None,
            metadata: Metadata::new(),
            keeping: infera_ledger::Keeping::default(),
        };
        let id = job.id;
        assert_eq!(self.ledger.accept(job).await.expect("accepted"), Accepted::New { is_held: false });
        id
    }

    async fn end(&self, job: JobId) {
        self.ledger.cancel(&self.account, job, NOW).await.expect("cancelled");
    }

    /// Archives all that has ended; returns the object's path and bytes.
    async fn archive(&self) -> (std::path::PathBuf, Vec<u8>) {
        let segment = SegmentId::new();
        let records = self.ledger.claim(segment, 9, NOW, NOW).await.expect("claimed");
        let built = segment::build(segment, &records).expect("a segment");
        self.archive.put(&built.key, Bytes::from(built.bytes.clone())).await.expect("put");
        self.ledger.record(segment, &built.key, &built.places).await.expect("recorded");
        (self.folder.path().join("archive").join(&built.key), built.bytes)
    }

    async fn find(&self, job: JobId) -> Result<String, RecordError> {
        find(&*self.ledger, &*self.ledger, &*self.archive, job).await
    }

    /// The record of `job`, and the hash that the ledger has of it.
    async fn found(&self, job: JobId) -> (SettledRecord, Digest) {
        let line = self.find(job).await.expect("a record");
        let place = self.ledger.locate(job).await.expect("an answer").expect("a place").place;
        assert_eq!(Digest::of(line.as_bytes()), place.hash, "the line is shown as it lies there");
        (serde_json::from_str(&line).expect("a record"), place.hash)
    }
}

#[tokio::test]
async fn each_record_is_found_alone_also_when_its_body_is_pruned() {
    let store = Store::open();
    let jobs = [store.accept().await, store.accept().await, store.accept().await];
    for job in jobs {
        store.end(job).await;
    }
    store.archive().await;
    for job in jobs {
        let (record, _) = store.found(job).await;
        assert_eq!((record.job_id, record.settlement.account), (job, store.account.clone()));
        assert!(record.request.is_some());
    }
    let later = Timestamp::from_millis(NOW.as_millis() + 1);
    for archived in store.ledger.prunable(later, later, 9, &[]).await.expect("an answer") {
        assert_eq!(store.ledger.prune(archived.segment).await.expect("pruned"), 3);
    }
    let (record, _) = store.found(jobs[1]).await;
    assert!(record.request.is_some(), "the archive has what the ledger let go of");
}

#[tokio::test]
async fn what_has_no_record_is_told_apart_from_what_waits_for_the_archiver() {
    let store = Store::open();
    let (unknown, waiting, ended) = (JobId::new(), store.accept().await, store.accept().await);
    store.end(ended).await;
    for job in [unknown, waiting] {
        let error = store.find(job).await.expect_err("no record");
        assert!(matches!(error, RecordError::NotEnded(named) if named == job), "{error}");
        assert!(error.may_pass() && error.to_string().contains("has not ended"), "{error}");
    }
    let error = store.find(ended).await.expect_err("no record");
    assert!(matches!(error, RecordError::NotArchived(named) if named == ended), "{error}");
    assert!(error.may_pass() && error.to_string().contains("not in the archive yet"), "{error}");
    store.archive().await;
    assert_eq!(store.found(ended).await.0.job_id, ended);
}

#[tokio::test]
async fn a_damaged_or_missing_segment_is_told_and_nothing_of_it_shown() {
    let store = Store::open();
    let job = store.accept().await;
    store.end(job).await;
    let (path, sound) = store.archive().await;
    let mut refused = 0;
    for position in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[position] ^= 0x10;
        fs::write(&path, bytes).expect("it rots");
        match store.find(job).await {
            // Some bits of a frame's head mean nothing.
            Ok(_) => assert_eq!(store.found(job).await.0.job_id, job),
            Err(error) => {
                assert!(matches!(&error, RecordError::Segment(SegmentError::Damaged { .. })), "{error}");
                assert!(!error.may_pass() && error.to_string().contains("is damaged"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > sound.len() / 2, "{refused} of {}", sound.len());
    fs::write(&path, &sound[..sound.len() - 1]).expect("it is cut");
    let cut = store.find(job).await.expect_err("too short");
    fs::remove_file(&path).expect("it goes");
    let gone = store.find(job).await.expect_err("no object");
    for (error, said) in [(cut, "is outside object jobs/"), (gone, "archive has no object jobs/")] {
        assert!(!error.may_pass() && error.to_string().contains(said), "{error}");
    }
}
