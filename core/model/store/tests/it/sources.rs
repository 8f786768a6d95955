//! The suite of what every source promises, run against a Hub and against an archive.

use std::sync::Arc;

use futures::StreamExt as _;
use infera_archive::local::LocalArchive;
use infera_conformance::hub::{Act, COMMIT};
use infera_model_store::archived::{ArchivedSource, publish};
use infera_model_store::fetching::Order;
use infera_model_store::pins::Pin;
use infera_model_store::source::{Source, SourceError, Wanted};

use crate::support::{Stage, WAITS, order, repository};

/// Reads a file from one of its bytes on.
async fn read(source: &dyn Source, path: &str, pin: Pin, from: u64) -> Result<Vec<u8>, SourceError> {
    let content = source.open(&Wanted { revision: COMMIT, path, pin, from, tag: None }).await?;
    let mut bytes = Vec::new();
    let mut chunks = content.chunks;
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    let skipped = usize::try_from(from - content.from).expect("small");
    Ok(bytes.split_off(skipped))
}

/// Checks every sentence of the contract.
async fn promises(source: &dyn Source) {
    let listing = source.list(None).await.expect("a listing");
    assert_eq!(listing.revision, COMMIT);
    assert_eq!(source.list(Some(COMMIT)).await.expect("a listing"), listing);
    for (path, pin) in &listing.files {
        let content = &repository()[path];
        assert_eq!(pin.bytes, content.len() as u64, "{path}");
        for from in [0, 1, pin.bytes / 2, pin.bytes - 1] {
            let read = read(source, path, *pin, from).await.expect("a file");
            assert!(read == content[usize::try_from(from).expect("small")..], "{path} from {from}");
        }
    }
    assert!(listing.files.contains_key("onnx/model.onnx_data"), "{listing:?}");
    let pin = listing.files["config.json"];
    let absent = Pin {
        digest: infera_model_store::pins::Published::Sha256(infera_types::ids::Digest::of(b"?")),
        ..pin
    };
    let missing = read(source, "absent.json", absent, 0).await;
    assert!(
        matches!(&missing, Err(SourceError::NoFile { path, .. }) if path == "absent.json"),
        "{missing:?}"
    );
    assert!(!source.place().is_empty());
}

#[tokio::test]
async fn a_hub_keeps_the_promises() {
    let stage = Stage::new(|_| Act::Serve).await;
    promises(&stage.source(None)).await;
    let revision = Stage::new(|_| {
        Act::Answer(404, vec![("X-Error-Code", "RevisionNotFound".to_owned())], String::new())
    })
    .await;
    let missing = revision.source(None).list(Some("v9")).await;
    assert!(
        matches!(&missing, Err(SourceError::NoRevision { revision, .. }) if revision == "v9"),
        "{missing:?}"
    );
    assert!(matches!(stage.source(None).list(Some("../x")).await, Err(SourceError::Refused { .. })));
}

#[tokio::test]
async fn an_archive_keeps_the_promises_and_gives_back_what_was_put() {
    let stage = Stage::new(|_| Act::Serve).await;
    let archives = tempfile::tempdir().expect("a folder");
    let archive = LocalArchive::open(archives.path().join("archive")).expect("an archive");
    let source = ArchivedSource::new(archive.clone(), "m", WAITS).expect("a name");
    assert!(matches!(source.list(None).await, Err(SourceError::NoRepository { .. })));
    let fetched = stage.fetch(&order()).await.expect("fetched");
    publish(archive.as_ref(), &fetched.folder, &fetched.pins).await.expect("published");
    publish(archive.as_ref(), &fetched.folder, &fetched.pins).await.expect("again, nothing to do");
    promises(&source).await;
    assert!(matches!(source.list(Some("v9")).await, Err(SourceError::NoRevision { .. })));

    let elsewhere = Stage::new(|_| Act::Answer(500, Vec::new(), String::new())).await;
    let again = elsewhere.fetch_from(&source, &order()).await.expect("fetched");
    elsewhere.expect_whole();
    assert!(again.pins == fetched.pins && elsewhere.hub.asked().is_empty());
    let q4 = Order { variant: "q4".to_owned(), ..order() };
    assert!(elsewhere.fetch_from(&source, &q4).await.is_err(), "it wasn't published");

    // What the archive has lost or changed is seen.
    std::fs::write(fetched.folder.join("config.json"), "{\"n_positions\":17}").expect("written");
    assert!(publish(archive.as_ref(), &fetched.folder, &fetched.pins).await.is_err());
    let archived: Arc<LocalArchive> = archive;
    drop(archived);
}
