//! Several models in one network, which come and go while it runs, by the commands that a person types.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use infera_types::ids::JobId;
use serde_json::{Value, json};

use crate::client::{Reply, question};
use crate::records::{infera, text};
use crate::stage::{Stage, eventually, root};

/// Copies the bundled model, with a word in its template that shows nowhere: other files, the same answers.
fn copy(to: &Path) -> PathBuf {
    let tiny = root().join("models/infera-tiny");
    fs::create_dir_all(to.join("onnx")).expect("a folder");
    for name in ["config.json", "generation_config.json", "tokenizer.json", "onnx/model.onnx"] {
        fs::copy(tiny.join(name), to.join(name)).expect("copied");
    }
    let settings = fs::read(tiny.join("tokenizer_config.json")).expect("bundled");
    let mut settings: Value = serde_json::from_slice(&settings).expect("JSON");
    let template = settings["chat_template"].as_str().expect("a template").to_owned();
    settings["chat_template"] = json!(format!("{{# a copy #}}{template}"));
    fs::write(to.join("tokenizer_config.json"), settings.to_string()).expect("written");
    to.to_owned()
}

/// The program beside a running network, on a thread of its own.
async fn beside(data: &Path, words: &[&str]) -> Output {
    let (data, words) = (data.to_owned(), words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let run = move || infera(&data, &words.iter().map(String::as_str).collect::<Vec<_>>(), "");
    tokio::task::spawn_blocking(run).await.expect("it ends")
}

async fn done(data: &Path, words: &[&str]) -> String {
    let ended = beside(data, words).await;
    assert_eq!(ended.status.code(), Some(0), "{words:?}: {}", text(&ended.stderr));
    text(&ended.stdout).to_owned()
}

fn asked(model: &str, content: &str) -> Value {
    let mut body = question(content);
    body["model"] = json!(model);
    body
}

/// The nodes that serve a model, by the list of models; none where it isn't listed.
async fn nodes_of(stage: &Stage, model: &str) -> Option<u64> {
    let listed = stage.client.call("GET", "/v1/models", None).await.json;
    let of_name = |one: &&Value| one["id"] == model;
    listed["data"].as_array().expect("a list").iter().find(of_name)?["nodes"].as_u64()
}

async fn served(stage: &Stage, model: &str) {
    eventually("three nodes serve it", async || (nodes_of(stage, model).await == Some(3)).then_some(()))
        .await;
}

/// The digests of the models that the nodes announced which answered a chat, from its archived record.
async fn digests_of(stage: &Stage, reply: &Reply) -> Vec<String> {
    let job: JobId = reply.json["job_id"].as_str().expect("a job").parse().expect("an id");
    let data = stage.config.data.clone();
    let line =
        eventually("it is archived", async || infera::commands::show_record(&data, job).await.ok()).await;
    let record: Value = serde_json::from_str(&line).expect("JSON");
    let asked = record["settlement"]["group"]["assignments"].as_array().expect("a group").clone();
    let mut digests: Vec<String> = asked
        .iter()
        .filter_map(|one| one["replica"]["numeric_class"]["model_digest"].as_str().map(str::to_owned))
        .collect();
    digests.sort();
    digests.dedup();
    digests
}

/// A model that is added while the network runs is answered beside the first, each by its own nodes; removed, it is refused in clear
/// words while the first goes on; and it comes back, also after the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_comes_and_goes_beside_another_while_the_network_runs() {
    const SECOND: &str = "second";
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let data = stage.config.data.clone();
    let models = tempfile::tempdir().expect("a folder");
    let folder = copy(&models.path().join("a-copy"));
    let folder = folder.to_str().expect("text");

    let unknown = stage.client.chat(&asked(SECOND, "What is 2 + 3?")).await;
    assert_eq!((unknown.status, &unknown.json["error"]["code"]), (404, &json!("model_not_found")));
    let said = done(&data, &["model", "add", SECOND, folder]).await;
    assert!(said.contains("second is in the catalogue") && said.contains("3 nodes"), "{said}");
    served(&stage, SECOND).await;

    let (second, first) = (asked(SECOND, "What is 2 + 3?"), question("What is 2 + 3?"));
    let (second, first) = tokio::join!(stage.client.chat(&second), stage.client.chat(&first));
    for reply in [&second, &first] {
        assert_eq!(reply.status, 200, "{}", reply.json);
    }
    assert_eq!(second.json["model"], SECOND);
    assert_eq!(
        second.json["choices"][0]["message"]["content"],
        first.json["choices"][0]["message"]["content"]
    );
    let (of_second, of_first) = (digests_of(&stage, &second).await, digests_of(&stage, &first).await);
    assert_eq!((of_second.len(), of_first.len()), (1, 1), "{of_second:?} {of_first:?}");
    assert_ne!(of_second, of_first, "each by its own nodes");

    // Other files under the same name are refused, unless that is meant.
    let other = root().join("models/infera-tiny");
    let other = other.to_str().expect("text");
    let refused = beside(&data, &["model", "add", SECOND, other]).await;
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stdout));
    assert!(text(&refused.stderr).contains("--replace"), "{}", text(&refused.stderr));

    // What waits when it is removed is answered.
    let body = json!({ "jobs": [asked(SECOND, "What is 3 + 3?"), asked(SECOND, "What is 4 + 3?")] });
    let before = stage.client.call("POST", "/v1/jobs", Some(&body)).await.json;
    let said = done(&data, &["model", "remove", SECOND]).await;
    assert!(said.contains("second is removed"), "{said}");
    eventually("it is listed no more", async || nodes_of(&stage, SECOND).await.is_none().then_some(())).await;
    for path in ["/v1/chat/completions", "/chat/completions", "/submit_job"] {
        let mut body = asked(SECOND, "What is 2 + 3?");
        body["max_output"] = json!(48);
        let gone = stage.client.call("POST", path, Some(&body)).await;
        assert_eq!(gone.status, 404, "{path}: {}", gone.json);
        assert!(gone.json.to_string().contains("no longer served"), "{path}: {}", gone.json);
    }
    assert_eq!(stage.client.chat(&question("What is 5 + 3?")).await.status, 200, "the first goes on");
    for job in before["data"].as_array().expect("two jobs") {
        let id = job["id"].as_str().expect("an id").to_owned();
        let ended = eventually("it ends", async || {
            let job = stage.client.job(&id).await;
            ["succeeded", "failed"].contains(&job["status"].as_str()?).then_some(job)
        })
        .await;
        assert_eq!(ended["status"], "succeeded", "{ended}");
    }

    let said = done(&data, &["model", "add", SECOND, folder]).await;
    assert!(said.contains("in the catalogue again"), "{said}");
    served(&stage, SECOND).await;
    assert_eq!(stage.client.chat(&asked(SECOND, "What is 6 + 3?")).await.status, 200);

    let ended = stage.close().await;
    let mut stage = Stage::reopen(ended, 3).await;
    stage.run(3).await;
    served(&stage, SECOND).await;
    assert_eq!(stage.client.chat(&asked(SECOND, "What is 7 + 3?")).await.status, 200, "after a start");
    stage.close().await;
}

/// Models are added and removed on a folder that no network runs on, and what can't be served isn't added.
#[tokio::test(flavor = "multi_thread")]
async fn models_are_added_between_two_runs_and_what_cannot_be_served_is_refused() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let ended = stage.close().await;
    let models = tempfile::tempdir().expect("a folder");
    let folder = copy(&models.path().join("a-copy"));
    let folder_text = folder.to_str().expect("text");
    let data = ended.path().to_owned();
    for (words, code, said) in [
        (vec!["model", "add", "Second", folder_text], 2, "is no name for a model"),
        (vec!["model", "add", "second", "./not-there/at-all"], 2, "not-there"),
        (vec!["model", "add", "second", folder_text, "--variant", "q4"], 3, "no ONNX file for \"q4\""),
        (vec!["model", "add", "second"], 2, "there is no model"),
        (vec!["model", "remove", "second"], 3, "the catalogue has no model second"),
    ] {
        let ended = beside(&data, &words).await;
        assert_eq!(ended.status.code(), Some(code), "{words:?}: {}", text(&ended.stderr));
        assert!(text(&ended.stderr).contains(said), "{words:?}: {}", text(&ended.stderr));
    }
    let said = done(&data, &["model", "add", "second", folder_text]).await;
    assert!(said.contains("the next `infera up`"), "{said}");

    // A folder whose files went by the next start keeps no other model from being served.
    fs::rename(&folder, models.path().join("moved")).expect("moved");
    let mut stage = Stage::reopen(ended, 3).await;
    stage.run(3).await;
    assert_eq!(stage.client.chat(&question("What is 2 + 3?")).await.status, 200);
    let gone = stage.client.chat(&asked("second", "What is 2 + 3?")).await;
    assert_eq!((gone.status, &gone.json["error"]["code"]), (404, &json!("model_not_found")), "{}", gone.json);
    // It is back, and so is the model.
    fs::rename(models.path().join("moved"), &folder).expect("moved back");
    done(&data, &["model", "add", "second", folder_text]).await;
    served(&stage, "second").await;
    assert_eq!(stage.client.chat(&asked("second", "What is 2 + 3?")).await.status, 200);
    stage.close().await;
}

/// Waits for a model whose files others may have too: nodes serve files, so those of a model with the same files are its own as well.
async fn listed(stage: &Stage, model: &str) {
    let are_enough = async || nodes_of(stage, model).await.is_some_and(|nodes| nodes >= 3).then_some(());
    eventually("three nodes or more serve it", are_enough).await;
}

/// A model is served after a start though another one with the same tokenizer, whose name comes first, was removed before; so is one
/// that is added after that start.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_outlives_the_removal_of_another_with_its_tokenizer() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let data = stage.config.data.clone();
    let models = tempfile::tempdir().expect("a folder");
    let folder = copy(&models.path().join("a-copy"));
    let folder = folder.to_str().expect("text");
    done(&data, &["model", "add", "alpha", folder]).await;
    done(&data, &["model", "remove", "alpha"]).await;
    done(&data, &["model", "add", "beta", folder]).await;
    listed(&stage, "beta").await;

    let ended = stage.close().await;
    let mut stage = Stage::reopen(ended, 3).await;
    stage.run(3).await;
    listed(&stage, "beta").await;
    assert_eq!(stage.client.chat(&asked("beta", "What is 2 + 3?")).await.status, 200, "after a start");
    done(&data, &["model", "add", "gamma", folder]).await;
    listed(&stage, "gamma").await;
    assert_eq!(stage.client.chat(&asked("gamma", "What is 4 + 3?")).await.status, 200, "added after it");
    stage.close().await;
}
