//! `infera model …` as a person runs it: the real program, killed and cut off, against a Hub of our own.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use infera_conformance::hub::{Act, TestHub};
use infera_types::ids::Digest;
use serde_json::Value;
use tempfile::TempDir;

const NAME: &str = "maker/Tiny-Model";

/// The bundled model as a repository.
fn tiny() -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/infera-tiny");
    let names = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "onnx/model.onnx",
        "onnx/model_q4.onnx",
    ];
    names.map(|name| (name.to_owned(), std::fs::read(folder.join(name)).expect("bundled"))).into()
}

/// The program in a folder of its own, before a Hub.
struct Stage {
    hub: TestHub,
    folder: TempDir,
}

impl Stage {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infera"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("HF_ENDPOINT", self.hub.endpoint())
            .env_remove("HF_TOKEN")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end, while the Hub goes on.
    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        tokio::task::spawn_blocking(move || command.output()).await.expect("ends").expect("runs")
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn file(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.path().join(".runtime/models/tiny-model").join(path)).ok()
    }
}

async fn stage(
    files: BTreeMap<String, Vec<u8>>,
    script: impl Fn(&infera_conformance::hub::Asked) -> Act + Send + Sync + 'static,
) -> Stage {
    Stage { hub: TestHub::start(NAME, files, script).await, folder: tempfile::tempdir().expect("a folder") }
}

const KILLS: usize = 20;
/// Large enough that 20 kills within a tenth of a second each come before its end.
const LARGE_BYTES: usize = 32 << 20;

/// The program is killed 20 times at any moment, then cut off by its source every few MiB, and ends with the right digest,
/// without fetching again what it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_survives_kills_and_cuts() {
    let mut files = tiny();
    // Its weights are no weights, but the fetch doesn't know.
    let large: Vec<u8> =
        (0..LARGE_BYTES as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect();
    let digest = Digest::of(&large);
    files.insert("tokenizer.json".to_owned(), large);
    let quick = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&quick);
    let stage = stage(files, move |asked| {
        match asked.path.ends_with("tokenizer.json") && asked.path.starts_with("/large/") {
            true if now.load(Ordering::Relaxed) => Act::CutAfter(3 << 20),
            // At most 16 MB a second.
            true => Act::Slowly(Duration::from_millis(1)),
            false => Act::Serve,
        }
    })
    .await;
    let fetch = ["model", "fetch", NAME];
    let sent = || stage.hub.asked_for("/large/tokenizer.json").len();
    for round in 0..KILLS {
        let before = sent();
        let mut program = stage.command(&fetch).spawn().expect("it runs");
        // Some are killed before they ask for the file, most while it comes.
        let mut looks = 0;
        while round % 5 != 4 && sent() == before && looks < 2000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            looks += 1;
        }
        tokio::time::sleep(Duration::from_millis(RandomState::new().hash_one(round) % 90)).await;
        assert!(program.try_wait().expect("it can be asked").is_none(), "it still runs in round {round}");
        program.kill().expect("killed");
        program.wait().expect("it has ended");
        assert!(stage.file("tokenizer.json").is_none(), "not in its place before it is whole");
    }
    let had = stage.file("tokenizer.json.part").expect("what has come is kept").len();
    assert!(had > 1 << 20, "{had} bytes");
    quick.store(true, Ordering::Relaxed);
    let output = stage.run(&fetch).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(Digest::of(&stage.file("tokenizer.json").expect("whole")), digest);
    let froms: Vec<usize> =
        stage.hub.asked_for("/large/tokenizer.json").iter().map(|asked| asked.from.unwrap_or(0)).collect();
    assert!(froms.is_sorted() && froms.contains(&had), "went on where it was: {froms:?}");
    assert!(froms.iter().filter(|from| **from > had).count() >= 5, "and was cut: {froms:?}");
    for (path, content) in tiny() {
        if path == "config.json" || path == "onnx/model.onnx" {
            assert!(stage.file(&path).is_some_and(|file| file == content), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetched_model_is_listed_verified_reckoned_and_found_by_its_name() {
    let stage = stage(tiny(), |_| Act::Serve).await;
    let output = stage.run(&["model", "fetch", NAME]).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("`infera up --model tiny-model` serves it"),
        "{output:?}"
    );
    assert!(
        output.stderr.is_empty() || !String::from_utf8_lossy(&output.stderr).contains('\u{1b}'),
        "quiet: {output:?}"
    );
    assert!(stage.run(&["model", "fetch", "tiny-model", "--variant", "q4"]).await.status.success());

    let list = stage.json(&["model", "list", "--json"]).await;
    let model = &list["models"][0];
    assert_eq!((model["name"].as_str(), model["repository"].as_str()), (Some("tiny-model"), Some(NAME)));
    assert!(model["verified_ms"].is_u64() && model["missing_bytes"] == 0, "{model}");
    let serves =
        model["served_as"].as_array().expect("variants").iter().all(|variant| variant["serves"] == true);
    assert!(serves && model["served_as"].as_array().is_some_and(|variants| variants.len() == 2), "{model}");
    assert!(
        list["known"].as_array().is_some_and(|known| known.iter().any(|known| known["word"] == "smollm2"))
    );

    let fit = stage.json(&["model", "fit", "tiny-model", "--context", "128", "--batch", "4", "--json"]).await;
    let line = &fit["lines"][0];
    assert!(line["device"] == "cpu" && line["verdict"] == "fits" && line["tokens_per_s"].is_null(), "{fit}");
    assert!(line["needed_bytes"].as_u64() > Some(1 << 20) && line["context"] == 128, "{fit}");
    let fit = ["model", "fit", "tiny-model", "--context", "128", "--batch", "4", "--json"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let library = root.join(infera_engine_onnx::config::EngineConfig::default().library);
    let library = format!("engine.library={}", library.display());
    let measured = stage.json(&[&fit[..], &["--measure", "--set", library.as_str()]].concat()).await;
    let rates = |fit: &Value| -> Vec<Option<f64>> {
        let lines = fit["lines"].as_array().expect("lines").iter();
        lines.filter(|line| line["device"] == "cpu").map(|line| line["tokens_per_s"].as_f64()).collect()
    };
    let found = rates(&measured);
    assert!(found.len() == 2 && found.iter().all(|rate| rate.is_some_and(|rate| rate > 1.0)), "{measured}");
    assert_eq!(rates(&stage.json(&fit).await), found, "kept");
    let other = stage.json(&[&fit[..], &["--set", "engine.threads=2"]].concat()).await;
    assert_eq!(rates(&other), [None, None], "of another engine");
    let huge =
        stage.json(&["model", "fit", "tiny-model", "--batch", "4096", "--engines", "1000", "--json"]).await;
    assert_eq!(huge["lines"][0]["verdict"], "too_large");

    let config = stage.run(&["config", "--model", "tiny-model"]).await;
    let config = String::from_utf8_lossy(&config.stdout).into_owned();
    assert!(
        config.contains("folder = \".runtime/models/tiny-model\"") && config.contains("variant = \"model\""),
        "{config}"
    );
    let q4 = stage.run(&["config", "--model", "tiny-model", "--set", "engine.variant=q4"]).await;
    assert!(String::from_utf8_lossy(&q4.stdout).contains("variant = \"q4\""));

    let verified = stage.json(&["model", "verify", "tiny-model", "--json"]).await;
    assert!(
        verified["files"].as_array().expect("files").iter().all(|file| file["state"] == "good"),
        "{verified}"
    );
    let weights = stage.folder.path().join(".runtime/models/tiny-model/onnx/model.onnx");
    let mut bytes = std::fs::read(&weights).expect("there");
    bytes[1000] ^= 1;
    std::fs::write(&weights, bytes).expect("damaged");
    let damaged = stage.run(&["model", "verify", "tiny-model"]).await;
    let said = String::from_utf8_lossy(&damaged.stdout).into_owned();
    assert!(damaged.status.code() == Some(3) && said.contains("onnx/model.onnx has SHA-256"), "{damaged:?}");
    assert_eq!(stage.json(&["model", "list", "--json"]).await["models"][0]["verified_ms"], Value::Null);
    assert!(stage.run(&["model", "fetch", "tiny-model"]).await.status.success(), "a fetch mends it");
    assert!(stage.run(&["model", "verify", "tiny-model"]).await.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_with_its_exit_code() {
    let gated = stage(tiny(), |_| {
        let code = vec![("X-Error-Code", "GatedRepo".to_owned())];
        Act::Answer(403, code, r#"{"error":"Access to model maker/Tiny-Model is restricted."}"#.to_owned())
    })
    .await;
    let told = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let output = gated.run(&["model", "fetch", NAME]).await;
    assert!(output.status.code() == Some(3) && told(&output).contains("is restricted"), "{output:?}");
    assert!(told(&output).contains("HF_TOKEN"));
    let mut clear = gated.command(&["model", "fetch", NAME]);
    clear.env("HF_ENDPOINT", "http://192.0.2.1").env("HF_TOKEN", "hf_secret");
    let output = tokio::task::spawn_blocking(move || clear.output()).await.expect("ends").expect("runs");
    assert!(output.status.code() == Some(2) && told(&output).contains("without TLS"), "{output:?}");
    assert!(!told(&output).contains("hf_secret"));
    for (arguments, code, words) in [
        (&["model", "fetch", "../x"][..], 2, "owner/name"),
        (&["model", "fetch", "a/b", "--name", "../x"], 2, "lower-case"),
        (&["model", "fetch", "smollm2"], 2, "make model-smollm2"),
        (&["model", "fetch", "a/b", "--pins", "absent.json"], 2, "absent.json"),
        (&["model", "verify", "absent"], 3, "infera model fetch"),
        (&["model", "fit", "absent"], 2, "infera model list"),
        (&["config", "--model", "absent"], 2, "infera model list"),
    ] {
        let output = gated.run(arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(told(&output).contains(words), "{arguments:?}: {output:?}");
    }
    let list = gated.run(&["model", "list"]).await;
    assert!(String::from_utf8_lossy(&list.stdout).contains("No model is in .runtime/models"), "{list:?}");
}

/// The words and folders that `list`, `fit` and `add` take are those that `verify` takes, whether or not anything was fetched.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_models_word_and_a_folder_are_verified_too() {
    let stage = stage(BTreeMap::new(), |_| Act::Serve).await;
    for (path, content) in tiny() {
        let file = stage.folder.path().join("models/infera-tiny").join(path);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::write(file, content).expect("written");
    }
    for word in ["infera-tiny", "./models/infera-tiny"] {
        let verified = stage.run(&["model", "verify", word]).await;
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(verified.status.success(), "{word}: {verified:?}");
        assert!(
            said.contains("model: can be served") && said.contains("nothing is pinned"),
            "{word}: {said}"
        );
    }
    for (word, code, words) in [
        ("smollm2", 2, "make model-smollm2"),
        ("never-there", 3, "infera model list"),
        ("./nowhere", 3, "isn't there"),
    ] {
        let refused = stage.run(&["model", "verify", word]).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(code) && said.contains(words), "{word}: {refused:?}");
    }
    let fit = stage.run(&["model", "fit", "infera-tiny", "--variant", "model"]).await;
    let said = String::from_utf8_lossy(&fit.stdout).into_owned();
    assert!(said.contains("`infera up` with 3 nodes, each of up to 16 sequences"), "{fit:?}");
}
