//! Shutdown: running work may finish, what doesn't finish is given back, nothing new begins, and nothing is left
//! behind.

use std::time::Duration;

use infera_types::messages::{Assignment, RefusalReason};
use infera_worker::{Config, WorkerError};

use crate::support::engines::{Call, Fate, Watched, slow, stub};
use crate::support::{Network, assignment};

#[tokio::test]
async fn what_decodes_is_finished_and_nothing_new_is_taken() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let worker = network.start(Config::default(), Box::new(slow()));
    let running = assignment(&verifier, "running");
    network.assign(&running).await;
    worker.until(|counts| counts.run.get() == 1).await;
    worker.shutdown.cancel();
    verifier.heartbeat(|heartbeat| heartbeat.models.is_empty()).await;
    // Its heartbeat says that it drains. What is sent nevertheless stays for the next worker of this queue.
    network.assign(&assignment(&verifier, "too late")).await;
    let handle = worker.handle.clone();
    worker.stop().await.unwrap();
    assert_eq!(verifier.next().await.replica().assignment_id, running.id);
    assert_eq!(handle.counts().run.get(), 1);
    assert_eq!(network.waiting().await, 1);
}

#[tokio::test]
async fn what_does_not_finish_in_the_drain_time_is_given_back_as_draining() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let (engine, calls) = Watched::new(slow(), |_| Fate::Well);
    let worker = network.start(Config { drain_ms: 50, ..Config::default() }, engine);
    let mut long = assignment(&verifier, "long");
    long.request.max_tokens = 400;
    network.assign(&long).await;
    worker.until(|counts| counts.run.get() == 1).await;
    worker.stop().await.unwrap();
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Draining);
    assert_eq!(network.waiting().await, 0);
    assert_eq!(calls.all().last(), Some(&Call::Dropped), "the engine's thread has ended");
}

#[tokio::test]
async fn an_engine_that_hangs_delays_neither_the_refusal_nor_the_end() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let (engine, calls) = Watched::new(slow(), |call| if call == 2 { Fate::Hangs } else { Fate::Well });
    let worker = network.start(Config { drain_ms: 20, stop_ms: 100, ..Config::default() }, engine);
    network.assign(&assignment(&verifier, "stuck")).await;
    worker.until(|_| calls.count() == 3).await;
    assert!(matches!(worker.stop().await, Err(WorkerError::EngineHangs)));
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Draining);
}

#[tokio::test]
async fn an_answer_that_could_not_be_said_before_the_stop_stays_in_the_queue() {
    let network = Network::new().await;
    let verifier = network.verifier().await;
    let (_queue, id) = network.full_verifier().await;
    let worker = network.start(Config { drain_ms: 50, ..Config::default() }, Box::new(stub(0)));
    network.assign(&Assignment { verifier: id, ..assignment(&verifier, "unsaid") }).await;
    worker.until(|counts| counts.run.get() == 1).await;
    let handle = worker.handle.clone();
    worker.stop().await.unwrap();
    assert_eq!((handle.counts().replicas.get(), handle.counts().unpublished.get()), (0, 0));
    assert_eq!(network.waiting().await, 1);
}

#[tokio::test]
async fn no_task_and_no_engine_is_left_however_the_worker_ends() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for crash in [false, true] {
        let network = Network::new().await;
        let verifier = network.verifier().await;
        let before = alive();
        let (engine, calls) = Watched::new(slow(), |_| Fate::Well);
        let worker = network.start(Config { drain_ms: 20, ..Config::default() }, engine);
        for job in 0..4 {
            network.assign(&assignment(&verifier, &format!("job {job}"))).await;
        }
        worker.until(|counts| counts.run.get() == 4).await;
        assert!(alive() > before);
        if crash {
            worker.crash().await;
        } else {
            worker.stop().await.unwrap();
        }
        let gone = async {
            while alive() > before || calls.all().last() != Some(&Call::Dropped) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(crate::support::PATIENCE, gone).await.unwrap();
        let left = if crash { 4 } else { 0 };
        assert_eq!(network.waiting().await, left);
    }
}
