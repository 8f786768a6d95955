//! An engine that fails in a step, in every step, or panics.

use infera_core::messages::RefusalReason;
use infera_worker::{Config, WorkerError};

use crate::support::engines::{Call, Fate, Watched, stub};
use crate::support::{Network, PATIENCE, assignment};

#[tokio::test]
async fn a_failed_step_breaks_the_jobs_in_it_and_no_other() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let fifth_fails = |call| if call == 4 { Fate::Fails } else { Fate::Well };
    let (engine, _calls) = Watched::new(stub(1_000), fifth_fails);
    let worker = network.start(Config::default(), engine);
    network.assign(&assignment(&verifier, "unlucky")).await;
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Broken);
    let next = assignment(&verifier, "lucky");
    network.assign(&next).await;
    assert_eq!(verifier.next().await.replica().assignment_id, next.id);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_failed_job_is_not_answered_from_the_cache_but_run_again() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let first_fails = |call| if call == 0 { Fate::Fails } else { Fate::Well };
    let (engine, _calls) = Watched::new(stub(0), first_fails);
    let worker = network.start(Config::default(), engine);
    let asked = assignment(&verifier, "twice");
    network.assign(&asked).await;
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Broken);
    network.assign(&crate::support::again(&asked, &verifier)).await;
    verifier.next().await.replica();
    assert_eq!(worker.handle.counts().run, 2);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn an_engine_that_always_fails_ends_the_worker_after_it_has_said_so() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let (engine, calls) = Watched::new(stub(0), |_| Fate::Fails);
    let config = Config { engine_failures_max: 3, ..Config::default() };
    let worker = network.start(config, engine);
    for number in 0..3 {
        network.assign(&assignment(&verifier, &format!("job {number}"))).await;
        assert_eq!(verifier.next().await.refusal(), RefusalReason::Broken);
    }
    let ended = tokio::time::timeout(PATIENCE, worker.task).await.unwrap().unwrap();
    assert!(matches!(ended, Err(WorkerError::EngineGone(why)) if why.contains("3 calls")));
    verifier.heartbeat(|heartbeat| heartbeat.models.is_empty()).await;
    assert_eq!(calls.all().last(), Some(&Call::Dropped));
    assert_eq!(network.waiting().await, 0);
}

#[tokio::test]
async fn a_panic_in_the_engine_ends_the_worker_and_gives_its_jobs_back() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let (engine, _calls) = Watched::new(stub(0), |call| if call == 3 { Fate::Panics } else { Fate::Well });
    let worker = network.start(Config::default(), engine);
    network.assign(&assignment(&verifier, "bad luck")).await;
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Broken);
    let ended = tokio::time::timeout(PATIENCE, worker.task).await.unwrap().unwrap();
    assert!(matches!(ended, Err(WorkerError::EngineGone(why)) if why.contains("panicked")));
    verifier.heartbeat(|heartbeat| heartbeat.models.is_empty()).await;
}

#[tokio::test]
async fn mistakes_and_a_missing_queue_are_named() {
    let network = Network::new().await;
    let config = Config { slots: 0, tokenizer_threads: 0, ..Config::default() };
    let error = network.start(config, Box::new(stub(0))).task.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("slots") && error.to_string().contains("tokenizer_threads"));

    infera_core::broker::Broker::delete(&*network.broker, &network.queue.name).await.unwrap();
    let error = network.start(Config::default(), Box::new(stub(0))).task.await.unwrap().unwrap_err();
    assert!(matches!(&error, WorkerError::Queue(_)) && error.to_string().contains(&network.queue.name));
}
