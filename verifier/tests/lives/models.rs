//! Models that come into the catalogue and leave it while a verifier runs.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use infera_broker::{Address, Broker as _, Published, topology};
use infera_ledger::{
    Accepted, CatalogueEntry, JobIntake as _, JobReader as _, JobState, NetworkBook as _, NewJob,
};
use infera_model::chat::ChatModel;
use infera_model_store::chats::ChatFinder;
use infera_model_store::folder::Store;
use infera_types::ids::{Digest, JobId, ModelName};
use infera_types::job::{End, FailureReason, JobRequest};
use infera_types::messages::{JobNotice, Version, Wire as _};
use infera_types::service::Lane;
use infera_types::time::Timestamp;
use infera_verifier::catalogue::orders::{self, Added, CatalogueOrderError};
use infera_verifier::{Config, VerifierHandle};

use super::network::{Ask, Network, Running, eventually, failure, quick, verification};
use super::node::{keep_speaking, right, three};

const SECOND: &str = "second";

/// The bundled model's text side with a word in its template that shows nowhere: the same prompts from other files.
fn copy(to: &Path) -> Digest {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/infera-tiny");
    fs::create_dir_all(to).unwrap();
    for name in ["config.json", "generation_config.json", "tokenizer.json"] {
        fs::copy(tiny.join(name), to.join(name)).unwrap();
    }
    let settings = fs::read_to_string(tiny.join("tokenizer_config.json")).unwrap();
    let mut settings: serde_json::Value = serde_json::from_str(&settings).unwrap();
    let template = settings["chat_template"].as_str().unwrap().to_owned();
    settings["chat_template"] = format!("{{# a copy #}}{template}").into();
    fs::write(to.join("tokenizer_config.json"), settings.to_string()).unwrap();
    ChatModel::load(to).unwrap().tokenizer_digest()
}

/// The entry of a second model with this text side, which the same nodes serve.
fn second(network: &Network, tokenizer: Digest) -> CatalogueEntry {
    CatalogueEntry {
        name: ModelName::new(SECOND),
        digests: vec![network.digest],
        tokenizer,
        context_max: 64,
        said_bytes_per_token: None,
        quantization: None,
        end_tokens: network.chat.end_tokens().to_vec(),
        reference_token_us: 1_000,
        bytes: None,
        created_ms: Timestamp::now(),
        removed_ms: None,
    }
}

/// Accepts a job for the second model and publishes its notice, as a gateway does.
async fn submit(network: &Network, lane: Lane) -> JobId {
    let model = ModelName::new(SECOND);
    let request = JobRequest { model: model.clone(), ..network.request("What is 2 plus 2?") };
    let request = serde_json::to_vec(&request).unwrap();
    let job = NewJob { model: model.clone(), ..network.new_job(&request, Ask::quorum(2)) };
    let id = job.id;
    assert_eq!(network.ledger.accept(job).await.unwrap(), Accepted::New { is_held: false });
    let queue = topology::jobs_in(&model, lane);
    network.broker.declare(&queue).await.unwrap();
    let notice = JobNotice { job_id: id, speaks: Version::NEWEST }.to_message(id.to_string());
    assert_eq!(network.broker.publish(&Address::Queue(queue.name), notice).await, Published::Confirmed);
    network.ledger.confirm(&[id], Timestamp::now()).await.unwrap();
    id
}

async fn state(network: &Network, job: JobId) -> JobState {
    network.ledger.job(&network.account, job).await.unwrap().unwrap().state
}

/// A verifier that finds text sides in `folders`, with what shows how it is doing.
fn verifier(network: &Network, config: Config, folders: &Path) -> (Running, VerifierHandle) {
    let finder = Arc::new(ChatFinder::new(Vec::new(), Store::new(folders)));
    let handle = Mutex::new(None);
    let running = network.verifier_as(config, network.seams(), |verifier| {
        let verifier = verifier.finding(finder);
        *handle.lock().unwrap() = Some(verifier.handle());
        verifier
    });
    (running, handle.into_inner().unwrap().unwrap())
}

async fn degraded(handle: &VerifierHandle, expected: &[&str]) {
    eventually("its readiness is as expected", || async {
        (handle.readiness().is_ready() && handle.readiness().degraded() == expected).then_some(())
    })
    .await;
}

/// A model whose tokenizer is nowhere: its jobs wait, untouched, and others go on. Once its folder is there, under whatever name,
/// they are answered, by the same verifier.
#[tokio::test]
async fn a_model_added_while_it_runs_is_answered_once_its_tokenizer_is_found() {
    let network = Arc::new(Network::new().await);
    let folders = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let tokenizer = copy(&elsewhere.path().join("text"));
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let (_verifier, handle) = verifier(&network, quick(), folders.path());
    degraded(&handle, &[]).await;

    let added = orders::add(&*network.ledger, second(&network, tokenizer), false).await.unwrap();
    assert_eq!(added, Added::New);
    let waits = submit(&network, Lane::First).await;
    degraded(&handle, &["tokenizers"]).await;
    for _ in 0..3 {
        let job = network.submit(Ask::quorum(3)).await;
        assert_eq!(verification(&network.end_of(job).await).replicas.agreed, 3);
    }
    assert_eq!(state(&network, waits).await, JobState::Queued, "it waits");

    fs::rename(elsewhere.path().join("text"), folders.path().join("any-name")).unwrap();
    assert!(verification(&network.end_of(waits).await).replicas.agreed >= 2);
    degraded(&handle, &[]).await;
    for lane in Lane::ALL {
        let job = submit(&network, *lane).await;
        assert!(matches!(network.end_of(job).await.end, End::Succeeded { .. }), "{lane:?}");
    }
}

/// A name that comes to stand for a tokenizer which isn't found keeps its jobs waiting, though it had one before; with the old one
/// back they are answered.
#[tokio::test]
async fn jobs_wait_while_their_models_tokenizer_is_replaced_by_an_unknown_one() {
    let network = Arc::new(Network::new().await);
    let folders = tempfile::tempdir().unwrap();
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let (_verifier, handle) = verifier(&network, quick(), folders.path());
    let known = second(&network, network.chat.tokenizer_digest());
    let unknown = second(&network, Digest::of(b"never there"));
    orders::add(&*network.ledger, known.clone(), false).await.unwrap();
    let job = submit(&network, Lane::First).await;
    assert!(matches!(network.end_of(job).await.end, End::Succeeded { .. }));

    let refused = orders::add(&*network.ledger, unknown.clone(), false).await.unwrap_err();
    assert!(matches!(refused, CatalogueOrderError::OtherFiles { .. }), "{refused}");
    assert_eq!(orders::add(&*network.ledger, unknown, true).await.unwrap(), Added::Replaced);
    degraded(&handle, &["tokenizers"]).await;
    let waits = submit(&network, Lane::First).await;
    let other = network.submit(Ask::quorum(3)).await;
    assert_eq!(verification(&network.end_of(other).await).replicas.agreed, 3);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_ne!(state(&network, waits).await, JobState::Ended, "it waits");

    assert_eq!(orders::add(&*network.ledger, known, true).await.unwrap(), Added::Replaced);
    assert!(matches!(network.end_of(waits).await.end, End::Succeeded { .. }));
}

/// Jobs that were accepted before their model was removed are answered while nodes serve it, in every lane. Once none does, those that
/// wait end with a reason of their own and cost nothing; of a model that wasn't removed they wait on.
#[tokio::test]
async fn a_removed_models_jobs_are_answered_while_nodes_serve_it_and_fail_then() {
    let network = Arc::new(Network::new().await);
    let folders = tempfile::tempdir().unwrap();
    let nodes = three(&network, right()).await;
    let chorus = keep_speaking(&nodes);
    // Nodes that are silent for half a second are dead.
    let config = Config { heartbeat_ms: 250, heartbeats_missed_max: 2, ..quick() };
    let (_verifier, handle) = verifier(&network, config, folders.path());
    let entry = second(&network, network.chat.tokenizer_digest());
    orders::add(&*network.ledger, entry.clone(), false).await.unwrap();
    let name = ModelName::new(SECOND);
    let at = orders::remove(&*network.ledger, &name, Timestamp::now()).await.unwrap();
    assert_eq!(orders::remove(&*network.ledger, &name, Timestamp::now()).await.unwrap(), at, "once");
    degraded(&handle, &[]).await;
    for lane in [Lane::First, Lane::Later] {
        let job = submit(&network, lane).await;
        assert!(matches!(network.end_of(job).await.end, End::Succeeded { .. }), "{lane:?}");
    }

    drop(chorus);
    // Until then they may still be asked.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let kept = network.submit(Ask::quorum(3)).await;
    for lane in [Lane::First, Lane::Later] {
        let job = submit(&network, lane).await;
        let end = network.end_of(job).await;
        assert_eq!(failure(&end), FailureReason::ModelRemoved);
        let End::Failed { message, .. } = end.end else { unreachable!("it failed") };
        assert!(message.contains("'second' is no longer served"), "{message}");
    }
    assert_ne!(state(&network, kept).await, JobState::Ended, "its model may get nodes again");

    // It comes back, and so do its nodes.
    assert_eq!(orders::add(&*network.ledger, entry, false).await.unwrap(), Added::Back);
    let _chorus = keep_speaking(&nodes);
    let job = submit(&network, Lane::First).await;
    assert!(matches!(network.end_of(job).await.end, End::Succeeded { .. }));
    assert!(matches!(network.end_of(kept).await.end, End::Succeeded { .. }));
}

/// What a program says of its settings' models at its start doesn't bring back what an operator removed.
#[tokio::test]
async fn a_start_brings_no_removed_model_back() {
    let network = Network::new().await;
    let entry = second(&network, network.chat.tokenizer_digest());
    orders::add(&*network.ledger, entry.clone(), false).await.unwrap();
    orders::remove(&*network.ledger, &entry.name, Timestamp::now()).await.unwrap();
    infera_verifier::catalogue::list(&*network.ledger, entry.clone()).await.unwrap();
    let listed = async || {
        let mut entries = network.ledger.catalogue().await.unwrap().into_iter();
        entries.find(|listed| listed.name == entry.name).unwrap()
    };
    assert!(listed().await.is_removed());
    let unknown = orders::remove(&*network.ledger, &ModelName::new("never-there"), Timestamp::now()).await;
    assert!(matches!(unknown, Err(CatalogueOrderError::Unknown(_))));
    let later = CatalogueEntry { created_ms: Timestamp::now(), reference_token_us: 7, ..entry.clone() };
    assert_eq!(orders::add(&*network.ledger, later.clone(), false).await.unwrap(), Added::Back);
    assert_eq!(listed().await.created_ms, entry.created_ms, "the first listing's time is kept");
    assert_eq!(orders::add(&*network.ledger, later, false).await.unwrap(), Added::Same);
    assert_eq!(orders::add(&*network.ledger, entry, false).await.unwrap(), Added::Changed);
}
