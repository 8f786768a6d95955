//! What is archived is let go of once, and only where the archive still has it.

use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use infera_archive::local::LocalArchive;
use infera_archive::{Archive, ArchiveError, ArchiveReader, segment};
use infera_ledger::{ArchiveIndex as _, ArchivedRecord, SettledRecord, Sweeping as _};
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

/// A group leaves minutes after its job, while the body stays for a day.
#[tokio::test]
async fn a_group_goes_before_its_body() {
    let (network, job, place) = archived().await;
    assert_eq!(network.ledger.groups(&[job]).await.unwrap().len(), 1);
    let _verifier = network.verifier(Config { group_retention_ms: 0, ..quick() });
    eventually("the group is gone", || async {
        network.ledger.groups(&[job]).await.unwrap().is_empty().then_some(())
    })
    .await;
    let left = in_ledger(&network, place.segment).await;
    assert!(left.request.is_some() && left.settlement.group.is_none());
    assert!(network.archived(job).await.settlement.group.is_some(), "the archive has it");
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

/// An archive that doesn't give some objects back, until it is mended.
#[derive(Debug)]
struct Picky {
    archive: Arc<LocalArchive>,
    kept: HashSet<String>,
    is_refusing: bool,
    is_mended: AtomicBool,
}

impl Picky {
    fn gives(&self, key: &str) -> Result<(), ArchiveError> {
        if self.is_mended.load(Ordering::Relaxed) || !self.kept.contains(key) {
            return Ok(());
        }
        let why = "not this one".to_owned();
        Err(if self.is_refusing { ArchiveError::Refused(why) } else { ArchiveError::Unavailable(why) })
    }
}

#[async_trait]
impl ArchiveReader for Picky {
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        self.gives(key)?;
        self.archive.get(key, range).await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, ArchiveError> {
        self.gives(key)?;
        self.archive.size(key).await
    }
}

#[async_trait]
impl Archive for Picky {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ArchiveError> {
        self.archive.put(key, bytes).await
    }

    async fn remove(&self, key: &str) -> Result<(), ArchiveError> {
        self.archive.remove(key).await
    }
}

/// More of the oldest segments than one look at the ledger finds can't be read, because the store refuses or fails at each: the later
/// ones are let go of meanwhile, and those once they can be read.
#[tokio::test]
async fn segments_that_cannot_be_read_keep_no_others_from_being_let_go_of() {
    const UNREADABLE: usize = 17;
    for is_refusing in [true, false] {
        let network = Arc::new(Network::new().await);
        let nodes = three(&network, right()).await;
        let chorus = keep_speaking(&nodes);
        let verifier = network.verifier(Config { archive_limit: 1, ..quick() });
        let mut places = Vec::new();
        for _ in 0..=UNREADABLE {
            let job = network.submit(Ask::default()).await;
            network.archived(job).await;
            places.push(network.ledger.locate(job).await.unwrap().unwrap());
        }
        verifier.drain().await;
        drop(chorus);
        let (last, unreadable) = places.split_last().unwrap();
        let archive = Arc::new(Picky {
            archive: Arc::clone(&network.archive),
            kept: unreadable.iter().map(|place| place.key.clone()).collect(),
            is_refusing,
            is_mended: AtomicBool::new(false),
        });
        let seams = Seams { archive: Arc::clone(&archive) as Arc<dyn Archive>, ..network.seams() };
        let config =
            Config { rewrite_retry_ms: 3_000, archive_retry_ms: 3_000, archive_ms: 20, ..forgetful() };
        let _verifier = network.verifier_on(config, seams);
        let is_let_go = async |place: &ArchivedRecord| {
            in_ledger(&network, place.segment).await.request.is_none().then_some(())
        };
        eventually("the last is let go of", || is_let_go(last)).await;
        for place in unreadable {
            assert_eq!(is_let_go(place).await, None, "it can't be read");
        }
        archive.is_mended.store(true, Ordering::Relaxed);
        for place in unreadable {
            eventually("the others are let go of", || is_let_go(place)).await;
        }
    }
}

impl Network {
    /// Where an object of the archive is.
    fn object(&self, key: &str) -> PathBuf {
        self.folder.path().join("archive").join(key)
    }
}
