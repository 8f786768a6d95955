//! Several models on one worker: each has its own engine, slots and share of the intake, and models come and go while the others
//! work.

use std::time::{Duration, Instant};

use infera_engine::stub::{StubConfig, StubEngine};
use infera_types::ids::{Digest, ModelName};
use infera_types::messages::{Assignment, Heartbeat, RefusalReason, Version, Wire as _};
use infera_types::numbers::NumericClass;
use infera_worker::{Config, Model, ModelError, WorkerError};
use serde::Deserialize;

use crate::support::engines::{Call, Calls, Fate, Watched, slow};
use crate::support::{Network, PATIENCE, Running, Verifier, again, assignment, model};

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// A stub that announces a digest of its own. Its steps take `step_us` each, and its answers have `answer_tokens` tokens.
fn engine(name: &str, step_us: u64, answer_tokens: usize) -> StubEngine {
    StubEngine::new(StubConfig {
        prefill_us: step_us,
        decode_us: step_us,
        answer_tokens,
        model_digest: digest(name),
        ..StubConfig::default()
    })
    .unwrap()
}

fn quick(name: &str) -> Model {
    model(name, Box::new(engine(name, 0, 16)))
}

/// A model whose answers take the 64 tokens that are asked for, 10 ms each, and the calls of its engine.
fn long(name: &str) -> (Model, Calls) {
    let (engine, calls) = Watched::new(engine(name, 10_000, 1_000), |_| Fate::Well);
    (model(name, engine), calls)
}

fn asked(verifier: &Verifier, name: &str, text: &str) -> Assignment {
    Assignment { model_digest: digest(name), ..assignment(verifier, text) }
}

fn start(network: &Network, config: Config, models: Vec<Model>) -> Running {
    network.start_models(network.broker.clone(), config, models)
}

fn digests(heartbeat: &Heartbeat) -> Vec<Digest> {
    heartbeat.models.iter().map(|model| model.numeric_class.model_digest).collect()
}

#[tokio::test]
async fn each_assignment_is_answered_by_the_model_that_it_names() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let worker = start(&network, Config::default(), vec![quick("one"), quick("two")]);
    assert_eq!(digests(&verifier.heartbeat(|_| true).await), [digest("one"), digest("two")]);
    for name in ["one", "two", "one"] {
        let asked = asked(&verifier, name, "hello");
        network.assign(&asked).await;
        let replica = verifier.next().await.replica();
        assert_eq!(replica.assignment_id, asked.id);
        assert_eq!(replica.numeric_class.model_digest, digest(name));
    }
    network.assign(&asked(&verifier, "three", "hello")).await;
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Broken);
    worker.stop().await.unwrap();
    assert_eq!(network.waiting().await, 0);
}

/// No step of one model waits for another's: a whole answer comes within one step of the slow one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_models_step_delays_no_other_model() {
    const STEP: Duration = Duration::from_secs(4);
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let step_us = u64::try_from(STEP.as_micros()).unwrap();
    let (slow, calls) = Watched::new(engine("slow", step_us, 16), |_| Fate::Well);
    let config = Config { drain_ms: 1, ..Config::default() };
    let worker = start(&network, config, vec![model("slow", slow), quick("quick")]);
    network.assign(&asked(&verifier, "slow", "take your time")).await;
    worker.until(|_| calls.count() == 1).await;
    let (began, quick) = (Instant::now(), asked(&verifier, "quick", "at once"));
    network.assign(&quick).await;
    assert_eq!(verifier.next().await.replica().assignment_id, quick.id);
    assert!(began.elapsed() < STEP, "{:?}", began.elapsed());
    assert_eq!(calls.count(), 1, "the slow model is in the same step");
    worker.stop().await.unwrap();
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Draining);
}

#[tokio::test]
async fn a_full_model_takes_no_slot_and_no_place_of_another() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let config = Config { slots: 1, prefetch_spare: 1, heartbeat_gap_ms: 1, ..Config::default() };
    let (slow, _calls) = long("slow");
    let worker = start(&network, config, vec![slow, quick("quick")]);
    let mut running = asked(&verifier, "slow", "first");
    // Two seconds, in which much else has to happen.
    running.request.max_tokens = 200;
    network.assign(&running).await;
    worker.until(|counts| counts.run.get() == 1).await;
    let full = verifier.heartbeat(|heartbeat| heartbeat.models[0].free_slots == 0).await;
    assert_eq!((full.models[1].slots, full.models[1].free_slots), (1, 1));
    // One joins the run, and takes the slow model's second and last place. Those after it are given back.
    for _ in 0..3 {
        network.assign(&again(&running, &verifier)).await;
    }
    for _ in 0..2 {
        assert_eq!(verifier.next().await.refusal(), RefusalReason::Busy);
    }
    let quick = asked(&verifier, "quick", "between");
    network.assign(&quick).await;
    assert_eq!(verifier.next().await.replica().assignment_id, quick.id);
    for _ in 0..2 {
        assert_eq!(verifier.next().await.replica().job_id, running.job_id);
    }
    assert_eq!(worker.handle.counts().joined.get(), 1);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn shutdown_drains_all_models() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let ((one, ones), (two, twos)) = (long("one"), long("two"));
    let worker = start(&network, Config::default(), vec![one, two]);
    for name in ["one", "two"] {
        network.assign(&asked(&verifier, name, "finish it")).await;
    }
    worker.until(|counts| counts.run.get() == 2).await;
    worker.stop().await.unwrap();
    let mut answered = [verifier.next().await.replica(), verifier.next().await.replica()]
        .map(|replica| (replica.numeric_class.model_digest, replica.tokens.len()));
    answered.sort_unstable();
    let mut expected = [(digest("one"), 64), (digest("two"), 64)];
    expected.sort_unstable();
    assert_eq!(answered, expected);
    assert_eq!((ones.all().last(), twos.all().last()), (Some(&Call::Dropped), Some(&Call::Dropped)));
    assert_eq!(network.waiting().await, 0);
}

/// What comes again runs alone in its own model's engine, beside the other model's.
#[tokio::test]
async fn redelivered_assignments_run_alone_in_their_own_models_engines() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let suspects = [asked(&verifier, "one", "a"), asked(&verifier, "two", "b")];
    for suspect in &suspects {
        network.assign(suspect).await;
    }
    network.make_redelivered(2).await;
    let others = [asked(&verifier, "one", "c"), asked(&verifier, "two", "d")];
    for other in &others {
        network.assign(other).await;
    }
    let watched = |name: &str| Watched::new(engine(name, 2_000, 16), |_| Fate::Well);
    let ((one, ones), (two, twos)) = (watched("one"), watched("two"));
    let worker = start(&network, Config::default(), vec![model("one", one), model("two", two)]);
    let mut answered = Vec::new();
    for _ in 0..4 {
        answered.push(verifier.next().await.replica().job_id);
    }
    let place = |wanted: &Assignment| answered.iter().position(|job| *job == wanted.job_id).unwrap();
    for (suspect, other) in suspects.iter().zip(&others) {
        assert!(place(suspect) < place(other), "{answered:?}");
    }
    assert_eq!(worker.handle.counts().run_alone.get(), 2);
    worker.stop().await.unwrap();
    for calls in [ones.all(), twos.all()] {
        assert!(calls.iter().all(|call| call.size() <= 1), "a suspect has company: {calls:?}");
    }
}

#[tokio::test]
async fn a_model_goes_after_its_running_answers_and_comes_again() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let config = Config { heartbeat_gap_ms: 1, ..Config::default() };
    let (going, calls) = long("going");
    let worker = start(&network, config, vec![going, quick("staying")]);
    let mut running = asked(&verifier, "going", "finish it");
    // Three seconds, in which much else has to happen.
    running.request.max_tokens = 300;
    network.assign(&running).await;
    worker.until(|counts| counts.run.get() == 1).await;
    let (handle, name) = (worker.handle.clone(), ModelName::new("going"));
    let removing = tokio::spawn(async move { handle.remove(&name).await });
    // It is announced no more at once, and what comes nevertheless counts against nobody.
    verifier.heartbeat(|heartbeat| digests(heartbeat) == [digest("staying")]).await;
    assert_eq!(worker.handle.models(), [ModelName::new("staying")]);
    network.assign(&asked(&verifier, "going", "too late")).await;
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Draining);
    let other = asked(&verifier, "staying", "meanwhile");
    network.assign(&other).await;
    assert_eq!(verifier.next().await.replica().assignment_id, other.id);
    assert!(!removing.is_finished());
    assert_eq!(verifier.next().await.replica().assignment_id, running.id);
    tokio::time::timeout(PATIENCE, removing).await.unwrap().unwrap().unwrap();
    assert_eq!(calls.all().last(), Some(&Call::Dropped), "its engine is gone, and its memory with it");

    // Its answers are still there, for a job whose verifier died.
    let next = again(&running, &verifier);
    network.assign(&next).await;
    let replica = verifier.next().await.replica();
    assert_eq!((replica.assignment_id, replica.numeric_class.model_digest), (next.id, digest("going")));

    verifier.heartbeats.clear();
    worker.handle.add(quick("going")).await.unwrap();
    verifier.heartbeat(|heartbeat| digests(heartbeat) == [digest("staying"), digest("going")]).await;
    let fresh = asked(&verifier, "going", "again");
    network.assign(&fresh).await;
    assert_eq!(verifier.next().await.replica().assignment_id, fresh.id);
    worker.stop().await.unwrap();
    assert_eq!(network.waiting().await, 0);
}

#[tokio::test]
async fn what_a_going_model_does_not_finish_is_given_back_and_settled() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let (going, calls) = long("going");
    let config = Config { drain_ms: 50, slots: 1, prefetch_spare: 0, ..Config::default() };
    let worker = start(&network, config, vec![going, quick("staying")]);
    network.assign(&asked(&verifier, "going", "never")).await;
    worker.until(|counts| counts.run.get() == 1).await;
    worker.handle.remove(&ModelName::new("going")).await.unwrap();
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Draining);
    assert_eq!(calls.all().last(), Some(&Call::Dropped));
    // No delivery of it is left in hand, where it would take a place of the others' for good.
    for number in 0..3 {
        network.assign(&asked(&verifier, "staying", &format!("job {number}"))).await;
        verifier.next().await.replica();
    }
    worker.handle.remove(&ModelName::new("staying")).await.unwrap();
    network.assign(&asked(&verifier, "staying", "none is left")).await;
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Draining);
    let error = worker.handle.remove(&ModelName::new("staying")).await.unwrap_err();
    assert!(error.to_string().contains("staying"), "{error}");
    worker.stop().await.unwrap();
    assert_eq!(network.waiting().await, 0);
}

#[tokio::test]
async fn one_engine_that_is_gone_leaves_the_other_models_at_work() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let (broken, _calls) = Watched::new(engine("broken", 0, 16), |_| Fate::Fails);
    let config = Config { engine_failures_max: 1, heartbeat_gap_ms: 1, ..Config::default() };
    let worker = start(&network, config, vec![model("broken", broken), quick("sound")]);
    network.assign(&asked(&verifier, "broken", "bad luck")).await;
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Broken);
    verifier.heartbeat(|heartbeat| digests(heartbeat) == [digest("sound")]).await;
    assert!(!worker.handle.look(true).engine, "the runner is told");
    network.assign(&asked(&verifier, "broken", "once more")).await;
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Broken);
    network.assign(&asked(&verifier, "sound", "fine")).await;
    verifier.next().await.replica();
    worker.handle.add(quick("broken")).await.unwrap();
    network.assign(&asked(&verifier, "broken", "mended")).await;
    verifier.next().await.replica();
    assert!(worker.handle.look(true).engine);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn models_that_cannot_be_served_together_are_refused_by_name() {
    let network = Network::new().await;
    let refused = async |models: Vec<Model>| {
        start(&network, Config::default(), models).task.await.unwrap().unwrap_err()
    };
    let error = refused(Vec::new()).await;
    assert!(matches!(&error, WorkerError::Config(_)) && error.to_string().contains("at least one model"));
    let error = refused(vec![quick("one"), quick("one")]).await;
    assert!(matches!(&error, WorkerError::Model(ModelError::SameName(_))), "{error}");
    assert!(error.to_string().contains("called one"), "{error}");
    let twin = model("twin", Box::new(engine("one", 0, 16)));
    let error = refused(vec![quick("one"), twin]).await.to_string();
    assert!(error.contains("one and twin are the same model"), "{error}");
    let config = StubConfig { context_max: 100, ..StubConfig::default() };
    let short = model("short", Box::new(StubEngine::new(config).unwrap()));
    let error = refused(vec![quick("one"), short]).await.to_string();
    assert!(error.contains("short: the engine holds 100 tokens"), "{error}");

    let worker = start(&network, Config::default(), vec![quick("one")]);
    assert!(matches!(worker.handle.add(quick("one")).await, Err(ModelError::SameName(_))));
    assert_eq!(worker.handle.models(), [ModelName::new("one")]);
    let handle = worker.handle.clone();
    worker.stop().await.unwrap();
    assert!(matches!(handle.add(quick("two")).await, Err(ModelError::Ending)));
}

/// A heartbeat as programs before several models, and before messages of the second version, read it.
#[derive(Debug, Deserialize)]
struct OldHeartbeat {
    models: Vec<OldModel>,
    queue: String,
}

#[derive(Debug, Deserialize)]
struct OldModel {
    numeric_class: NumericClass,
    slots: u32,
    free_slots: u32,
}

/// Half of a cluster is of an older version: its verifiers read this node's heartbeats and send assignments of the first
/// version.
#[tokio::test]
async fn an_older_verifier_reads_and_asks_a_node_of_several_models() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let (slow_one, _calls) = Watched::new(slow(), |_| Fate::Well);
    let worker = start(&network, Config::default(), vec![model("plain", slow_one), quick("two")]);
    let heartbeat = verifier.heartbeat(|_| true).await.to_message("h".to_owned());
    assert_eq!(heartbeat.body[0], Version::First.byte());
    let old: OldHeartbeat = serde_json::from_slice(&heartbeat.body[1..]).unwrap();
    assert_eq!(old.queue, network.queue.name);
    assert_eq!(old.models[1].numeric_class.model_digest, digest("two"));
    assert!(old.models.iter().all(|model| (model.slots, model.free_slots) == (16, 16)));

    let asked = Assignment { speaks: Version::First, ..asked(&verifier, "two", "from before") };
    let mut json: serde_json::Value =
        serde_json::from_slice(&asked.to_message_in(Version::First, "x".to_owned()).body[1..]).unwrap();
    json.as_object_mut().unwrap().remove("speaks");
    let body = [&[Version::First.byte()][..], &serde_json::to_vec(&json).unwrap()].concat();
    let message = asked.to_message(asked.id.to_string());
    network.send(infera_broker::Message { body: body.into(), ..message }).await;
    let delivery = verifier.next_delivery().await;
    assert_eq!(delivery.message.body[0], Version::First.byte());
    delivery.ack().await;
    worker.stop().await.unwrap();
}
