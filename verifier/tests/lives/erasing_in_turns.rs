//! Erasing keeps nothing else back, and nothing that fails keeps it back for ever.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use infera_archive::local::LocalArchive;
use infera_archive::{Archive, ArchiveError, ArchiveReader};
use infera_ledger::{
    ArchiveIndex as _, Erasing, ErasureOrders as _, ErasureStage, JobIntake as _, JobOwner as _, LedgerError,
    RewritableSegment,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{JobId, SegmentId};
use infera_types::job::{End, Settlement};
use infera_types::time::Timestamp;
use infera_verifier::{Config, Seams};

use super::erasing::{CANARY, objects, stage, two_archived, until_erased};
use super::network::{Ask, Network, eventually, quick};

/// Accepts a job with the canary in its question and ends it, without a node.
async fn ended(network: &Network) -> JobId {
    let request = serde_json::to_vec(&network.request(CANARY)).unwrap();
    let job = network.new_job(&request, Ask::default());
    network.ledger.accept(job.clone()).await.unwrap();
    let settlement = Settlement {
        job_id: job.id,
        account: job.account,
        model: job.model,
        gateway: job.gateway,
        end: End::Expired,
        group: None,
        settled_ms: Timestamp::now(),
    };
    network.ledger.settle(&settlement).await.unwrap();
    job.id
}

async fn erase(network: &Network, job: JobId) {
    network.ledger.erase_job(None, job, Timestamp::now()).await.unwrap();
}

async fn key_of(network: &Network, job: JobId) -> String {
    network.ledger.locate(job).await.unwrap().unwrap().key
}

/// A ledger in which an account's order never finds its last job.
#[derive(Debug)]
struct EndlessOrder(Arc<SqliteLedger>);

#[async_trait]
impl Erasing for EndlessOrder {
    async fn find_ordered(&self, limit: u32, now: Timestamp) -> Result<u32, LedgerError> {
        Ok(self.0.find_ordered(limit, now).await?.max(1))
    }

    async fn erase_text(&self, limit: u32, now: Timestamp) -> Result<u32, LedgerError> {
        self.0.erase_text(limit, now).await
    }

    async fn rewritable(
        &self,
        limit: u32,
        erased_by: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<RewritableSegment>, LedgerError> {
        self.0.rewritable(limit, erased_by, now).await
    }

    async fn end_erasures(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        self.0.end_erasures(jobs, now).await
    }

    async fn postpone(&self, segment: SegmentId, until: Timestamp) -> Result<(), LedgerError> {
        self.0.postpone(segment, until).await
    }
}

#[tokio::test]
async fn jobs_are_archived_while_there_is_always_more_to_erase() {
    let network = Network::new().await;
    let erasing = Arc::new(EndlessOrder(Arc::clone(&network.ledger)));
    let _verifier = network.verifier_on(quick(), Seams { erasing, ..network.seams() });
    for _ in 0..3 {
        let job = ended(&network).await;
        network.archived(job).await;
    }
}

/// Neighbours that are erased one after the other cost one rewriting.
#[tokio::test]
async fn the_erasures_in_one_segment_are_gathered() {
    let (network, jobs, place) = two_archived().await;
    let _verifier = network.verifier(Config { rewrite_wait_ms: 6_000, ..quick() });
    for job in jobs {
        erase(&network, job).await;
        eventually("its text is gone from the ledger", || async {
            (stage(&network, job).await == ErasureStage::Erasing).then_some(())
        })
        .await;
    }
    assert_eq!(key_of(&network, jobs[0]).await, place.key, "nothing is rewritten yet");
    for job in jobs {
        until_erased(&network, job).await;
    }
    assert!(key_of(&network, jobs[0]).await.contains(".r1."), "it was rewritten once");
}

/// Where the object is gone, the text is; that is told once it is still gone after a while.
#[tokio::test]
async fn what_was_in_an_object_that_is_gone_is_erased() {
    let (network, jobs, place) = two_archived().await;
    network.archive.remove(&place.key).await.unwrap();
    erase(&network, jobs[0]).await;
    let began = Timestamp::now();
    let _verifier = network.verifier(Config { rewrite_retry_ms: 1_500, ..quick() });
    until_erased(&network, jobs[0]).await;
    assert!(Timestamp::now().since(began) >= Duration::from_millis(1_500), "it was looked for again");
}

/// An object that comes back in between is rewritten.
#[tokio::test]
async fn an_object_that_comes_back_is_rewritten() {
    let (network, jobs, place) = two_archived().await;
    let size = network.archive.size(&place.key).await.unwrap().unwrap();
    let object = network.archive.get(&place.key, 0..size).await.unwrap();
    network.archive.remove(&place.key).await.unwrap();
    erase(&network, jobs[0]).await;
    let _verifier = network.verifier(Config { rewrite_retry_ms: 5_000, ..quick() });
    eventually("its text is gone from the ledger", || async {
        (stage(&network, jobs[0]).await == ErasureStage::Erasing).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    network.archive.put(&place.key, object).await.unwrap();
    until_erased(&network, jobs[0]).await;
    assert!(
        network.archived(jobs[0]).await.erased.is_some() && network.archived(jobs[1]).await.request.is_some()
    );
}

/// An archive that refuses to remove one object.
#[derive(Debug)]
struct Keeps {
    archive: Arc<LocalArchive>,
    key: String,
}

#[async_trait]
impl ArchiveReader for Keeps {
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        self.archive.get(key, range).await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, ArchiveError> {
        self.archive.size(key).await
    }
}

#[async_trait]
impl Archive for Keeps {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ArchiveError> {
        self.archive.put(key, bytes).await
    }

    async fn remove(&self, key: &str) -> Result<(), ArchiveError> {
        if key == self.key {
            return Err(ArchiveError::Refused("the object is locked".to_owned()));
        }
        self.archive.remove(key).await
    }
}

/// One object that can't be removed keeps no other segment from being rewritten, and goes once it can.
#[tokio::test]
async fn an_object_that_cannot_be_removed_is_in_no_others_way() {
    let (network, jobs, place) = two_archived().await;
    let archive = Arc::new(Keeps { archive: Arc::clone(&network.archive), key: place.key.clone() });
    let verifier = network.verifier_on(quick(), Seams { archive, ..network.seams() });
    erase(&network, jobs[0]).await;
    eventually("its segment is rewritten", || async {
        (key_of(&network, jobs[0]).await != place.key).then_some(())
    })
    .await;
    for _ in 0..2 {
        let other = ended(&network).await;
        network.archived(other).await;
        erase(&network, other).await;
        until_erased(&network, other).await;
    }
    assert_eq!(stage(&network, jobs[0]).await, ErasureStage::Erasing, "its old object is there");
    verifier.drain().await;
    let _next = network.verifier(quick());
    until_erased(&network, jobs[0]).await;
}

/// A rewritten object that is damaged is replaced by one under the segment's first key, and leaves nothing behind.
#[tokio::test]
async fn a_damaged_object_of_a_rewriting_is_removed_once_its_segment_is_written_again() {
    let (network, jobs, _) = two_archived().await;
    erase(&network, jobs[0]).await;
    let verifier = network.verifier(quick());
    until_erased(&network, jobs[0]).await;
    verifier.drain().await;
    let damaged = key_of(&network, jobs[1]).await;
    assert!(damaged.contains(".r1."), "{damaged}");
    network.archive.put(&damaged, Bytes::from_static(b"damaged")).await.unwrap();
    let _verifier = network.verifier(Config { retention_ms: 0, ..quick() });
    eventually("it is written again", || async {
        let place = network.ledger.locate(jobs[1]).await.unwrap()?;
        (place.key != damaged).then_some(())
    })
    .await;
    assert!(network.archived(jobs[1]).await.request.is_some());
    eventually("the damaged object is gone", || async {
        (network.archive.size(&damaged).await.unwrap().is_none()).then_some(())
    })
    .await;
    assert_eq!(objects(&network.folder.path().join("archive")).len(), 1);
}
