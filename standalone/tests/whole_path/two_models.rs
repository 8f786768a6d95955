//! Three nodes that serve two models each: a request is answered by the model that it names, and verified among its replicas.

use std::path::{Path, PathBuf};

use infera::network::Network;
use infera_engine_onnx::choices::{ModelChoice, ModelChoices};
use serde_json::json;

use crate::client::question;
use crate::stage::{Stage, config, root, text};

/// Makes a folder of its own of the bundled model's 4-bit export.
fn quantised(place: &Path) -> PathBuf {
    let (bundled, folder) = (root().join("models/infera-tiny"), place.join("infera-tiny-q4"));
    std::fs::create_dir_all(folder.join("onnx")).expect("a folder");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(bundled.join(name), folder.join(name)).expect("copied");
    }
    std::fs::copy(bundled.join("onnx/model_q4.onnx"), folder.join("onnx/model.onnx")).expect("copied");
    folder
}

fn choices(folders: &[PathBuf]) -> ModelChoices {
    let of = |folder: &PathBuf| ModelChoice { folder: folder.clone(), ..ModelChoice::default() };
    ModelChoices(folders.iter().map(of).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_answered_by_the_model_that_it_names() {
    let place = tempfile::tempdir().expect("a scratch folder");
    let folders = [root().join("models/infera-tiny"), quantised(place.path())];
    let mut stage = Stage::open_with(3, |config| config.engine.models = choices(&folders)).await;
    stage.run(3).await;
    let listed = stage.client.call("GET", "/v1/models", None).await.json;
    let names: Vec<&str> =
        listed["data"].as_array().expect("a list").iter().filter_map(|model| model["id"].as_str()).collect();
    assert_eq!(names, ["infera-tiny", "infera-tiny-q4"], "{listed}");
    for name in names {
        let mut body = question("What is the capital of France?");
        body["model"] = json!(name);
        body["verification"] = json!({"quorum": 3});
        let reply = stage.client.chat(&body).await;
        assert_eq!((reply.status, &reply.json["model"]), (200, &json!(name)), "{}", reply.json);
        assert!(text(&reply.json).contains("Paris"), "{}", reply.json);
        let verification = &reply.json["verification"];
        assert_eq!(verification["rung"], "identical", "{verification}");
        assert_eq!(verification["replicas"], json!({"asked": 3, "answered": 3, "agreed": 3}));
    }
    stage.close().await;
}

/// The bound counts the engines of all nodes.
#[tokio::test(flavor = "multi_thread")]
async fn models_that_do_not_fit_together_are_refused_before_any_is_loaded() {
    let place = tempfile::tempdir().expect("a scratch folder");
    let mut config = config(&place.path().join("data"), 3);
    config.engine.models = choices(&[root().join("models/infera-tiny"), quantised(place.path())]);
    config.engine.memory_bytes_max = Some(1 << 30);
    config.engine.library = PathBuf::from("/nowhere/libonnxruntime.so");
    let told = match Network::start(config).await {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    for words in
        ["infera-tiny ", "infera-tiny-q4 ", "in each of 3 nodes", "engine.memory_bytes_max allows 1.0 GiB"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
}
