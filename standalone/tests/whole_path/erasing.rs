//! What is erased is nowhere in the data folder, and an operator's commands order it too.

use std::path::{Path, PathBuf};

use infera::commands::{ShowError, show_record};
use infera_archive::record::RecordError;
use infera_types::ids::JobId;
use serde_json::{Value, json};

use crate::client::question;
use crate::records::{infera, text};
use crate::stage::{Stage, eventually};

/// Words that no file has by itself.
const CANARY: &str = "canary-c0ffee-77aa";

/// All files of a folder and below.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The files that have the canary. Objects of the archive are compressed; their records are looked at by their jobs.
fn with_canary(folder: &Path) -> Vec<PathBuf> {
    let has_it = |path: &PathBuf| {
        // A file may be gone by now: another object took its place.
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
    };
    files(folder).into_iter().filter(has_it).collect()
}

async fn until_archived(stage: &Stage, job: &str) -> String {
    let id: JobId = job.parse().expect("an id");
    let data = stage.config.data.clone();
    eventually("the record is archived", async || show_record(&data, id).await.ok()).await
}

async fn until_erased(stage: &Stage, path: &str) {
    eventually("it is erased", async || {
        let json = stage.client.call("GET", path, None).await.json;
        (json["status"] == "erased").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_text_is_in_no_file_of_the_data_folder() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let ask = |store: Option<bool>| {
        let mut body = question(&format!("Say {CANARY}."));
        body["metadata"] = json!({ "label": CANARY });
        if let Some(store) = store {
            body["store"] = json!(store);
        }
        body
    };
    let mut jobs = Vec::new();
    for store in [None, Some(false)] {
        let reply = stage.client.chat(&ask(store)).await;
        assert_eq!(reply.status, 200, "{}", reply.json);
        assert_eq!(reply.json["store"], json!(store.unwrap_or(true)));
        jobs.push(reply.json["job_id"].as_str().expect("a job").to_owned());
    }
    let kept = stage.client.chat(&question("What is 2 + 3?")).await;
    let kept = kept.json["job_id"].as_str().expect("a job").to_owned();
    assert!(until_archived(&stage, &jobs[0]).await.contains(CANARY));
    until_archived(&stage, &kept).await;
    let folder = stage.config.data.clone();
    assert!(!with_canary(&folder).is_empty(), "the test looks in the right place");
    let unstored: JobId = jobs[1].parse().expect("an id");
    let waits = show_record(&folder, unstored).await.expect_err("it is not archived with its text");
    assert!(waits.to_string().contains("not in the archive yet"), "{waits}");

    for job in &jobs {
        let path = format!("/v1/jobs/{job}/data");
        let ordered = stage.client.call("DELETE", &path, None).await;
        assert!(matches!(ordered.status, 200 | 202), "{}", ordered.json);
        until_erased(&stage, &path).await;
        assert_eq!(stage.client.call("GET", &format!("/v1/jobs/{job}"), None).await.status, 410);
    }
    // The log is cut at the next commit after the last reader.
    eventually("the canary is gone", async || with_canary(&folder).is_empty().then_some(())).await;
    for job in jobs.iter().chain([&kept]) {
        let line = until_archived(&stage, job).await;
        let record: Value = serde_json::from_str(&line).expect("JSON");
        assert!(!line.contains(CANARY));
        assert_eq!(record["erased"].is_object(), *job != kept, "{line}");
        assert!(record["postings"].as_array().is_some_and(|postings| postings.len() > 1), "{line}");
    }
    let usage = stage.client.call("GET", "/v1/usage", None).await.json;
    assert_eq!(usage["data"][0]["requests"], json!(3), "{usage}");
    let folder = stage.close().await;
    assert_eq!(with_canary(folder.path()), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_order_what_the_next_start_erases() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let reply = stage.client.chat(&question(&format!("Say {CANARY}."))).await;
        jobs.push(reply.json["job_id"].as_str().expect("a job").to_owned());
    }
    for job in &jobs {
        until_archived(&stage, job).await;
    }
    let keys = stage.client.call("GET", "/v1/keys", None).await.json;
    let account = keys["data"][0]["account"].as_str().expect("an account").to_owned();
    // Beside a network that runs, the order goes to it.
    let done = infera(&stage.config.data, &["job", "erase", &jobs[0]], "");
    assert!(done.status.success() && text(&done.stdout).contains("queued"), "{done:?}");
    until_erased(&stage, &format!("/v1/jobs/{}/data", jobs[0])).await;
    let folder = stage.close().await;

    let unknown = JobId::new().to_string();
    for words in [
        &["job", "erase", &unknown][..],
        &["account", "erase", &account],
        &["account", "erase", "acct0", "--yes"],
    ] {
        assert_eq!(infera(folder.path(), words, "").status.code(), Some(3), "{words:?}");
    }
    for (words, said) in [
        (&["job", "erase", &jobs[1]][..], "queued"),
        (&["account", "erase", &account, "--yes"], "queued; 0 ended jobs found"),
    ] {
        let done = infera(folder.path(), words, "");
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        assert!(text(&done.stdout).contains(said), "{}", text(&done.stdout));
    }
    let mut stage = Stage::reopen(folder, 3).await;
    stage.run(3).await;
    for job in &jobs {
        until_erased(&stage, &format!("/v1/jobs/{job}/data")).await;
        let line = until_archived(&stage, job).await;
        assert!(!line.contains(CANARY), "{line}");
    }
    until_erased(&stage, "/v1/account/data").await;
    let folder = stage.close().await;
    assert_eq!(with_canary(folder.path()), Vec::<PathBuf>::new());
    let found = show_record(folder.path(), JobId::new()).await;
    assert!(matches!(found, Err(ShowError::Record(RecordError::NotEnded(_)))), "{found:?}");
}
