//! What every [`Broker`] promises, tried one promise at a time. Written against the trait alone: each check makes
//! its own queues under names that nobody else has, and waits for what may take a broker a while.
//!
//! An implementation runs all of it with [`broker_conformance!`](crate::broker_conformance).

mod lasting;
mod taking;

pub use lasting::*;
pub use taking::*;

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::{
    Address, Binding, Broker, Consumer, Delivery, Exchange, GIVEN_BACK_MAX, Message, Published, Queue,
};

/// How long something that must come may take; generous, because a broker may be starting or busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing must come for it to count as not coming.
const SILENCE: Duration = Duration::from_millis(400);

/// Makes one test per promise. The argument is an expression that makes a `Arc<dyn Broker>`, awaited once a test.
///
/// ```text
/// infera_core::broker_conformance!(async { MemoryBroker::new() as Arc<dyn Broker> });
/// ```
#[macro_export]
macro_rules! broker_conformance {
    ($make:expr) => {
        $crate::broker_conformance!(@each $make;
            confirmed_messages_arrive_whole_and_in_order
            what_matches_no_queue_is_unroutable
            a_full_queue_refuses_and_keeps_nothing
            a_queue_with_too_many_bytes_refuses_and_keeps_nothing
            a_topic_reaches_every_matching_queue_once
            the_two_exchanges_are_apart
            publishing_never_waits_for_a_consumer
            declaring_again_changes_nothing
            declaring_otherwise_is_a_mismatch
            depth_counts_what_waits
            deleting_ends_the_queue_and_its_consumers
            an_exclusive_queue_goes_with_its_consumer
            an_idle_queue_goes
            expired_messages_are_dropped
            what_is_not_there_cannot_be_consumed
            acked_messages_never_come_again
            nacked_messages_come_again_marked
            a_dropped_consumer_gives_back_in_order_and_marked
            a_dropped_delivery_is_held_until_its_consumer_goes
            an_ack_after_the_consumer_is_too_late
            prefetch_bounds_what_is_held
            a_prefetch_of_zero_pauses
            an_abandoned_wait_loses_nothing
            consumers_of_one_queue_share
            what_comes_back_too_often_is_a_dead_letter
        );
    };
    (@each $make:expr; $($check:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                $crate::broker::conformance::$check(&*$make.await).await;
            }
        )*
    };
}

/// A plain queue under a name of its own.
fn queue() -> Queue {
    Queue {
        name: format!("conformance.{}", Uuid::new_v4().as_simple()),
        bindings: Vec::new(),
        exclusive: false,
        replicated: false,
        length_max: None,
        bytes_max: None,
        idle_ms: None,
        dead_letters: None,
    }
}

/// A word that no other check uses, for routing keys.
fn word() -> String {
    format!("w{}", Uuid::new_v4().as_simple())
}

fn binding(exchange: Exchange, pattern: String) -> Binding {
    Binding { exchange, pattern }
}

/// A message that can be told from others by its id and body.
fn message(text: &str) -> Message {
    Message {
        id: text.to_owned(),
        kind: "conformance".to_owned(),
        body: Bytes::from(format!("\u{1}{text} \u{e9}")),
        ttl_ms: None,
        trace: Some(format!("00-{}-00f067aa0ba902b7-01", Uuid::new_v4().as_simple())),
    }
}

async fn declared(broker: &dyn Broker, queue: Queue) -> Queue {
    let outcome = broker.declare(&queue).await;
    assert!(outcome.is_ok(), "declaring {queue:?}: {outcome:?}");
    queue
}

/// A declared queue holding one message per id.
async fn filled(broker: &dyn Broker, ids: &[&str]) -> Queue {
    let queue = declared(broker, queue()).await;
    for id in ids {
        assert_eq!(send(broker, &queue, id).await, Published::Confirmed);
    }
    queue
}

async fn send(broker: &dyn Broker, queue: &Queue, id: &str) -> Published {
    broker.publish(&Address::Queue(queue.name.clone()), message(id)).await
}

#[expect(clippy::panic, reason = "a check fails by panicking")]
async fn consume(broker: &dyn Broker, queue: &Queue, prefetch: u16) -> Box<dyn Consumer> {
    match broker.consume(&queue.name, prefetch).await {
        Ok(consumer) => consumer,
        Err(error) => panic!("consuming {}: {error}", queue.name),
    }
}

/// The next delivery, which must come.
#[expect(clippy::panic, reason = "a check fails by panicking")]
async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    match timeout(PATIENCE, consumer.next()).await {
        Ok(Some(delivery)) => delivery,
        Ok(None) => panic!("the subscription ended"),
        Err(_) => panic!("nothing came in {PATIENCE:?}"),
    }
}

/// The next deliveries with these ids, in this order, acked.
async fn expect_in_order(consumer: &mut Box<dyn Consumer>, ids: &[&str]) {
    for id in ids {
        let delivery = next(consumer).await;
        assert_eq!(delivery.message.id, *id);
        assert!(delivery.ack().await, "{id} could not be acked");
    }
}

async fn expect_silence(consumer: &mut Box<dyn Consumer>) {
    let came = timeout(SILENCE, consumer.next()).await;
    assert!(came.is_err(), "nothing was to come, but {came:?} did");
}

/// Waits until the queue's depth is `wanted`.
async fn expect_depth(broker: &dyn Broker, queue: &Queue, wanted: Option<u64>) {
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

/// Waits until publishing straight to the queue ends so.
async fn expect_outcome(broker: &dyn Broker, queue: &Queue, wanted: Published) {
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

async fn removed(broker: &dyn Broker, queues: &[&Queue]) {
    for queue in queues {
        let outcome = broker.delete(&queue.name).await;
        assert!(outcome.is_ok(), "deleting {}: {outcome:?}", queue.name);
    }
}
