//! Tests the loss of the line to the server: waiting calls are answered in time, and everything recovers by itself.

use std::time::Duration;

use bytes::Bytes;
use infera_broker::{Address, Broker, BrokerError, Consumer, Message, Published, Queue};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::line::{Line, State};

/// How long an expected event may take: the client detects a dead peer after twice its heartbeat of ten seconds.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn queue() -> Queue {
    Queue {
        name: format!("outages.{}", Uuid::new_v4().as_simple()),
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

pub(crate) fn message(id: &str) -> Message {
    Message {
        id: id.to_owned(),
        kind: "outage".to_owned(),
        body: Bytes::from_static(b"\x01"),
        ttl_ms: None,
        trace: None,
    }
}

async fn send(broker: &dyn Broker, queue: &Queue, id: &str) -> Published {
    broker.publish(&Address::Queue(queue.name.clone()), message(id)).await
}

/// Publishes under the same id until the message is kept.
async fn send_until_kept(broker: &dyn Broker, queue: &Queue, id: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        match send(broker, queue, id).await {
            Published::Confirmed => return,
            outcome => assert!(Instant::now() < until, "publishing still ends {outcome:?}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Consumes, once the broker is back.
async fn consume(broker: &dyn Broker, queue: &Queue) -> Box<dyn Consumer> {
    let until = Instant::now() + PATIENCE;
    loop {
        match broker.consume(&queue.name, 9).await {
            Ok(consumer) => return consumer,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_line_ends_the_consumer_gives_back_and_heals() {
    let line = Line::new().await;
    let broker = line.broker(1_000);
    let queue = queue();
    broker.declare(&queue).await.unwrap();
    for id in ["a", "b"] {
        assert_eq!(send(&*broker, &queue, id).await, Published::Confirmed);
    }
    let mut consumer = broker.consume(&queue.name, 1).await.unwrap();
    let held = consumer.next().await.unwrap();

    line.set(State::Cut);
    let end = timeout(PATIENCE, consumer.next()).await;
    assert!(matches!(end, Ok(None)), "the subscription goes on: {end:?}");
    assert!(!held.ack().await, "an ack over a cut line was taken");
    let began = Instant::now();
    assert_eq!(send(&*broker, &queue, "c").await, Published::Unknown);
    assert!(began.elapsed() < Duration::from_secs(10), "told after {:?}", began.elapsed());
    let refused = broker.consume(&queue.name, 1).await.map(|_| ());
    assert!(matches!(refused, Err(BrokerError::Unavailable(_))), "{refused:?}");

    line.set(State::Forwards);
    send_until_kept(&*broker, &queue, "c").await;
    let mut consumer = consume(&*broker, &queue).await;
    let mut ids = Vec::new();
    while ids.last().is_none_or(|id| id != "c") {
        let delivery = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
        if delivery.message.id == "a" {
            assert!(delivery.redelivered);
        }
        ids.push(delivery.message.id.clone());
        assert!(delivery.ack().await);
    }
    assert_eq!(ids, ["a", "b", "c"]);
    broker.delete(&queue.name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_line_is_told_in_time_and_loses_nothing() {
    let line = Line::new().await;
    let broker = line.broker(1_000);
    let queue = queue();
    broker.declare(&queue).await.unwrap();
    assert_eq!(send(&*broker, &queue, "a").await, Published::Confirmed);

    line.set(State::Frozen);
    let began = Instant::now();
    let sends: Vec<_> = (0..600)
        .map(|number| {
            let (broker, queue) = (std::sync::Arc::clone(&broker), queue.clone());
            tokio::spawn(async move { send(&*broker, &queue, &format!("f{number}")).await })
        })
        .collect();
    for sent in sends {
        assert_eq!(sent.await.unwrap(), Published::Unknown);
    }
    assert!(began.elapsed() < Duration::from_secs(10), "told after {:?}", began.elapsed());

    line.set(State::Forwards);
    send_until_kept(&*broker, &queue, "last").await;
    drop(consume(&*broker, &queue).await);
    let depth = broker.depth(&queue.name).await.unwrap().unwrap();
    assert!((2..=602).contains(&depth), "{depth} wait");
    broker.delete(&queue.name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_stays_dead_is_found_out() {
    let line = Line::new().await;
    let broker = line.broker(500);
    let queue = queue();
    broker.declare(&queue).await.unwrap();
    let mut consumer = broker.consume(&queue.name, 1).await.unwrap();
    assert_eq!(send(&*broker, &queue, "a").await, Published::Confirmed);
    let held = consumer.next().await.unwrap();
    line.set(State::Frozen);
    assert_eq!(send(&*broker, &queue, "b").await, Published::Unknown);
    let end = timeout(PATIENCE, consumer.next()).await;
    assert!(matches!(end, Ok(None)), "a dead line wasn't found out: {end:?}");
    drop(held);
    line.set(State::Cut);
    line.set(State::Forwards);
    send_until_kept(&*broker, &queue, "b").await;
    drop(consume(&*broker, &queue).await);
    broker.delete(&queue.name).await.unwrap();
}

/// Exclusive queues are deleted with the connection; their owner declares them again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exclusive_queue_is_declared_anew_after_a_cut() {
    let line = Line::new().await;
    let broker = line.broker(1_000);
    let queue = Queue { exclusive: true, ..queue() };
    broker.declare(&queue).await.unwrap();
    let mut consumer = broker.consume(&queue.name, 1).await.unwrap();
    line.set(State::Cut);
    assert!(matches!(timeout(PATIENCE, consumer.next()).await, Ok(None)));
    line.set(State::Forwards);
    drop(consumer);
    let until = Instant::now() + PATIENCE;
    // The server may notice later than we do that the old connection, and with it the queue, is gone.
    while let Err(error) = broker.declare(&queue).await {
        assert!(Instant::now() < until, "{error}");
        sleep(Duration::from_millis(100)).await;
    }
    let mut consumer = broker.consume(&queue.name, 1).await.unwrap();
    send_until_kept(&*broker, &queue, "a").await;
    assert_eq!(timeout(PATIENCE, consumer.next()).await.unwrap().unwrap().message.id, "a");
}
