//! An engine that fails in one step or in every step, or panics, and a broker whose queue seems lost but isn't.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use infera_broker::memory::MemoryBroker;
use infera_broker::{
    Address, Broker, BrokerError, Consumer, Fleeting, Message, Published, Queue, Sent, topology,
};
use infera_types::messages::RefusalReason;
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
    assert_eq!(worker.handle.counts().run.get(), 2);
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

    network.broker.delete(&network.queue.name).await.unwrap();
    let error = network.start(Config::default(), Box::new(stub(0))).task.await.unwrap().unwrap_err();
    assert!(matches!(&error, WorkerError::Queue(_)) && error.to_string().contains(&network.queue.name));
}

/// A broker that pauses while its queue is consumed, and then is slow to forget the previous connection. At first its
/// queue `replicas.any` is full.
#[derive(Debug)]
struct Pausing {
    inner: Arc<MemoryBroker>,
    consumed: AtomicUsize,
    strays: AtomicUsize,
}

impl Pausing {
    fn new(inner: &Arc<MemoryBroker>) -> Arc<Self> {
        let (consumed, strays) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { inner: Arc::clone(inner), consumed, strays })
    }
}

impl Fleeting for Pausing {
    fn publish_fleeting(&self, address: &Address, message: Message) -> Sent {
        self.inner.publish_fleeting(address, message)
    }
}

#[async_trait]
impl Broker for Pausing {
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.inner.declare(queue).await
    }

    async fn publish(&self, address: &Address, message: Message) -> Published {
        let is_stray = matches!(address, Address::Nodes(key) if key.ends_with(".replica.any"));
        if is_stray && self.strays.fetch_add(1, Ordering::Relaxed) == 0 {
            return Published::Full;
        }
        self.inner.publish(address, message).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        match self.consumed.fetch_add(1, Ordering::Relaxed) {
            0 => Err(BrokerError::Stuck(queue.to_owned())),
            1 => Err(BrokerError::Exclusive(queue.to_owned())),
            _ => self.inner.consume(queue, prefetch).await,
        }
    }

    async fn depth(&self, queue: &str) -> Result<Option<u64>, BrokerError> {
        self.inner.depth(queue).await
    }

    async fn delete(&self, queue: &str) -> Result<(), BrokerError> {
        self.inner.delete(queue).await
    }
}

#[tokio::test]
async fn a_queue_that_seems_stuck_or_taken_is_consumed_when_it_answers() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let worker = network.start_over(Pausing::new(&network.broker), Config::default(), Box::new(stub(0)));
    let asked = assignment(&verifier, "at last");
    network.assign(&asked).await;
    assert_eq!(verifier.next().await.replica().assignment_id, asked.id);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_stray_replica_that_finds_no_room_is_offered_again() {
    let network = Network::new().await;
    let verifier = network.verifier().await;
    let worker = network.start_over(Pausing::new(&network.broker), Config::default(), Box::new(stub(0)));
    let asked = assignment(&verifier, "for any");
    let mut any = network.broker.consume(&topology::replicas_any().name, 10).await.unwrap();
    drop(verifier);
    network.assign(&asked).await;
    let stray = tokio::time::timeout(PATIENCE, any.next()).await.unwrap().unwrap();
    assert_eq!(stray.message.id, asked.id.to_string());
    worker.stop().await.unwrap();
}
