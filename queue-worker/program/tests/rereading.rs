//! Models come and go with the settings, by the signal USR1, while a worker on the embedded broker goes on. The engines are real.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use infera_broker::memory::MemoryBroker;
use infera_broker::{Broker as _, topology};
use infera_engine_onnx::config::EngineConfig;
use infera_types::ids::{ModelName, NodeId};
use infera_types::shutdown::Shutdown;
use infera_worker::{Config, Seams, Worker, WorkerHandle};
use infera_worker_program::rereading::{Rereading, follow};
use infera_worker_program::serving::{Admission, Served, load};

const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Writes settings that name these folders, and asks this process to read them.
fn name(settings: &Path, folders: &[&Path], memory_bytes_max: u64) {
    let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let text = serde_json::json!({"models": folders, "memory_bytes_max": memory_bytes_max}).to_string();
    std::fs::write(settings, text).expect("written");
    let signalled = Command::new("kill").args(["-USR1", &std::process::id().to_string()]).status();
    assert!(signalled.expect("kill runs").success());
}

fn read(settings: &Path) -> EngineConfig {
    let text = std::fs::read(settings).expect("settings");
    let named = std::env::var_os("INFERA_ONNXRUNTIME_LIBRARY").map(PathBuf::from);
    let config: EngineConfig = serde_json::from_slice(&text).expect("good settings");
    let library = named.unwrap_or_else(|| root().join(&config.library));
    EngineConfig { library, ..config }
}

/// Waits until exactly these models are served.
async fn until(worker: &WorkerHandle, names: &[&str]) {
    let wanted: Vec<ModelName> = names.iter().map(|name| ModelName::new(*name)).collect();
    let waiting = async {
        while worker.models() != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{wanted:?} are wanted, {:?} are served", worker.models());
}

#[tokio::test]
async fn models_come_and_go_with_the_settings_and_no_restart() {
    let place = tempfile::tempdir().expect("a folder");
    let settings = place.path().join("settings.json");
    let folders = ["infera-tiny", "other", "third"].map(|name| place.path().join(name));
    let bundled = root().join("models/infera-tiny").canonicalize().expect("it is bundled");
    for (folder, variant) in folders.iter().zip(["model", "q4", "plain"]) {
        // The digest is of the ONNX file, so each folder needs another.
        std::fs::create_dir_all(folder.join("onnx")).expect("a folder");
        for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(bundled.join(file), folder.join(file)).expect("copied");
        }
        let file = if variant == "model" { "model.onnx".to_owned() } else { format!("model_{variant}.onnx") };
        std::fs::copy(bundled.join("onnx").join(file), folder.join("onnx/model.onnx")).expect("copied");
    }
    let [tiny, other, third] = &folders;

    let source = settings.clone();
    let mut rereading = Rereading::on_signal(move || Ok(read(&source))).expect("signals");
    name(&settings, &[tiny], u64::MAX >> 1);
    let config = read(&settings);
    let admission = Admission::now(&config, 16).await.expect("a look");
    let each = admission.admit(&config).expect("one model");
    let mut models = Vec::new();
    for config in &each {
        models.push(load(config).await.expect("it loads; run `make setup` first"));
    }
    let mut served = Served::new(each);

    let (broker, node) = (MemoryBroker::new(), NodeId::fresh());
    let queue = topology::node(&node, "suffix");
    broker.declare(&queue).await.expect("a queue");
    let worker = Worker::new(Config::default(), node, queue.name, Seams { broker, models });
    let (handle, shutdown) = (worker.handle(), Shutdown::new());
    let running = tokio::spawn(worker.run(shutdown.clone()));
    until(&handle, &["infera-tiny"]).await;

    let changing = async {
        name(&settings, &[tiny, other], u64::MAX >> 1);
        until(&handle, &["infera-tiny", "other"]).await;
        name(&settings, &[other, third], u64::MAX >> 1);
        until(&handle, &["other", "third"]).await;
        // What can't be served changes nothing, and the next change is taken.
        name(&settings, &[tiny, other, third], 1 << 20);
        tokio::time::sleep(Duration::from_millis(200)).await;
        name(&settings, &[Path::new("/nowhere/x"), other], u64::MAX >> 1);
        tokio::time::sleep(Duration::from_millis(200)).await;
        until(&handle, &["other", "third"]).await;
        name(&settings, &[third], u64::MAX >> 1);
        until(&handle, &["third"]).await;
        shutdown.cancel();
    };
    tokio::join!(changing, follow(Some(&mut rereading), admission, &mut served, &handle, &shutdown));
    let ended = tokio::time::timeout(PATIENCE, running).await.expect("in time").expect("no panic");
    assert!(ended.is_ok(), "{ended:?}");
}
