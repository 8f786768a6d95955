//! What is archived is let go of once, and only where the archive still has it.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use infera_archive::local::LocalArchive;
use infera_archive::{Archive, ArchiveError, ArchiveReader, segment};
use infera_ledger::{ArchiveIndex as _, ArchivedRecord, SettledRecord};
use infera_types::ids::{JobId, SegmentId};
use infera_types::time::Timestamp;
use infera_verifier::{Config, Seams};

use super::network::{Ask, Network, eventually, quick};
use super::node::{keep_speaking, right, three};

/// Nothing is kept for longer than it takes to archive it.
fn forgetful() -> Config {
    Config { retention_ms: 0, ..quick() }
}

/// A network with one archived job, whose body is still in the ledger; and its place.
async fn archived() -> (Arc<Network>, JobId, ArchivedRecord) {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let chorus = keep_speaking(&nodes);
    let verifier = network.verifier(quick());
    let job = network.submit(Ask::default()).await;
    network.archived(job).await;
    let place = network.ledger.locate(job).await.unwrap().unwrap();
    verifier.drain().await;
    drop(chorus);
    (network, job, place)
}

/// The job as the ledger has it now.
async fn in_ledger(network: &Network, segment: SegmentId) -> SettledRecord {
    let now = Timestamp::now();
    network.ledger.claim(segment, 9, now, now).await.unwrap().pop().unwrap()
}

#[tokio::test]
async fn a_body_goes_once_its_segment_is_whole_in_the_archive() {
    let (network, job, place) = archived().await;
    assert!(in_ledger(&network, place.segment).await.request.is_some());
    let _verifier = network.verifier(forgetful());
    eventually("the body is pruned", || async {
        in_ledger(&network, place.segment).await.request.is_none().then_some(())
    })
    .await;
    assert!(network.archived(job).await.request.is_some(), "the archive has it");
}

/// Whether the object is gone, cut or changed: it is written again from what the ledger has, and only then let go of.
#[tokio::test]
async fn an_object_that_was_lost_is_written_again_before_its_bodies_go() {
    for damage in ["gone", "cut", "changed"] {
        let (network, job, place) = archived().await;
        let path = network.object(&place.key);
        let whole = std::fs::read(&path).unwrap();
        match damage {
            "gone" => std::fs::remove_file(&path).unwrap(),
            "cut" => std::fs::write(&path, &whole[..whole.len() - 1]).unwrap(),
            _ => {
                let mut changed = whole.clone();
                changed[whole.len() / 2] ^= 0x10;
                std::fs::write(&path, changed).unwrap();
            }
        }
        let _verifier = network.verifier(forgetful());
        eventually("the body is pruned", || async {
            in_ledger(&network, place.segment).await.request.is_none().then_some(())
        })
        .await;
        let again = network.ledger.locate(job).await.unwrap().unwrap();
        assert_eq!(again.key, place.key, "{damage}");
        let record = segment::read(&*network.archive, &again).await.unwrap();
        assert!(record.request.is_some(), "{damage}: the archive has it again");
    }
}

/// An archive that takes everything and gives something else back.
#[derive(Debug)]
struct Rotten(Arc<LocalArchive>);

#[async_trait]
impl ArchiveReader for Rotten {
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        let mut bytes = self.0.get(key, range).await?.to_vec();
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
        }
        Ok(bytes.into())
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, ArchiveError> {
        self.0.size(key).await
    }
}

#[async_trait]
impl Archive for Rotten {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ArchiveError> {
        self.0.put(key, bytes).await
    }

    async fn remove(&self, key: &str) -> Result<(), ArchiveError> {
        self.0.remove(key).await
    }
}

#[tokio::test]
async fn what_the_archive_never_gives_back_is_never_let_go_of() {
    let (network, _job, place) = archived().await;
    let seams = Seams { archive: Arc::new(Rotten(Arc::clone(&network.archive))), ..network.seams() };
    let _verifier = network.verifier_on(forgetful(), seams);
    let path = network.object(&place.key);
    let written = || std::fs::metadata(&path).unwrap().modified().unwrap();
    let before = written();
    eventually("it is written again", || async { (written() > before).then_some(()) }).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(in_ledger(&network, place.segment).await.request.is_some());
    }
}

impl Network {
    /// Where an object of the archive is.
    fn object(&self, key: &str) -> PathBuf {
        self.folder.path().join("archive").join(key)
    }
}
