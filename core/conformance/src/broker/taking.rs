//! Checks of consumers: what they hold, what they return, and how they share.

use std::collections::BTreeSet;
use std::time::Duration;

use infera_broker::{Address, Broker, GIVEN_BACK_MAX, Published, Queue};
use tokio::time::{Instant, sleep, timeout};

use super::stage::*;

/// An acked message never comes again.
pub async fn acked_messages_never_come_again(broker: &dyn Broker) {
    let queue = filled(broker, &["a", "b"]).await;
    let mut consumer = consume(broker, &queue, 5).await;
    expect_in_order(&mut consumer, &["a", "b"]).await;
    drop(consumer);
    let mut consumer = consume(broker, &queue, 5).await;
    expect_silence(&mut consumer).await;
    expect_depth(broker, &queue, Some(0)).await;
    removed(broker, &[&queue]).await;
}

/// A nacked message comes again, marked as redelivered.
pub async fn nacked_messages_come_again_marked(broker: &dyn Broker) {
    let queue = filled(broker, &["a"]).await;
    let mut consumer = consume(broker, &queue, 1).await;
    let delivery = next(&mut consumer).await;
    assert!(!delivery.redelivered);
    delivery.nack().await;
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.message.id, "a");
    assert!(delivery.redelivered);
    assert!(delivery.ack().await);
    expect_silence(&mut consumer).await;
    removed(broker, &[&queue]).await;
}

/// The messages that a consumer held when it was dropped come again at once, marked, and before those that were never
/// delivered.
pub async fn a_dropped_consumer_gives_back_in_order_and_marked(broker: &dyn Broker) {
    let queue = filled(broker, &["a", "b", "c"]).await;
    let mut first = consume(broker, &queue, 2).await;
    let held = [next(&mut first).await, next(&mut first).await];
    drop(first);
    let mut second = consume(broker, &queue, 5).await;
    for id in ["a", "b"] {
        let delivery = next(&mut second).await;
        assert_eq!(delivery.message.id, id);
        assert!(delivery.redelivered, "{id} isn't marked");
        assert!(delivery.ack().await);
    }
    expect_in_order(&mut second, &["c"]).await;
    drop(held);
    removed(broker, &[&queue]).await;
}

/// Dropping a delivery without settling it neither acks nor returns it: it stays held until its consumer is dropped.
pub async fn a_dropped_delivery_is_held_until_its_consumer_goes(broker: &dyn Broker) {
    let queue = filled(broker, &["a", "b"]).await;
    let mut first = consume(broker, &queue, 1).await;
    drop(next(&mut first).await);
    expect_silence(&mut first).await;
    drop(first);
    let mut second = consume(broker, &queue, 1).await;
    let delivery = next(&mut second).await;
    assert_eq!(delivery.message.id, "a");
    assert!(delivery.redelivered);
    assert!(delivery.ack().await);
    expect_in_order(&mut second, &["b"]).await;
    removed(broker, &[&queue]).await;
}

/// Acking a delivery that was already returned reports that it is too late, and takes it from no other consumer.
pub async fn an_ack_after_the_consumer_is_too_late(broker: &dyn Broker) {
    let queue = filled(broker, &["a"]).await;
    let mut first = consume(broker, &queue, 1).await;
    let late = next(&mut first).await;
    drop(first);
    let mut second = consume(broker, &queue, 1).await;
    let delivery = next(&mut second).await;
    assert!(!late.ack().await, "an ack that came too late was taken");
    assert_eq!(delivery.message.id, "a");
    assert!(delivery.ack().await);
    removed(broker, &[&queue]).await;
}

/// A consumer holds no more than its prefetch; settling makes room, and so does raising it.
pub async fn prefetch_bounds_what_is_held(broker: &dyn Broker) {
    let queue = filled(broker, &["a", "b", "c", "d", "e"]).await;
    let mut consumer = consume(broker, &queue, 2).await;
    let (first, second) = (next(&mut consumer).await, next(&mut consumer).await);
    expect_silence(&mut consumer).await;
    expect_depth(broker, &queue, Some(3)).await;
    assert!(first.ack().await);
    let third = next(&mut consumer).await;
    assert_eq!(third.message.id, "c");
    expect_silence(&mut consumer).await;
    consumer.set_prefetch(3).await;
    let fourth = next(&mut consumer).await;
    assert_eq!(fourth.message.id, "d");
    expect_silence(&mut consumer).await;
    for delivery in [second, third, fourth] {
        assert!(delivery.ack().await);
    }
    expect_in_order(&mut consumer, &["e"]).await;
    removed(broker, &[&queue]).await;
}

/// A prefetch of zero delivers nothing, keeps what is held, and ends when it is raised again.
pub async fn a_prefetch_of_zero_pauses(broker: &dyn Broker) {
    let queue = filled(broker, &["a", "b", "c"]).await;
    let mut consumer = consume(broker, &queue, 1).await;
    let held = next(&mut consumer).await;
    consumer.set_prefetch(0).await;
    assert!(held.ack().await, "pausing lost what was held");
    expect_silence(&mut consumer).await;
    consumer.set_prefetch(1).await;
    expect_in_order(&mut consumer, &["b", "c"]).await;
    drop(consumer);

    let mut paused = consume(broker, &filled(broker, &["d"]).await, 0).await;
    expect_silence(&mut paused).await;
    paused.set_prefetch(1).await;
    expect_in_order(&mut paused, &["d"]).await;
    removed(broker, &[&queue]).await;
}

/// Dropping a pending `next` at any moment loses no message: it can be one branch of a `select!`.
pub async fn an_abandoned_wait_loses_nothing(broker: &dyn Broker) {
    const COUNT: usize = 40;
    let queue = declared(broker, queue()).await;
    let mut consumer = consume(broker, &queue, 5).await;
    let sending = async {
        for number in 0..COUNT {
            assert_eq!(send(broker, &queue, &format!("m{number:02}")).await, Published::Confirmed);
            sleep(Duration::from_millis(3)).await;
        }
    };
    let taking = async {
        let mut taken = Vec::new();
        let until = Instant::now() + PATIENCE;
        while taken.len() < COUNT {
            assert!(Instant::now() < until, "only {taken:?} came");
            if let Ok(Some(delivery)) = timeout(Duration::from_millis(2), consumer.next()).await {
                taken.push(delivery.message.id.clone());
                assert!(delivery.ack().await);
            }
        }
        taken
    };
    let ((), taken) = tokio::join!(sending, taking);
    let expected: Vec<String> = (0..COUNT).map(|number| format!("m{number:02}")).collect();
    assert_eq!(taken, expected);
    removed(broker, &[&queue]).await;
}

/// All consumers of one queue get work, and each message goes to one of them.
pub async fn consumers_of_one_queue_share(broker: &dyn Broker) {
    const EACH: usize = 3;
    let queue = declared(broker, queue()).await;
    let mut consumers = Vec::new();
    for _ in 0..3 {
        consumers.push(consume(broker, &queue, EACH as u16).await);
    }
    let count = EACH * consumers.len();
    for number in 0..count {
        assert_eq!(send(broker, &queue, &format!("m{number}")).await, Published::Confirmed);
    }
    // None of them settles: they have room for all messages together, so each must get as many as it may hold.
    let mut held = Vec::new();
    for consumer in &mut consumers {
        for _ in 0..EACH {
            held.push(next(consumer).await);
        }
    }
    let ids: BTreeSet<&str> = held.iter().map(|delivery| delivery.message.id.as_str()).collect();
    assert_eq!(ids.len(), count, "a message went to two consumers: {ids:?}");
    for delivery in held {
        assert!(delivery.ack().await);
    }
    removed(broker, &[&queue]).await;
}

/// A message that is returned too often goes to its queue's dead letters unchanged; its neighbour does not.
pub async fn what_comes_back_too_often_is_a_dead_letter(broker: &dyn Broker) {
    let grave = declared(broker, Queue { replicated: true, ..queue() }).await;
    let dead_letters = Some(grave.name.clone());
    let queue = declared(broker, Queue { replicated: true, dead_letters, ..queue() }).await;
    let cursed = message("cursed");
    let address = Address::Queue(queue.name.clone());
    assert_eq!(broker.publish(&address, cursed.clone()).await, Published::Confirmed);
    let mut consumer = consume(broker, &queue, 1).await;
    let (mut given, until) = (0, Instant::now() + PATIENCE);
    while !matches!(broker.depth(&grave.name).await, Ok(Some(1))) {
        assert!(Instant::now() < until, "given {given} times, and no dead letter");
        if let Ok(Some(delivery)) = timeout(Duration::from_millis(100), consumer.next()).await {
            assert_eq!(delivery.redelivered, given > 0);
            given += 1;
            delivery.nack().await;
        }
    }
    // A broker may or may not count the first delivery.
    assert!((GIVEN_BACK_MAX..=GIVEN_BACK_MAX + 1).contains(&given), "given {given} times");
    assert_eq!(send(broker, &queue, "fine").await, Published::Confirmed);
    next(&mut consumer).await.nack().await;
    expect_in_order(&mut consumer, &["fine"]).await;
    let mut consumer = consume(broker, &grave, 5).await;
    let dead = next(&mut consumer).await;
    assert_eq!(dead.message, cursed);
    assert!(dead.ack().await);
    expect_silence(&mut consumer).await;
    removed(broker, &[&queue, &grave]).await;
}
