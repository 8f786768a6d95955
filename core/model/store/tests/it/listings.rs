//! Listings that can't be trusted, or have no end.

use infera_conformance::hub::{Act, Asked, COMMIT, listing};
use infera_model_store::fetching::FetchError;
use serde_json::{Value, json};

use crate::support::{NAME, Stage, order, repository};

fn is_listing(asked: &Asked) -> bool {
    asked.path.starts_with(&format!("/api/models/{NAME}/tree/{COMMIT}"))
}

/// Serves this listing in place of the repository's.
async fn with_listing(listing: Value) -> Stage {
    let body = listing.to_string();
    Stage::new(
        move |asked| if is_listing(asked) { Act::Answer(200, Vec::new(), body.clone()) } else { Act::Serve },
    )
    .await
}

fn changed(change: impl FnOnce(&mut Vec<Value>)) -> Value {
    let Value::Array(mut entries) = listing(&repository()) else { panic!("a list") };
    change(&mut entries);
    Value::Array(entries)
}

#[tokio::test]
async fn names_that_leave_the_folder_are_refused() {
    let outside = tempfile::tempdir().expect("a folder");
    let absolute = outside.path().join("x").display().to_string();
    for evil in ["../x", "onnx/../../x", "..\\x", &absolute, ".infera/pins.json", "a\nb", ""] {
        let stage = with_listing(changed(|entries| {
            let mut entry = entries[2].clone();
            entry["path"] = json!(evil);
            entries.push(entry);
        }))
        .await;
        let error = stage.fetch(&order()).await.expect_err("refused");
        assert!(error.to_string().contains("can't be trusted") && !error.may_pass(), "{evil}: {error}");
        assert_eq!(stage.hub.asked().len(), 2, "nothing is fetched");
    }
    assert_eq!(std::fs::read_dir(outside.path()).expect("a folder").count(), 0);
}

#[tokio::test]
async fn listings_without_sense_are_refused() {
    for (wrong, told) in [
        (json!({ "error": "no" }), "no listing"),
        (json!([{ "type": "file", "path": "config.json" }]), "no digest of config.json"),
        (changed(|entries| entries.push(entries[2].clone())), "twice"),
        (json!([]), "config.json is missing"),
    ] {
        let stage = with_listing(wrong).await;
        let error = stage.fetch(&order()).await.expect_err("refused");
        assert!(error.to_string().contains(told), "{error}");
    }
    let html = Stage::new(|_| Act::Answer(200, Vec::new(), "<html>".to_owned())).await;
    let told = html.fetch(&order()).await.expect_err("no Hub").to_string();
    assert!(told.contains("is HF_ENDPOINT a Hub?"), "{told}");
}

#[tokio::test]
async fn giant_listings_end() {
    let large = Stage::new(|asked| match is_listing(asked) {
        true => Act::Answer(200, Vec::new(), format!("[\"{}\"]", "x".repeat(5 << 20))),
        _ => Act::Serve,
    })
    .await;
    let told = large.fetch(&order()).await.expect_err("too large").to_string();
    assert!(told.contains("more than 4194304 bytes"), "{told}");
    let endless = Stage::new(|asked| match is_listing(asked) {
        true => {
            let next = format!("<{}&page={}>; rel=\"next\"", asked.path, asked.number);
            Act::Answer(200, vec![("Link", next)], "[]".to_owned())
        }
        _ => Act::Serve,
    })
    .await;
    let told = endless.fetch(&order()).await.expect_err("endless").to_string();
    assert!(told.contains("more than 20 pages") && endless.hub.asked().len() == 21, "{told}");
    let elsewhere = Stage::new(|asked| match is_listing(asked) {
        true => Act::Answer(
            200,
            vec![("Link", "<http://127.0.0.2:1/x>; rel=\"next\"".to_owned())],
            "[]".to_owned(),
        ),
        _ => Act::Serve,
    })
    .await;
    let told = elsewhere.fetch(&order()).await.expect_err("elsewhere").to_string();
    assert!(told.contains("at another host"), "{told}");
}

#[tokio::test]
async fn a_listing_of_several_pages_is_read_whole() {
    let Value::Array(entries) = listing(&repository()) else { panic!("a list") };
    let (first, second) = entries.split_at(4);
    let (first, second) = (Value::from(first).to_string(), Value::from(second).to_string());
    let stage = Stage::new(move |asked| match is_listing(asked) {
        true if asked.path.contains("cursor") => Act::Answer(200, Vec::new(), second.clone()),
        true => {
            let next = format!("<{}&cursor=x>; rel=\"next\"", asked.path);
            Act::Answer(200, vec![("Link", next)], first.clone())
        }
        _ => Act::Serve,
    })
    .await;
    stage.fetch(&order()).await.expect("fetched");
    stage.expect_whole();
}

#[tokio::test]
async fn a_disk_without_room_is_named_before_anything_comes() {
    let stage = with_listing(changed(|entries| {
        for entry in entries {
            if entry["path"] == "onnx/model.onnx_data" {
                entry["lfs"]["size"] = json!(1_u64 << 60);
            }
        }
    }))
    .await;
    let error = stage.fetch(&order()).await.expect_err("no room");
    assert!(
        matches!(error, FetchError::NoRoom { needed, free, .. } if needed > 1 << 60 && free > 0),
        "{error}"
    );
    assert_eq!(stage.hub.asked().len(), 2, "nothing is fetched");
}
