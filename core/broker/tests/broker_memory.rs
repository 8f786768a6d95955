//! Tests the embedded broker under load: nothing is lost and nothing waits for ever, whatever its consumers do.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use infera_broker::memory::MemoryBroker;
use infera_broker::{Address, Broker, Consumer, Message, Published, Queue};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const PRODUCERS: u64 = 4;
const EACH: u64 = 2_500;

fn queue(name: &str) -> Queue {
    Queue {
        name: name.to_owned(),
        bindings: Vec::new(),
        exclusive: false,
        fleeting: false,
        replicated: false,
        length_max: None,
        bytes_max: None,
        idle_ms: None,
        dead_letters: None,
    }
}

fn message(id: u64) -> Message {
    Message {
        id: id.to_string(),
        kind: "load".to_owned(),
        body: Bytes::from_static(b"\x01{}"),
        ttl_ms: None,
        trace: None,
    }
}

async fn produce(broker: Arc<MemoryBroker>, producer: u64) {
    let address = Address::Queue("load".to_owned());
    for number in 0..EACH {
        assert_eq!(broker.publish(&address, message(producer * EACH + number)).await, Published::Confirmed);
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Takes messages until `left` is zero. What it does with a message depends on the message and the consumer, so that
/// acking, returning, forgetting and leaving each happen thousands of times.
async fn take(broker: Arc<MemoryBroker>, behaviour: u64, left: Arc<AtomicU64>) -> Vec<u64> {
    let mut acked = Vec::new();
    let mut steps = behaviour;
    while left.load(Ordering::Acquire) > 0 {
        let prefetch = 1 + u16::try_from(steps % 7).expect("small");
        let mut consumer = broker.consume("load", prefetch).await.expect("a consumer");
        // A consumer takes a hundred messages; forgotten ones come back when it is dropped.
        for _ in 0..100 {
            steps += 1;
            let Ok(Some(delivery)) = timeout(Duration::from_millis(20), consumer.next()).await else { break };
            match steps % 11 {
                0 => delivery.nack().await,
                5 => drop(delivery),
                _ => {
                    let id = delivery.message.id.parse().expect("a number");
                    assert!(delivery.ack().await, "{id} was taken from its consumer");
                    acked.push(id);
                    left.fetch_sub(1, Ordering::AcqRel);
                }
            }
        }
    }
    acked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_message_is_acked_once_whatever_consumers_do() {
    let broker = MemoryBroker::new();
    broker.declare(&queue("load")).await.expect("declared");
    let left = Arc::new(AtomicU64::new(PRODUCERS * EACH));
    let mut producers = JoinSet::new();
    for producer in 0..PRODUCERS {
        producers.spawn(produce(Arc::clone(&broker), producer));
    }
    let mut consumers = JoinSet::new();
    for behaviour in 0..6 {
        consumers.spawn(take(Arc::clone(&broker), behaviour, Arc::clone(&left)));
    }
    let all =
        timeout(Duration::from_secs(60), async { (producers.join_all().await, consumers.join_all().await) });
    let (_, taken) = all.await.expect("a message is stuck");
    let acked: Vec<u64> = taken.into_iter().flatten().collect();
    assert_eq!(acked.len() as u64, PRODUCERS * EACH, "a message was acked twice");
    assert_eq!(acked.into_iter().collect::<BTreeSet<u64>>().len() as u64, PRODUCERS * EACH);
    assert_eq!(broker.depth("load").await.expect("depth"), Some(0));
}

/// Every arrival wakes a consumer that can take it, even if the first one that was notified cannot or gives up.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_waiting_consumer_is_woken_past_others_that_cannot_take() {
    let broker = MemoryBroker::new();
    broker.declare(&queue("load")).await.expect("declared");
    let mut paused = broker.consume("load", 0).await.expect("a consumer");
    let paused =
        tokio::spawn(async move { timeout(Duration::from_secs(60), paused.next()).await.map(|_| ()) });
    let mut leaving = broker.consume("load", 5).await.expect("a consumer");
    let leaving = tokio::spawn(async move { leaving.next().await.map(|delivery| delivery.message.id) });
    let mut waiting = broker.consume("load", 1).await.expect("a consumer");
    let waiting = tokio::spawn(async move { taken(&mut *waiting).await });
    sleep(Duration::from_millis(50)).await;
    let address = Address::Queue("load".to_owned());
    assert_eq!(broker.publish(&address, message(1)).await, Published::Confirmed);
    leaving.abort();
    assert_eq!(broker.publish(&address, message(2)).await, Published::Confirmed);
    let id = timeout(Duration::from_secs(20), waiting).await.expect("nobody woke it").expect("no panic");
    assert!(id.is_some());
    paused.abort();
}

/// Two messages wake two consumers, even if both look at the queue just before the messages come: thousands of
/// rounds, in which neither continues before both have their message.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_arrival_is_missed_between_looking_and_waiting() {
    const ROUNDS: u64 = 20_000;
    let broker = MemoryBroker::new();
    broker.declare(&queue("load")).await.expect("declared");
    let round = Arc::new(Barrier::new(3));
    let mut consumers = JoinSet::new();
    for _ in 0..2 {
        let mut consumer = broker.consume("load", 1).await.expect("a consumer");
        let round = Arc::clone(&round);
        consumers.spawn(async move {
            for _ in 0..ROUNDS {
                let delivery = consumer.next().await.expect("the queue stays");
                round.wait().await;
                assert!(delivery.ack().await);
            }
        });
    }
    let address = Address::Queue("load".to_owned());
    let rounds = async {
        for number in 0..ROUNDS {
            assert_eq!(broker.publish(&address, message(2 * number)).await, Published::Confirmed);
            assert_eq!(broker.publish(&address, message(2 * number + 1)).await, Published::Confirmed);
            round.wait().await;
        }
    };
    timeout(Duration::from_secs(60), rounds).await.expect("an arrival was missed");
    consumers.join_all().await;
}

async fn taken(consumer: &mut dyn Consumer) -> Option<String> {
    let delivery = consumer.next().await?;
    let id = delivery.message.id.clone();
    delivery.ack().await.then_some(id)
}
