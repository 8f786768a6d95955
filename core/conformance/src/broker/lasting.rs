//! Checks of queues: what reaches them, what they refuse, and when they end.

use std::time::Duration;

use bytes::Bytes;
use infera_broker::{Address, Broker, BrokerError, Exchange, Message, Published, Queue};
use tokio::time::{Instant, sleep, timeout};

use super::stage::*;

/// A confirmed message reaches a consumer unchanged, and after those that were sent before it.
pub async fn confirmed_messages_arrive_whole_and_in_order(broker: &dyn Broker) {
    let queue = declared(broker, queue()).await;
    let mut sent: Vec<Message> = (0..20).map(|number| message(&format!("m{number}"))).collect();
    sent.push(Message { trace: None, ..message("traceless") });
    let mut consumer = consume(broker, &queue, 50).await;
    for message in &sent {
        let outcome = broker.publish(&Address::Queue(queue.name.clone()), message.clone()).await;
        assert_eq!(outcome, Published::Confirmed);
    }
    for message in &sent {
        let delivery = next(&mut consumer).await;
        assert_eq!(&delivery.message, message);
        assert_eq!(delivery.routing_key, queue.name);
        assert!(!delivery.redelivered);
        assert!(delivery.ack().await);
    }
    removed(broker, &[&queue]).await;
}

/// A message that matches no queue is not kept, whatever kind of address it was sent to.
pub async fn what_matches_no_queue_is_unroutable(broker: &dyn Broker) {
    let word = word();
    for address in [
        Address::Queue(word.clone()),
        Address::Nodes(format!("{word}.replica.{word}")),
        Address::Network(word.clone()),
    ] {
        let outcome = broker.publish(&address, message("lost")).await;
        assert_eq!(outcome, Published::Unroutable, "{address:?}");
    }
    let queue = declared(broker, Queue { name: word, ..queue() }).await;
    let mut consumer = consume(broker, &queue, 1).await;
    expect_silence(&mut consumer).await;
    removed(broker, &[&queue]).await;
}

/// A queue refuses messages at its limit, and does not keep what it refused. Once there is room it accepts again. A
/// broker may apply its limit a few messages late.
pub async fn a_full_queue_refuses_and_keeps_nothing(broker: &dyn Broker) {
    const LENGTH_MAX: usize = 5;
    let limited = Queue { length_max: Some(LENGTH_MAX as u64), ..queue() };
    refuses_beyond(broker, limited, LENGTH_MAX).await;
}

/// A queue refuses messages when the bodies of the waiting ones have reached its limit of bytes.
pub async fn a_queue_with_too_many_bytes_refuses_and_keeps_nothing(broker: &dyn Broker) {
    const KEPT_MIN: usize = 5;
    // One more message no longer fits.
    let bytes_max = KEPT_MIN * (sized("m00").body.len() + 1);
    let limited = Queue { bytes_max: Some(bytes_max as u64), ..queue() };
    refuses_beyond(broker, limited, KEPT_MIN).await;
}

/// Makes a message of a size that is the same for all ids.
fn sized(id: &str) -> Message {
    Message { body: Bytes::from(vec![b'x'; 1_000]), ..message(id) }
}

async fn refuses_beyond(broker: &dyn Broker, limited: Queue, kept_min: usize) {
    const LATE_MAX: usize = 20;
    let queue = declared(broker, limited).await;
    let address = Address::Queue(queue.name.clone());
    let mut kept = Vec::new();
    let mut refused = 0;
    for number in 0..kept_min + LATE_MAX {
        let id = format!("m{number:02}");
        match broker.publish(&address, sized(&id)).await {
            Published::Confirmed => kept.push(id),
            outcome => {
                assert_eq!(outcome, Published::Full);
                refused += 1;
            }
        }
    }
    assert!(kept.len() >= kept_min, "only {kept:?} kept");
    assert!(refused > 0, "never full");
    let mut consumer = consume(broker, &queue, 1).await;
    let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
    expect_in_order(&mut consumer, &kept).await;
    expect_silence(&mut consumer).await;
    expect_outcome(broker, &queue, Published::Confirmed).await;
    removed(broker, &[&queue]).await;
}

/// A message reaches each queue with a matching pattern, once even if two patterns match, and its key names its
/// sender.
pub async fn a_topic_reaches_every_matching_queue_once(broker: &dyn Broker) {
    let (node, verifier) = (word(), word());
    let patterns = |texts: &[String]| {
        texts.iter().map(|text| binding(Exchange::Nodes, text.clone())).collect::<Vec<_>>()
    };
    let both =
        Queue { bindings: patterns(&[format!("*.replica.{verifier}"), format!("{node}.#")]), ..queue() };
    let stars = Queue { bindings: patterns(&[format!("*.*.{verifier}")]), ..queue() };
    let other =
        Queue { bindings: patterns(&[format!("*.refusal.{verifier}"), format!("*.{verifier}")]), ..queue() };
    for queue in [&both, &stars, &other] {
        declared(broker, queue.clone()).await;
    }
    let key = format!("{node}.replica.{verifier}");
    let sent = message("topic");
    assert_eq!(broker.publish(&Address::Nodes(key.clone()), sent.clone()).await, Published::Confirmed);
    for queue in [&both, &stars] {
        let mut consumer = consume(broker, queue, 5).await;
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message, sent);
        assert_eq!(delivery.routing_key, key);
        assert_eq!(delivery.sender(), node);
        assert!(delivery.ack().await);
        expect_silence(&mut consumer).await;
    }
    let mut consumer = consume(broker, &other, 5).await;
    expect_silence(&mut consumer).await;
    removed(broker, &[&both, &stars, &other]).await;
}

/// Messages of nodes never arrive where roles speak, nor messages of roles where nodes speak.
pub async fn the_two_exchanges_are_apart(broker: &dyn Broker) {
    let word = word();
    let nodes =
        declared(broker, Queue { bindings: vec![binding(Exchange::Nodes, word.clone())], ..queue() }).await;
    let network = Queue { bindings: vec![binding(Exchange::Network, word.clone())], ..queue() };
    let network = declared(broker, network).await;
    assert_eq!(broker.publish(&Address::Nodes(word.clone()), message("node")).await, Published::Confirmed);
    assert_eq!(broker.publish(&Address::Network(word), message("role")).await, Published::Confirmed);
    for (queue, id) in [(&nodes, "node"), (&network, "role")] {
        let mut consumer = consume(broker, queue, 5).await;
        expect_in_order(&mut consumer, &[id]).await;
        expect_silence(&mut consumer).await;
    }
    removed(broker, &[&nodes, &network]).await;
}

/// Publishing ends without a consumer, and also while a consumer holds all that it may and settles nothing.
pub async fn publishing_never_waits_for_a_consumer(broker: &dyn Broker) {
    let queue = declared(broker, queue()).await;
    let mut consumer = consume(broker, &queue, 1).await;
    assert_eq!(send(broker, &queue, "held").await, Published::Confirmed);
    let held = next(&mut consumer).await;
    for number in 0..300 {
        let outcome = timeout(PATIENCE, send(broker, &queue, &format!("m{number}"))).await;
        assert_eq!(outcome, Ok(Published::Confirmed), "message {number}");
    }
    expect_depth(broker, &queue, Some(300)).await;
    drop(held);
    removed(broker, &[&queue]).await;
}

/// Declaring the same queue again keeps its messages and its consumer.
pub async fn declaring_again_changes_nothing(broker: &dyn Broker) {
    let queue = filled(broker, &["first"]).await;
    let mut consumer = consume(broker, &queue, 1).await;
    let held = next(&mut consumer).await;
    assert_eq!(send(broker, &queue, "second").await, Published::Confirmed);
    declared(broker, queue.clone()).await;
    assert!(held.ack().await);
    expect_in_order(&mut consumer, &["second"]).await;
    removed(broker, &[&queue]).await;
}

/// Declaring a queue with other properties is refused by name and leaves it as it was.
pub async fn declaring_otherwise_is_a_mismatch(broker: &dyn Broker) {
    let queue = filled(broker, &["kept"]).await;
    for other in
        [Queue { length_max: Some(7), ..queue.clone() }, Queue { bytes_max: Some(7_000), ..queue.clone() }]
    {
        let outcome = broker.declare(&other).await;
        assert!(
            matches!(&outcome, Err(BrokerError::Mismatch { name, .. }) if *name == queue.name),
            "declaring otherwise: {outcome:?}"
        );
    }
    let mut consumer = consume(broker, &queue, 1).await;
    expect_in_order(&mut consumer, &["kept"]).await;
    removed(broker, &[&queue]).await;
}

/// A queue's depth is what waits, without what is being worked on; there is none if the queue does not exist.
pub async fn depth_counts_what_waits(broker: &dyn Broker) {
    let queue = filled(broker, &["a", "b", "c"]).await;
    expect_depth(broker, &queue, Some(3)).await;
    let mut consumer = consume(broker, &queue, 1).await;
    let held = next(&mut consumer).await;
    expect_depth(broker, &queue, Some(2)).await;
    drop(held);
    drop(consumer);
    expect_depth(broker, &queue, Some(3)).await;
    removed(broker, &[&queue]).await;
    expect_depth(broker, &queue, None).await;
}

/// Deleting removes the queue and what waits in it, and ends its consumers; deleting a missing queue succeeds. A
/// queue of the same name that is made later is another one.
pub async fn deleting_ends_the_queue_and_its_consumers(broker: &dyn Broker) {
    let queue = filled(broker, &["a", "b"]).await;
    let mut consumer = consume(broker, &queue, 1).await;
    let held = next(&mut consumer).await;
    removed(broker, &[&queue]).await;
    let end = timeout(PATIENCE, consumer.next()).await;
    assert!(matches!(end, Ok(None)), "the subscription goes on: {end:?}");
    assert_eq!(send(broker, &queue, "c").await, Published::Unroutable);
    removed(broker, &[&queue]).await;
    declared(broker, queue.clone()).await;
    drop(held);
    drop(consumer);
    let mut consumer = consume(broker, &queue, 1).await;
    expect_silence(&mut consumer).await;
    removed(broker, &[&queue]).await;
}

/// An exclusive queue has one consumer and ends with it.
pub async fn an_exclusive_queue_goes_with_its_consumer(broker: &dyn Broker) {
    let queue = declared(broker, Queue { exclusive: true, ..queue() }).await;
    let mut consumer = consume(broker, &queue, 5).await;
    let second = broker.consume(&queue.name, 5).await.map(|_| ());
    assert!(
        matches!(&second, Err(BrokerError::Exclusive(name)) if *name == queue.name),
        "a second consumer: {second:?}"
    );
    assert_eq!(send(broker, &queue, "mine").await, Published::Confirmed);
    expect_in_order(&mut consumer, &["mine"]).await;
    drop(consumer);
    expect_outcome(broker, &queue, Published::Unroutable).await;
    expect_depth(broker, &queue, None).await;
}

/// A queue with an idle time stays while it has a consumer, and is deleted once it has had none for that time.
pub async fn an_idle_queue_goes(broker: &dyn Broker) {
    const IDLE_MS: u64 = 500;
    let queue = declared(broker, Queue { idle_ms: Some(IDLE_MS), ..queue() }).await;
    let mut consumer = consume(broker, &queue, 1).await;
    sleep(Duration::from_millis(3 * IDLE_MS)).await;
    assert_eq!(send(broker, &queue, "in time").await, Published::Confirmed);
    expect_in_order(&mut consumer, &["in time"]).await;
    drop(consumer);
    // Asking may count as use, so each request comes after more than the idle time.
    let until = Instant::now() + PATIENCE;
    loop {
        sleep(Duration::from_millis(3 * IDLE_MS)).await;
        match broker.depth(&queue.name).await {
            Ok(None) => break,
            depth => assert!(Instant::now() < until, "it is still there: {depth:?}"),
        }
    }
    assert_eq!(send(broker, &queue, "too late").await, Published::Unroutable);
}

/// A message that was not taken within its time to live is dropped; other messages stay.
pub async fn expired_messages_are_dropped(broker: &dyn Broker) {
    let queue = declared(broker, queue()).await;
    let address = Address::Queue(queue.name.clone());
    let lives = |id: &str, ttl_ms| Message { ttl_ms: Some(ttl_ms), ..message(id) };
    for message in [lives("short", 200), message("plain"), lives("long", 600_000)] {
        assert_eq!(broker.publish(&address, message).await, Published::Confirmed);
    }
    sleep(Duration::from_millis(700)).await;
    let mut consumer = consume(broker, &queue, 1).await;
    expect_in_order(&mut consumer, &["plain", "long"]).await;
    expect_silence(&mut consumer).await;
    removed(broker, &[&queue]).await;
}

/// Consuming an undeclared queue is an error that says so.
pub async fn what_is_not_there_cannot_be_consumed(broker: &dyn Broker) {
    let name = word();
    let outcome = broker.consume(&name, 1).await.map(|_| ());
    assert!(matches!(&outcome, Err(BrokerError::NoSuchQueue(missing)) if *missing == name), "{outcome:?}");
}
