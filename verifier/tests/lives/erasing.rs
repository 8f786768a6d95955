//! The text of jobs goes from the ledger and from the archive, wherever an eraser is cut off.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use infera_archive::local::LocalArchive;
use infera_archive::record::{self, RecordError};
use infera_archive::{Archive, ArchiveError, ArchiveReader, segment};
use infera_ledger::{
    ArchiveIndex as _, ArchivedRecord, Erasing, ErasureOrders as _, ErasureStage, ExpiredSegment,
    JobIntake as _, JobOwner as _, JobReader as _, Keeping, LedgerError, ReplacedObject, Replacement,
    RewritableSegment, SegmentChanges, SettledRecord,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{JobId, SegmentId};
use infera_types::job::{End, Settlement};
use infera_types::time::Timestamp;
use infera_verifier::Seams;
use tokio::sync::Notify;

use super::network::{Ask, Network, eventually, quick};
use super::node::{keep_speaking, right, three};

/// Words that no other file has.
pub(super) const CANARY: &str = "canary-7f3a0c55-with-a-secret";

/// A network with two archived jobs in one segment, the first of which has the canary in its question.
pub(super) async fn two_archived() -> (Arc<Network>, [JobId; 2], ArchivedRecord) {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let chorus = keep_speaking(&nodes);
    // Long enough for both jobs to be in one segment.
    let verifier = network.verifier(infera_verifier::Config { archive_wait_ms: 2_000, ..quick() });
    let mut jobs = Vec::new();
    for question in [CANARY, "What is 2 plus 2?"] {
        let request = serde_json::to_vec(&network.request(question)).unwrap();
        let job = network.accept(&request, Ask::default()).await;
        network.notify(job).await;
        jobs.push(job);
    }
    let jobs = [jobs[0], jobs[1]];
    for job in jobs {
        network.archived(job).await;
    }
    let [place, other] = [
        network.ledger.locate(jobs[0]).await.unwrap().unwrap(),
        network.ledger.locate(jobs[1]).await.unwrap().unwrap(),
    ];
    assert_eq!(place.segment, other.segment);
    verifier.drain().await;
    drop(chorus);
    (network, jobs, place)
}

pub(super) async fn stage(network: &Network, job: JobId) -> ErasureStage {
    network.ledger.job_erasure(None, job, Timestamp::now()).await.unwrap().unwrap().stage
}

pub(super) async fn until_erased(network: &Network, job: JobId) {
    eventually("it is erased", || async {
        (stage(network, job).await == ErasureStage::Erased).then_some(())
    })
    .await;
}

/// The objects of the archive, by their paths.
pub(super) fn objects(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(objects(&path)) } else { found.push(path) }
    }
    found
}

/// The archived lines of both jobs.
async fn archived_text(network: &Network, jobs: &[JobId]) -> String {
    let mut text = String::new();
    for job in jobs {
        let place = network.ledger.locate(*job).await.unwrap().unwrap();
        text += &segment::read_line(&*network.archive, &place).await.unwrap();
    }
    text
}

async fn assert_bare(network: &Network, [job, neighbour]: [JobId; 2], before: &SettledRecord) {
    let record = network.archived(job).await;
    let erased = record.erased.unwrap();
    assert!(erased.request.is_some() && erased.answer.is_some() && erased.record.is_some(), "{erased:?}");
    assert_eq!((record.request, &record.postings), (None, &before.postings), "verdicts and usage stay");
    assert_eq!(record.settlement.settled_ms, before.settlement.settled_ms);
    let group = record.settlement.group.unwrap();
    assert_eq!(group.assignments.len(), 3);
    assert!(network.archived(neighbour).await.request.is_some(), "its neighbour is whole");
    let shown = record::find(&*network.ledger, &*network.ledger, &*network.archive, job).await.unwrap();
    assert!(!shown.contains(CANARY));
    assert_eq!(objects(&network.folder.path().join("archive")).len(), 1, "the old object is gone");
    assert!(!archived_text(network, &[job, neighbour]).await.contains(CANARY));
    let view = network.ledger.job(&network.account, job).await.unwrap().unwrap();
    assert!(view.kept.erased_ms.is_some());
}

#[tokio::test]
async fn an_erased_text_is_in_no_object_and_its_neighbours_are_whole() {
    let (network, jobs, place) = two_archived().await;
    let [before, neighbour] = [network.archived(jobs[0]).await, network.archived(jobs[1]).await];
    assert!(archived_text(&network, &jobs).await.contains(CANARY));
    network.ledger.erase_job(None, jobs[0], Timestamp::now()).await.unwrap();
    let _verifier = network.verifier(quick());
    until_erased(&network, jobs[0]).await;
    assert_bare(&network, jobs, &before).await;
    assert_eq!(network.archived(jobs[1]).await, neighbour);
    assert_ne!(network.ledger.locate(jobs[1]).await.unwrap().unwrap().key, place.key);
}

/// The text of a job that is not stored is never archived.
#[tokio::test]
async fn a_job_that_is_not_stored_is_archived_without_its_text() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let keeping = Keeping { erase_after: Some(Duration::ZERO), retention_days: None };
    let request = serde_json::to_vec(&network.request(CANARY)).unwrap();
    let job = network.accept(&request, Ask { keeping, ..Ask::default() }).await;
    network.notify(job).await;
    let record = network.archived(job).await;
    let erased = record.erased.expect("it was erased before it was archived");
    assert!(erased.request.is_some() && erased.answer.is_some() && erased.record.is_none(), "{erased:?}");
    assert_eq!(record.request, None);
    assert!(record.postings.len() > 1, "usage and verdicts");
    assert!(!archived_text(&network, &[job]).await.contains(CANARY));
    assert_eq!(stage(&network, job).await, ErasureStage::Erased);
}

/// A segment whose retention is over is deleted whole; what is left is the hash.
#[tokio::test]
async fn a_class_is_deleted_whole_when_its_retention_is_over() {
    let network = Network::new().await;
    let request = serde_json::to_vec(&network.request(CANARY)).unwrap();
    let two_days_ago = Timestamp::now().as_millis() - 2 * 24 * 60 * 60 * 1_000;
    let mut jobs = Vec::new();
    for retention_days in [Some(1), Some(30), None] {
        let keeping = Keeping { erase_after: None, retention_days };
        let job = network.new_job(&request, Ask { keeping, ..Ask::default() });
        network.ledger.accept(job.clone()).await.unwrap();
        let settlement = Settlement {
            job_id: job.id,
            account: job.account,
            model: job.model,
            gateway: job.gateway,
            end: End::Expired,
            group: None,
            settled_ms: Timestamp::from_millis(two_days_ago),
        };
        network.ledger.settle(&settlement).await.unwrap();
        jobs.push(job.id);
    }
    let _verifier = network.verifier(quick());
    until_erased(&network, jobs[0]).await;
    let found = record::find(&*network.ledger, &*network.ledger, &*network.archive, jobs[0]).await;
    assert!(matches!(found, Err(RecordError::Removed { .. })), "{found:?}");
    for kept in [jobs[1], jobs[2]] {
        assert!(network.archived(kept).await.request.is_some(), "its retention is not over");
    }
    assert_eq!(objects(&network.folder.path().join("archive")).len(), 2);
}

/// The steps after which an eraser is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    TextErased,
    Put,
    ReadBack,
    Replaced,
    Removed,
    Forgotten,
}

/// Does everything up to one step, whose end it tells, and then nothing more, as a process that is killed.
#[derive(Debug)]
struct CutOff {
    archive: Arc<LocalArchive>,
    ledger: Arc<SqliteLedger>,
    after: Step,
    reached: Notify,
}

impl CutOff {
    async fn did(&self, step: Step) {
        if self.after == step {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl ArchiveReader for CutOff {
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        let got = self.archive.get(key, range).await;
        if key.contains(".r1.") {
            self.did(Step::ReadBack).await;
        }
        got
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, ArchiveError> {
        self.archive.size(key).await
    }
}

#[async_trait]
impl Archive for CutOff {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ArchiveError> {
        let put = self.archive.put(key, bytes).await;
        self.did(Step::Put).await;
        put
    }

    async fn remove(&self, key: &str) -> Result<(), ArchiveError> {
        let removed = self.archive.remove(key).await;
        self.did(Step::Removed).await;
        removed
    }
}

#[async_trait]
impl Erasing for CutOff {
    async fn find_ordered(&self, limit: u32, now: Timestamp) -> Result<u32, LedgerError> {
        self.ledger.find_ordered(limit, now).await
    }

    async fn erase_text(&self, limit: u32, now: Timestamp) -> Result<u32, LedgerError> {
        let erased = self.ledger.erase_text(limit, now).await?;
        if erased > 0 {
            self.did(Step::TextErased).await;
        }
        Ok(erased)
    }

    async fn rewritable(
        &self,
        limit: u32,
        erased_by: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<RewritableSegment>, LedgerError> {
        self.ledger.rewritable(limit, erased_by, now).await
    }

    async fn end_erasures(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        self.ledger.end_erasures(jobs, now).await
    }

    async fn postpone(&self, segment: SegmentId, until: Timestamp) -> Result<(), LedgerError> {
        self.ledger.postpone(segment, until).await
    }
}

#[async_trait]
impl SegmentChanges for CutOff {
    async fn replace(&self, replacement: &Replacement) -> Result<bool, LedgerError> {
        let replaced = self.ledger.replace(replacement).await;
        self.did(Step::Replaced).await;
        replaced
    }

    async fn replaced(&self, limit: u32) -> Result<Vec<ReplacedObject>, LedgerError> {
        self.ledger.replaced(limit).await
    }

    async fn forget_replaced(&self, segment: SegmentId, now: Timestamp) -> Result<(), LedgerError> {
        let forgotten = self.ledger.forget_replaced(segment, now).await;
        self.did(Step::Forgotten).await;
        forgotten
    }

    async fn expired(&self, limit: u32, now: Timestamp) -> Result<Vec<ExpiredSegment>, LedgerError> {
        self.ledger.expired(limit, now).await
    }

    async fn segment_removed(&self, segment: SegmentId, now: Timestamp) -> Result<(), LedgerError> {
        self.ledger.segment_removed(segment, now).await
    }
}

/// Killed after any step, an eraser leaves a state in which every record is found whole or bare, and the next one finishes.
#[tokio::test]
async fn an_eraser_that_is_killed_after_any_step_is_followed_by_another() {
    for step in [Step::TextErased, Step::Put, Step::ReadBack, Step::Replaced, Step::Removed, Step::Forgotten]
    {
        let (network, jobs, _) = two_archived().await;
        let before = network.archived(jobs[0]).await;
        network.ledger.erase_job(None, jobs[0], Timestamp::now()).await.unwrap();
        let cut_off = Arc::new(CutOff {
            archive: Arc::clone(&network.archive),
            ledger: Arc::clone(&network.ledger),
            after: step,
            reached: Notify::new(),
        });
        let seams = Seams {
            archive: Arc::clone(&cut_off) as _,
            erasing: Arc::clone(&cut_off) as _,
            segments: Arc::clone(&cut_off) as _,
            ..network.seams()
        };
        let verifier = network.verifier_on(quick(), seams);
        let reached = tokio::time::timeout(super::network::PATIENCE, cut_off.reached.notified()).await;
        assert!(reached.is_ok(), "{step:?} is never reached");
        verifier.kill().await;

        // Whatever was cut off: both records are found and have the ledger's hashes.
        let [erased, neighbour] = [network.archived(jobs[0]).await, network.archived(jobs[1]).await];
        let is_bare = matches!(step, Step::Replaced | Step::Removed | Step::Forgotten);
        assert_eq!(erased.erased.is_some(), is_bare, "{step:?}");
        assert!(neighbour.request.is_some(), "{step:?}");
        let is_done = step == Step::Forgotten;
        assert_eq!(stage(&network, jobs[0]).await == ErasureStage::Erased, is_done, "{step:?}");

        let _verifier = network.verifier(quick());
        until_erased(&network, jobs[0]).await;
        assert_bare(&network, jobs, &before).await;
    }
}
