//! Helpers of all checks of a broker: queues of their own, and waiting where a broker may be slow.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use infera_broker::{Address, Binding, Broker, Consumer, Delivery, Exchange, Message, Published, Queue};

/// How long an expected event may take; generous, because a broker may be starting or busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing must come before it counts as not coming.
pub(super) const SILENCE: Duration = Duration::from_millis(400);

/// Returns a plain queue with a name of its own.
pub(super) fn queue() -> Queue {
    Queue {
        name: format!("conformance.{}", Uuid::new_v4().as_simple()),
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

/// Returns a word that no other check uses, for routing keys.
pub(super) fn word() -> String {
    format!("w{}", Uuid::new_v4().as_simple())
}

pub(super) fn binding(exchange: Exchange, pattern: String) -> Binding {
    Binding { exchange, pattern }
}

/// Makes a message that its id and body distinguish from others.
pub(super) fn message(text: &str) -> Message {
    Message {
        id: text.to_owned(),
        kind: "conformance".to_owned(),
        body: Bytes::from(format!("\u{1}{text} \u{e9}")),
        ttl_ms: None,
        trace: Some(format!("00-{}-00f067aa0ba902b7-01", Uuid::new_v4().as_simple())),
    }
}

pub(super) async fn declared(broker: &dyn Broker, queue: Queue) -> Queue {
    let outcome = broker.declare(&queue).await;
    assert!(outcome.is_ok(), "declaring {queue:?}: {outcome:?}");
    queue
}

/// Declares a queue that holds one message per id.
pub(super) async fn filled(broker: &dyn Broker, ids: &[&str]) -> Queue {
    let queue = declared(broker, queue()).await;
    for id in ids {
        assert_eq!(send(broker, &queue, id).await, Published::Confirmed);
    }
    queue
}

pub(super) async fn send(broker: &dyn Broker, queue: &Queue, id: &str) -> Published {
    broker.publish(&Address::Queue(queue.name.clone()), message(id)).await
}

#[expect(clippy::panic, reason = "a check fails by panicking")]
pub(super) async fn consume(broker: &dyn Broker, queue: &Queue, prefetch: u16) -> Box<dyn Consumer> {
    match broker.consume(&queue.name, prefetch).await {
        Ok(consumer) => consumer,
        Err(error) => panic!("consuming {}: {error}", queue.name),
    }
}

/// Returns the next delivery, which must come.
#[expect(clippy::panic, reason = "a check fails by panicking")]
pub(super) async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    match timeout(PATIENCE, consumer.next()).await {
        Ok(Some(delivery)) => delivery,
        Ok(None) => panic!("the subscription ended"),
        Err(_) => panic!("nothing came in {PATIENCE:?}"),
    }
}

/// Takes and acks the next deliveries, which must have these ids in this order.
pub(super) async fn expect_in_order(consumer: &mut Box<dyn Consumer>, ids: &[&str]) {
    for id in ids {
        let delivery = next(consumer).await;
        assert_eq!(delivery.message.id, *id);
        assert!(delivery.ack().await, "{id} could not be acked");
    }
}

pub(super) async fn expect_silence(consumer: &mut Box<dyn Consumer>) {
    let came = timeout(SILENCE, consumer.next()).await;
    assert!(came.is_err(), "nothing was to come, but {came:?} did");
}

/// Waits until the queue's depth is `wanted`.
pub(super) async fn expect_depth(broker: &dyn Broker, queue: &Queue, wanted: Option<u64>) {
    let until = Instant::now() + PATIENCE;
    loop {
        let depth = broker.depth(&queue.name).await;
        assert!(depth.is_ok(), "depth: {depth:?}");
        if depth.as_ref().ok() == Some(&wanted) {
            return;
        }
        assert!(Instant::now() < until, "depth of {} is {depth:?}, not {wanted:?}", queue.name);
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until publishing straight to the queue has the wanted outcome.
pub(super) async fn expect_outcome(broker: &dyn Broker, queue: &Queue, wanted: Published) {
    let until = Instant::now() + PATIENCE;
    loop {
        let outcome = send(broker, queue, "probe").await;
        if outcome == wanted {
            return;
        }
        assert!(Instant::now() < until, "publishing ends {outcome:?}, not {wanted:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

pub(super) async fn removed(broker: &dyn Broker, queues: &[&Queue]) {
    for queue in queues {
        let outcome = broker.delete(&queue.name).await;
        assert!(outcome.is_ok(), "deleting {}: {outcome:?}", queue.name);
    }
}
