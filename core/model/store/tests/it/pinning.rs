//! What is pinned stays pinned.

use infera_conformance::hub::Act;
use infera_model_store::fetching::{FetchError, Order};
use infera_model_store::folder::FolderProblem;
use infera_model_store::pins::Pins;
use infera_model_store::verifying::{FileState, verify};

use crate::support::{Stage, order, repository, weights};

/// Moves a stage's store before another Hub, which serves `files`.
async fn before(stage: Stage, files: crate::support::Files) -> Stage {
    Stage { folder: stage.folder, ..Stage::of(files, |_| Act::Serve).await }
}

#[tokio::test]
async fn a_hub_that_changes_a_pinned_file_is_refused() {
    let stage = Stage::new(|_| Act::Serve).await;
    stage.fetch(&order()).await.expect("fetched");
    let mut files = repository();
    files.insert("onnx/model.onnx_data".to_owned(), weights(900_000, 77));
    let stage = before(stage, files.clone()).await;
    // A file that was lost is fetched again, and must be the same.
    std::fs::remove_file(stage.folder.path().join("m/onnx/model.onnx_data")).expect("there");
    let error = stage.fetch(&order()).await.expect_err("another content");
    assert!(matches!(error, FetchError::WrongDigest { .. }), "{error}");
    // Another variant is listed at first.
    let q4 = Order { variant: "q4".to_owned(), ..order() };
    let error = stage.fetch(&q4).await.expect_err("another listing");
    assert!(matches!(error, FetchError::PinnedOtherwise { .. }), "{error}");
    assert!(
        error.to_string().contains("onnx/model.onnx_data") && error.to_string().contains("--name"),
        "{error}"
    );
    let stage = before(stage, repository()).await;
    stage.fetch(&order()).await.expect("as it was");
    stage.expect_whole();
    let other = Order { repository: "other/Model".to_owned(), ..order() };
    assert!(matches!(stage.fetch(&other).await, Err(FetchError::PinnedOtherwise { .. })));
    let commit = Order { revision: Some("f".repeat(40)), ..order() };
    assert!(matches!(stage.fetch(&commit).await, Err(FetchError::PinnedOtherwise { .. })));
}

#[tokio::test]
async fn given_pins_need_no_listing_and_hold() {
    let stage = Stage::new(|_| Act::Serve).await;
    let pins = stage.fetch(&order()).await.expect("fetched").pins;
    let stage = Stage::new(|asked| match asked.path.starts_with("/api/") {
        true => Act::Answer(404, Vec::new(), String::new()),
        _ => Act::Serve,
    })
    .await;
    let pinned = Order { pins: Some(pins.clone()), ..order() };
    let fetched = stage.fetch(&pinned).await.expect("by a plain mirror");
    stage.expect_whole();
    assert!(!fetched.is_pinned_now && fetched.pins == pins);
    let text = String::from_utf8(pins.document()).expect("text");
    let digest = infera_types::ids::Digest::of(&repository()["config.json"]).to_string();
    let evil = Pins::parse(text.replace(&digest, &"0".repeat(64)).as_bytes()).expect("pins");
    let evil = Order { pins: Some(evil), ..order() };
    assert!(matches!(stage.fetch(&evil).await, Err(FetchError::PinnedOtherwise { .. })));
    let fresh = Stage::new(|_| Act::Serve).await;
    assert!(matches!(fresh.fetch(&evil).await, Err(FetchError::WrongDigest { .. })));
}

#[tokio::test]
async fn one_fetch_of_a_folder_at_a_time() {
    let stage = Stage::new(|_| Act::Serve).await;
    let held = stage.store().folder("m").expect("a name").lock().expect("free");
    let error = stage.fetch(&order()).await.expect_err("held");
    assert!(matches!(error, FetchError::Folder(FolderProblem::InUse(_))), "{error}");
    drop(held);
    stage.fetch(&order()).await.expect("free");
}

#[tokio::test]
async fn verifying_names_each_file_that_is_not_as_pinned() {
    let stage = Stage::new(|_| Act::Serve).await;
    let pins = stage.fetch(&order()).await.expect("fetched").pins;
    let folder = stage.store().folder("m").expect("a name");
    assert!(folder.verified().is_some());
    let states = |folder| verify(folder, &pins, |_| {});
    assert!(states(&folder).iter().all(|file| file.state == FileState::Good));
    let place = |path: &str| folder.path().join(path);
    std::fs::write(place("config.json"), "{}").expect("written");
    let mut data = std::fs::read(place("onnx/model.onnx_data")).expect("there");
    data[5] ^= 1;
    std::fs::write(place("onnx/model.onnx_data"), data).expect("written");
    std::fs::remove_file(place("tokenizer.json")).expect("there");
    let found = states(&folder);
    let state = |path: &str| &found.iter().find(|file| file.path == path).expect("pinned").state;
    assert_eq!(state("config.json"), &FileState::Length { bytes: 2 });
    assert!(matches!(state("onnx/model.onnx_data"), FileState::Content { .. }));
    assert_eq!(state("tokenizer.json"), &FileState::Missing { partial_bytes: 0 });
    assert_eq!(state("onnx/model.onnx"), &FileState::Good);
    // A fetch mends what is damaged.
    stage.fetch(&order()).await.expect("fetched");
    stage.expect_whole();
}
