//! Checks of fleeting messages and queues: what arrives, what is dropped, and that nothing waits.

use bytes::Bytes;
use infera_broker::{Address, Broker, BrokerError, Consumer, Exchange, Message, Published, Queue, Sent};
use tokio::time::{Instant, sleep, timeout};

use super::stage::*;

/// Limits that no check reaches which doesn't mean to.
const WIDE: (u64, u64) = (1_000, 1_000_000);

fn fleeting((length_max, bytes_max): (u64, u64)) -> Queue {
    Queue::fleeting(queue().name, Vec::new(), length_max, bytes_max)
}

/// Sends a fleeting message, again until it is handed on: a broker may have been away or slow until now.
async fn hand_on(broker: &dyn Broker, address: &Address, message: Message) {
    let until = Instant::now() + PATIENCE;
    while broker.publish_fleeting(address, message.clone()) == Sent::Dropped {
        assert!(Instant::now() < until, "dropped for {PATIENCE:?}");
        sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// Hands on `count` messages of one size to a queue, with ids that sort as they were sent.
async fn hand_on_many(broker: &dyn Broker, queue: &Queue, count: usize) {
    for number in 0..count {
        hand_on(broker, &Address::Queue(queue.name.clone()), sized(number)).await;
    }
}

fn id(number: usize) -> String {
    format!("m{number:05}")
}

fn sized(number: usize) -> Message {
    Message { body: Bytes::from(vec![b'x'; 1_000]), ..message(&id(number)) }
}

/// Waits until everything that was handed on before is in its queues: a message that was sent later is.
async fn arrived(broker: &dyn Broker) {
    let last = declared(broker, queue()).await;
    hand_on(broker, &Address::Queue(last.name.clone()), message("last")).await;
    expect_depth(broker, &last, Some(1)).await;
    removed(broker, &[&last]).await;
}

/// Takes what comes until nothing more does, and returns the ids.
async fn take_all(consumer: &mut Box<dyn Consumer>) -> Vec<String> {
    let mut ids = Vec::new();
    while let Ok(Some(delivery)) = timeout(SILENCE, consumer.next()).await {
        ids.push(delivery.message.id.clone());
    }
    ids
}

/// Checks that the messages kept are the newest of `sent`, in order, and at most `kept_max`.
fn expect_newest(ids: &[String], sent: usize, kept_max: usize) {
    assert!(
        !ids.is_empty() && ids.len() <= kept_max,
        "{} of {sent} were kept, not 1 to {kept_max}",
        ids.len()
    );
    let newest: Vec<String> = (sent - ids.len()..sent).map(id).collect();
    assert_eq!(ids, newest);
}

/// A fleeting message reaches its queue's consumer unchanged, after those that were sent before it.
pub async fn fleeting_messages_arrive_whole_and_in_order(broker: &dyn Broker) {
    let queue = declared(broker, fleeting(WIDE)).await;
    let mut consumer = consume(broker, &queue, 1).await;
    let mut sent: Vec<Message> = (0..200).map(|number| message(&id(number))).collect();
    sent.push(Message { trace: None, body: Bytes::new(), ..message("bare") });
    for message in &sent {
        hand_on(broker, &Address::Queue(queue.name.clone()), message.clone()).await;
    }
    for message in &sent {
        let delivery = next(&mut consumer).await;
        assert_eq!(&delivery.message, message);
        assert_eq!(delivery.routing_key, queue.name);
        assert!(!delivery.redelivered);
    }
    removed(broker, &[&queue]).await;
    let end = timeout(PATIENCE, consumer.next()).await;
    assert!(matches!(end, Ok(None)), "the subscription goes on: {end:?}");
}

/// A fleeting message whose address matches no queue is handed on and kept nowhere.
pub async fn a_fleeting_message_without_a_queue_is_handed_on_and_kept_nowhere(broker: &dyn Broker) {
    let word = word();
    for address in [
        Address::Queue(word.clone()),
        Address::Nodes(format!("{word}.tokens.{word}")),
        Address::Network(word.clone()),
    ] {
        hand_on(broker, &address, message("lost")).await;
    }
    arrived(broker).await;
    let queue = declared(broker, Queue { name: word, ..fleeting(WIDE) }).await;
    let mut consumer = consume(broker, &queue, 1).await;
    expect_silence(&mut consumer).await;
    removed(broker, &[&queue]).await;
}

/// A topic carries a fleeting message to every matching queue: one that is not fleeting keeps it to be acked, and a
/// full one keeps it from no other.
pub async fn a_fleeting_message_is_kept_by_other_queues_that_are_not_full(broker: &dyn Broker) {
    let (node, verifier) = (word(), word());
    let bindings = vec![binding(Exchange::Nodes, format!("*.tokens.{verifier}"))];
    let ordinary = declared(broker, Queue { bindings: bindings.clone(), ..queue() }).await;
    let full = Queue { bindings: bindings.clone(), length_max: Some(1), ..queue() };
    let full = declared(broker, full).await;
    while send(broker, &full, "first").await == Published::Confirmed {}
    let depth = broker.depth(&full.name).await.ok().flatten();
    let fleeting = declared(broker, Queue { bindings, ..fleeting(WIDE) }).await;
    let mut reader = consume(broker, &fleeting, 1).await;
    let address = Address::Nodes(format!("{node}.tokens.{verifier}"));
    hand_on(broker, &address, message("frame")).await;
    let delivery = next(&mut reader).await;
    assert_eq!((delivery.message.id.as_str(), delivery.sender()), ("frame", node.as_str()));
    let mut consumer = consume(broker, &ordinary, 1).await;
    drop(next(&mut consumer).await);
    drop(consumer);
    let mut consumer = consume(broker, &ordinary, 1).await;
    let again = next(&mut consumer).await;
    assert!(again.redelivered && again.message.id == "frame", "{again:?}");
    arrived(broker).await;
    expect_depth(broker, &full, depth).await;
    removed(broker, &[&ordinary, &full, &fleeting]).await;
}

/// A fleeting queue keeps as many messages as it may, the newest.
pub async fn a_fleeting_queue_drops_the_oldest_messages(broker: &dyn Broker) {
    const LENGTH_MAX: usize = 5;
    let queue = declared(broker, fleeting((LENGTH_MAX as u64, WIDE.1))).await;
    hand_on_many(broker, &queue, 30).await;
    arrived(broker).await;
    expect_depth(broker, &queue, Some(LENGTH_MAX as u64)).await;
    let mut consumer = consume(broker, &queue, 1).await;
    let kept = take_all(&mut consumer).await;
    assert_eq!(kept.len(), LENGTH_MAX);
    expect_newest(&kept, 30, LENGTH_MAX);
    removed(broker, &[&queue]).await;
}

/// A fleeting queue keeps as many bytes as it may, of the newest messages; a message that has more alone is dropped
/// after all those before it.
pub async fn a_fleeting_queue_drops_the_oldest_bytes(broker: &dyn Broker) {
    const KEPT: usize = 5;
    let bytes = sized(0).body.len();
    let queue = declared(broker, fleeting((WIDE.0, (KEPT * bytes + bytes / 2) as u64))).await;
    hand_on_many(broker, &queue, 30).await;
    arrived(broker).await;
    expect_depth(broker, &queue, Some(KEPT as u64)).await;
    let large = Message { body: Bytes::from(vec![b'x'; (KEPT + 1) * bytes]), ..message("large") };
    hand_on(broker, &Address::Queue(queue.name.clone()), large).await;
    arrived(broker).await;
    expect_depth(broker, &queue, Some(0)).await;
    hand_on_many(broker, &queue, 30).await;
    arrived(broker).await;
    let mut consumer = consume(broker, &queue, 1).await;
    let kept = take_all(&mut consumer).await;
    assert_eq!(kept.len(), KEPT);
    expect_newest(&kept, 30, KEPT);
    removed(broker, &[&queue]).await;
}

/// A publish that is confirmed finds a fleeting queue never full: that drops its oldest messages.
pub async fn a_fleeting_queue_is_never_full(broker: &dyn Broker) {
    const LENGTH_MAX: usize = 3;
    let queue = declared(broker, fleeting((LENGTH_MAX as u64, WIDE.1))).await;
    for number in 0..30 {
        let outcome = broker.publish(&Address::Queue(queue.name.clone()), sized(number)).await;
        assert_eq!(outcome, Published::Confirmed, "message {number}");
    }
    let mut consumer = consume(broker, &queue, 1).await;
    let kept = take_all(&mut consumer).await;
    assert_eq!(kept.len(), LENGTH_MAX);
    expect_newest(&kept, 30, LENGTH_MAX);
    removed(broker, &[&queue]).await;
}

/// A delivery of a fleeting queue never comes again, whatever is done with it, and acking it succeeds at any time.
pub async fn a_fleeting_delivery_is_settled_when_it_is_taken(broker: &dyn Broker) {
    let queue = declared(broker, fleeting(WIDE)).await;
    let mut consumer = consume(broker, &queue, 1).await;
    hand_on_many(broker, &queue, 4).await;
    let first = next(&mut consumer).await;
    drop(next(&mut consumer).await);
    next(&mut consumer).await.nack().await;
    assert!(next(&mut consumer).await.ack().await);
    expect_silence(&mut consumer).await;
    expect_depth(broker, &queue, Some(0)).await;
    drop(consumer);
    assert!(first.ack().await, "an ack after the consumer's end");
    expect_depth(broker, &queue, None).await;
}

/// Sending goes on at its own pace while a consumer takes nothing; the consumer then gets the newest messages, and no
/// more than may wait in the queue and in this process.
pub async fn a_slow_reader_loses_the_oldest(broker: &dyn Broker) {
    const LENGTH_MAX: usize = 50;
    const COUNT: usize = 3_000;
    let queue = declared(broker, fleeting((LENGTH_MAX as u64, WIDE.1))).await;
    let mut consumer = consume(broker, &queue, 1).await;
    hand_on_many(broker, &queue, COUNT).await;
    arrived(broker).await;
    // What the broker has given to the connection must have come.
    sleep(2 * SILENCE).await;
    expect_newest(&take_all(&mut consumer).await, COUNT, 2 * LENGTH_MAX);
    hand_on(broker, &Address::Queue(queue.name.clone()), message("after")).await;
    assert_eq!(next(&mut consumer).await.message.id, "after");
    removed(broker, &[&queue]).await;
}

/// A prefetch of zero pauses a fleeting queue's consumer, which loses the oldest messages meanwhile; any other number
/// is as good as the largest.
pub async fn a_paused_reader_loses_the_oldest(broker: &dyn Broker) {
    const LENGTH_MAX: usize = 5;
    let queue = declared(broker, fleeting((LENGTH_MAX as u64, WIDE.1))).await;
    let mut consumer = consume(broker, &queue, 0).await;
    hand_on_many(broker, &queue, 30).await;
    arrived(broker).await;
    expect_silence(&mut consumer).await;
    consumer.set_prefetch(1).await;
    let kept = take_all(&mut consumer).await;
    expect_newest(&kept, 30, 2 * LENGTH_MAX);
    consumer.set_prefetch(0).await;
    hand_on(broker, &Address::Queue(queue.name.clone()), message("paused")).await;
    expect_silence(&mut consumer).await;
    consumer.set_prefetch(9).await;
    assert_eq!(next(&mut consumer).await.message.id, "paused");
    removed(broker, &[&queue]).await;
}

/// A fleeting queue has one consumer and ends with it, and with it what was not taken.
pub async fn a_fleeting_queue_goes_with_its_consumer(broker: &dyn Broker) {
    let queue = declared(broker, fleeting(WIDE)).await;
    let mut consumer = consume(broker, &queue, 1).await;
    let second = broker.consume(&queue.name, 1).await.map(|_| ());
    assert!(
        matches!(&second, Err(BrokerError::Exclusive(name)) if *name == queue.name),
        "a second consumer: {second:?}"
    );
    hand_on_many(broker, &queue, 3).await;
    assert_eq!(next(&mut consumer).await.message.id, id(0));
    drop(consumer);
    expect_depth(broker, &queue, None).await;
    declared(broker, queue.clone()).await;
    let mut consumer = consume(broker, &queue, 1).await;
    expect_silence(&mut consumer).await;
    removed(broker, &[&queue]).await;
}

/// A fleeting queue without limits, or with properties of another kind, is refused by name and not declared.
pub async fn a_contradictory_queue_is_refused(broker: &dyn Broker) {
    let sound = fleeting(WIDE);
    for (wrong, word) in [
        (Queue { length_max: None, ..sound.clone() }, "length_max"),
        (Queue { length_max: Some(0), ..sound.clone() }, "length_max"),
        (Queue { bytes_max: None, ..sound.clone() }, "bytes_max"),
        (Queue { exclusive: false, ..sound.clone() }, "exclusive"),
        (Queue { replicated: true, ..sound.clone() }, "replicated"),
        (Queue { idle_ms: Some(1_000), ..sound.clone() }, "idle_ms"),
        (Queue { dead_letters: Some("dead".to_owned()), ..sound.clone() }, "dead_letters"),
    ] {
        let outcome = broker.declare(&wrong).await;
        assert!(
            matches!(&outcome, Err(BrokerError::Contradiction { name, why }) if *name == wrong.name && why.contains(word)),
            "{wrong:?}: {outcome:?}"
        );
        expect_depth(broker, &wrong, None).await;
    }
}

/// Declaring the same fleeting queue again keeps what waits in it; other limits, or another kind, are a mismatch.
pub async fn declaring_a_fleeting_queue_otherwise_is_a_mismatch(broker: &dyn Broker) {
    let queue = declared(broker, fleeting(WIDE)).await;
    hand_on_many(broker, &queue, 1).await;
    arrived(broker).await;
    declared(broker, queue.clone()).await;
    for other in [
        Queue { length_max: Some(7), ..queue.clone() },
        Queue { bytes_max: Some(7_000), ..queue.clone() },
        Queue { fleeting: false, ..queue.clone() },
    ] {
        let outcome = broker.declare(&other).await;
        assert!(
            matches!(&outcome, Err(BrokerError::Mismatch { name, .. }) if *name == queue.name),
            "declaring otherwise: {outcome:?}"
        );
    }
    let mut consumer = consume(broker, &queue, 1).await;
    assert_eq!(next(&mut consumer).await.message.id, id(0));
    removed(broker, &[&queue]).await;
}
