//! What goes wrong between a Hub and us, and what becomes of the fetch.

use std::time::Duration;

use infera_conformance::hub::{Act, Asked, TestHub};
use infera_model_store::fetching::{FetchError, Order};
use infera_model_store::source::{Source as _, SourceError};

use crate::support::{Stage, graph, order, repository};

/// The path from which the Hub of the tests sends large files.
const LARGE: &str = "/large/";

#[tokio::test]
async fn a_model_comes_whole_and_not_twice() {
    let stage = Stage::new(|_| Act::Serve).await;
    let fetched = stage.fetch(&order()).await.expect("fetched");
    stage.expect_whole();
    assert!(fetched.is_pinned_now && fetched.pins.variants == ["model"]);
    assert_eq!(fetched.pins.revision, infera_conformance::hub::COMMIT);
    let text = String::from_utf8(fetched.pins.document()).expect("text");
    assert!(!text.contains("git_sha1") && text.matches("sha256").count() == 6, "{text}");
    let asked = stage.hub.asked().len();
    let again = stage.fetch(&order()).await.expect("there");
    assert!(!again.is_pinned_now && again.pins == fetched.pins);
    assert_eq!(stage.hub.asked().len(), asked, "nothing is asked for");
    // Another variant of the same commit needs its graph alone.
    let q4 = Order { variant: "q4".to_owned(), ..order() };
    assert_eq!(stage.fetch(&q4).await.expect("fetched").pins.variants, ["model", "q4"]);
    assert_eq!(stage.hub.asked_for("model.onnx_data").len(), 2, "a redirect and a file");
}

#[tokio::test]
async fn a_connection_that_is_cut_goes_on_where_it_was() {
    let stage = Stage::new(|asked| match asked.from {
        _ if !asked.path.starts_with(LARGE) => Act::Serve,
        Some(from) if from > 800_000 => Act::Serve,
        _ => Act::CutAfter(50_000 + asked.number * 1_001),
    })
    .await;
    stage.fetch(&order()).await.expect("fetched");
    stage.expect_whole();
    let asked = stage.hub.asked_for("model.onnx_data");
    let asked: Vec<_> = asked.iter().filter(|asked| asked.path.starts_with(LARGE)).collect();
    assert!(asked.len() > 8, "{} pieces", asked.len());
    let froms: Vec<usize> = asked.iter().map(|asked| asked.from.unwrap_or_default()).collect();
    assert!(froms.is_sorted() && froms.windows(2).all(|pair| pair[0] < pair[1]), "{froms:?}");
    assert!(asked[1..].iter().all(|asked| asked.if_range.is_some()), "tied to the content");
}

#[tokio::test]
async fn a_source_that_stalls_is_asked_again() {
    let stage = Stage::new(|asked| match asked.from {
        None if asked.path.ends_with("model.onnx_data") && asked.path.starts_with(LARGE) => {
            Act::StallAfter(100_000)
        }
        None if asked.path.ends_with("config.json") && asked.number < 3 => Act::StallAfter(1),
        _ => Act::Serve,
    })
    .await;
    stage.fetch(&order()).await.expect("fetched");
    stage.expect_whole();
    assert!(stage.seen("hardly anything has come") >= 2);
}

#[tokio::test]
async fn what_trickles_is_cut() {
    // 16 KiB in 250 ms are 45 KiB in the time in which 64 have to come.
    let stage = Stage::new(|asked| match asked.from {
        None if asked.path.starts_with(LARGE) && asked.path.ends_with("_data_1") => {
            Act::Slowly(Duration::from_millis(250))
        }
        _ => Act::Serve,
    })
    .await;
    stage.fetch(&order()).await.expect("fetched");
    stage.expect_whole();
    assert_eq!(stage.seen("hardly anything has come"), 1);
}

#[tokio::test]
async fn other_bytes_than_pinned_are_not_kept() {
    for (path, is_large) in [("onnx/model.onnx_data", true), ("config.json", false)] {
        let stage = Stage::new(move |asked| match asked.path.ends_with(path) {
            true if asked.path.starts_with(LARGE) || !is_large => Act::Falsify,
            _ => Act::Serve,
        })
        .await;
        let error = stage.fetch(&order()).await.expect_err("another content");
        assert!(matches!(error, FetchError::WrongDigest { .. }) && !error.may_pass(), "{error}");
        let told = error.to_string();
        assert!(told.contains(path) && told.contains("is pinned"), "{told}");
        assert_eq!((stage.file(path), stage.file(&format!("{path}.part"))), (None, None));
    }
}

#[tokio::test]
async fn a_piece_that_is_not_ours_begins_the_file_again() {
    // The end of a partial file may be lost with the machine's power, or be another content's.
    let is_data = |asked: &Asked| asked.path == "/large/onnx/model.onnx_data";
    let stopped = Stage::new(move |asked| match is_data(asked) {
        true if asked.from.is_some() => Act::Answer(404, Vec::new(), String::new()),
        true => Act::CutAfter(500_000),
        false => Act::Serve,
    })
    .await;
    let part = stopped.folder.path().join("m/onnx/model.onnx_data.part");
    assert!(stopped.fetch(&order()).await.is_err());
    let mut piece = std::fs::read(&part).expect("a piece");
    assert!(piece.len() > 100_000);
    piece[77] ^= 1;
    std::fs::write(&part, piece).expect("damaged");
    let again = Stage { folder: stopped.folder, ..Stage::new(|_| Act::Serve).await };
    again.fetch(&order()).await.expect("fetched");
    again.expect_whole();
    assert_eq!(again.seen("Restarts"), 1);
}

#[tokio::test]
async fn servers_that_know_no_ranges_or_get_them_wrong_still_serve() {
    for wrong in [Act::Whole, Act::FromByte(0), Act::FromByte(899_999)] {
        let stage = Stage::new(move |asked| match asked.from {
            _ if !asked.path.ends_with("/model.onnx_data") => Act::Serve,
            None if asked.path.starts_with(LARGE) && asked.number < 12 => Act::CutAfter(600_000),
            Some(_) => wrong.clone(),
            None => Act::Serve,
        })
        .await;
        stage.fetch(&order()).await.expect("fetched");
        stage.expect_whole();
        assert_eq!(stage.seen("Restarts"), 1);
    }
}

#[tokio::test]
async fn a_length_that_is_not_the_listings_is_refused_at_once() {
    let stage = Stage::new(|asked| match asked.path.ends_with("config.json") {
        true if !asked.path.contains("tokenizer") => Act::Answer(200, Vec::new(), "{}".to_owned()),
        _ => Act::Serve,
    })
    .await;
    let told = stage.fetch(&order()).await.expect_err("too short").to_string();
    assert!(told.contains("config.json has 2 bytes there, and 18 in the listing"), "{told}");
    let endless = Stage::new(|asked| match asked.path.ends_with("/config.json") {
        true => Act::TooMany,
        _ => Act::Serve,
    })
    .await;
    let error = endless.fetch(&order()).await.expect_err("too long");
    assert!(matches!(error, FetchError::GaveUp { tries: 4, .. }), "{error}");
    assert!(error.to_string().contains("more bytes came than the file has"), "{error}");
    assert_eq!(endless.file("config.json.part").map(|part| part.len()), Some(0), "nothing of it is kept");
}

#[tokio::test]
async fn refusals_are_named_with_what_to_do() {
    let refusing = |status: u16, code: &'static str, words: &'static str| {
        move |asked: &Asked| match asked.path.contains("/resolve/") || code != "EntryNotFound" {
            true => Act::Answer(
                status,
                vec![("X-Error-Code", code.to_owned())],
                format!(r#"{{"error":"{words}"}}"#),
            ),
            _ => Act::Serve,
        }
    };
    let words = "Access to model maker/Model-1 is restricted.";
    for (status, code, told) in [
        (401, "GatedRepo", "HF_TOKEN"),
        (403, "GatedRepo", words),
        (403, "", "HF_TOKEN"),
        (401, "RepoNotFound", "check its name"),
        (404, "RevisionNotFound", "--revision"),
        (404, "EntryNotFound", "has no file config.json"),
        (451, "", words),
    ] {
        let stage = Stage::new(refusing(status, code, words)).await;
        let error = stage.fetch(&order()).await.expect_err("refused");
        assert!(matches!(error, FetchError::Source(_)) && !error.may_pass(), "{status} {code}: {error}");
        assert!(
            error.to_string().contains(told) && error.to_string().contains(words),
            "{status} {code}: {error}"
        );
        assert!(stage.hub.asked().len() <= 3, "asked once");
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again_within_bounds() {
    let stage = Stage::new(|asked| match [0, 1, 4, 7, 8, 11].contains(&asked.number) {
        true => Act::Answer([429, 500, 503][asked.number % 3], Vec::new(), "<html>".to_owned()),
        false => Act::Serve,
    })
    .await;
    stage.fetch(&order()).await.expect("fetched");
    stage.expect_whole();
    let away = Stage::new(|_| Act::Answer(503, Vec::new(), String::new())).await;
    let error = away.fetch(&order()).await.expect_err("away");
    assert!(matches!(error, FetchError::GaveUp { tries: 4, .. }) && error.may_pass(), "{error}");
    assert_eq!(away.hub.asked().len(), 4);
    let source = away.source(None);
    drop(away);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(matches!(source.list(None).await, Err(SourceError::Away { .. })), "nothing listens");
}

#[tokio::test]
async fn the_token_goes_to_its_own_host_and_no_further() {
    let elsewhere = TestHub::start("x", repository(), |_| Act::Serve).await;
    let base = elsewhere.endpoint();
    let stage = Stage::new(move |asked| match asked.path.strip_prefix("/large/") {
        Some(file) => Act::Answer(302, vec![("Location", format!("{base}/large/{file}"))], String::new()),
        None => Act::Serve,
    })
    .await;
    let source = stage.source(Some("hf_secret"));
    stage.fetch_from(&source, &order()).await.expect("fetched");
    stage.expect_whole();
    assert!(stage.hub.asked().iter().all(|asked| asked.authorization.as_deref() == Some("Bearer hf_secret")));
    let there = elsewhere.asked();
    assert!(there.len() >= 3 && there.iter().all(|asked| asked.authorization.is_none()), "{there:?}");
    assert!(!stage.seen.lock().expect("ours").iter().any(|line| line.contains("hf_secret")));
}

#[tokio::test]
async fn redirects_in_a_circle_and_to_other_schemes_end() {
    for (location, told) in [
        ("/large/x".to_owned(), "redirects more than 5 times"),
        ("file:///etc/passwd".to_owned(), "isn't followed"),
        ("http://user:password@127.0.0.1/".to_owned(), "isn't followed"),
    ] {
        let stage = Stage::new(move |asked| match asked.path.starts_with(LARGE) {
            true => Act::Answer(307, vec![("Location", location.clone())], String::new()),
            _ => Act::Serve,
        })
        .await;
        let error = stage.fetch(&order()).await.expect_err("nowhere");
        assert!(error.to_string().contains(told) && !error.may_pass(), "{error}");
        assert!(stage.hub.asked().len() < 20);
    }
}

#[tokio::test]
async fn weights_that_leave_the_folder_or_are_not_there_are_refused() {
    for (data, told) in [
        (&["../../outside"][..], "is refused"),
        (&["/etc/passwd"], "is refused"),
        (&["model.onnx_data", "model.onnx_data_7"], "isn't in the repository"),
    ] {
        let mut files = repository();
        files.insert("onnx/model.onnx".to_owned(), graph(data));
        let stage = Stage::of(files, |_| Act::Serve).await;
        let error = stage.fetch(&order()).await.expect_err("refused");
        assert!(matches!(error, FetchError::Needs(_)) && error.to_string().contains(told), "{error}");
    }
    let mut files = repository();
    files.insert("onnx/model.onnx".to_owned(), b"<html>".to_vec());
    let stage = Stage::of(files, |_| Act::Serve).await;
    assert!(matches!(stage.fetch(&order()).await, Err(FetchError::Graph(_))));
}
