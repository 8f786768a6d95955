//! Tests what only a real server can get wrong: returns that are confirmed in bulk, a prefetch that changes under
//! load, copies by `CC`, other clients' exclusive queues, and names of arguments.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Address, Binding, BrokerError, Delivery, Exchange, Published, Queue};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use tokio::time::timeout;
use uuid::Uuid;

use super::outages::{message, queue};
use super::{broker, url};

const PATIENCE: Duration = Duration::from_secs(20);

/// Of 4,000 publishes at once, a third goes to missing queues: each gets its true outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_return_finds_its_publish() {
    const COUNT: usize = 4_000;
    let broker = broker();
    let kept = queue();
    broker.declare(&kept).await.unwrap();
    let sends: Vec<_> = (0..COUNT)
        .map(|number| {
            let name = if number % 3 == 0 { format!("{}.missing", kept.name) } else { kept.name.clone() };
            let broker = Arc::clone(&broker);
            tokio::spawn(
                async move { broker.publish(&Address::Queue(name), message(&number.to_string())).await },
            )
        })
        .collect();
    for (number, sent) in sends.into_iter().enumerate() {
        let expected = if number % 3 == 0 { Published::Unroutable } else { Published::Confirmed };
        assert_eq!(sent.await.unwrap(), expected, "message {number}");
    }
    let depth = broker.depth(&kept.name).await.unwrap();
    assert_eq!(depth, Some((COUNT - COUNT.div_ceil(3)) as u64));
    broker.delete(&kept.name).await.unwrap();
}

/// The prefetch follows every change while messages are held: never are more held than was allowed, and none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefetch_that_keeps_changing_loses_nothing() {
    const COUNT: usize = 300;
    let broker = broker();
    let queue = Queue { replicated: true, ..queue() };
    broker.declare(&queue).await.unwrap();
    for number in 0..COUNT {
        let sent = broker.publish(&Address::Queue(queue.name.clone()), message(&number.to_string())).await;
        assert_eq!(sent, Published::Confirmed);
    }
    let mut consumer = broker.consume(&queue.name, 0).await.unwrap();
    let (mut held, mut seen) = (Vec::new(), BTreeSet::new());
    for prefetch in [3u16, 1, 7, 0, 20, 19, 18, 40, 2, 30].into_iter().cycle() {
        if seen.len() == COUNT {
            break;
        }
        consumer.set_prefetch(prefetch).await;
        let allowed = held.len().max(usize::from(prefetch).min(held.len() + COUNT - seen.len()));
        while held.len() < allowed {
            let delivery = timeout(PATIENCE, consumer.next()).await;
            let Ok(delivery) = delivery else { panic!("{} held of {allowed}, no more came", held.len()) };
            let delivery: Delivery = delivery.unwrap();
            seen.insert(delivery.message.id.clone());
            held.push(delivery);
        }
        let beyond = timeout(Duration::from_millis(30), consumer.next()).await;
        assert!(beyond.is_err(), "{allowed} held with a prefetch of {prefetch}, and {beyond:?} came");
        for delivery in held.drain(held.len() / 3..) {
            assert!(delivery.ack().await);
        }
    }
    for delivery in held {
        assert!(delivery.ack().await);
    }
    drop(consumer);
    let mut consumer = broker.consume(&queue.name, 5).await.unwrap();
    assert!(timeout(Duration::from_millis(300), consumer.next()).await.is_err(), "something came again");
    broker.delete(&queue.name).await.unwrap();
}

/// A message with `CC` that arrives under a permitted key, at a queue that its sender may not reach, is dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_sent_with_copies_is_dropped() {
    let broker = broker();
    let word = format!("w{}", Uuid::new_v4().as_simple());
    let patterns = vec![Binding { exchange: Exchange::Nodes, pattern: format!("*.{word}") }];
    let queue = Queue { bindings: patterns, ..queue() };
    broker.declare(&queue).await.unwrap();
    let mut consumer = broker.consume(&queue.name, 1).await.unwrap();

    let connection = Connection::connect(&url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut headers = FieldTable::default();
    let copies = vec![AMQPValue::LongString(format!("victim.{word}").into())];
    headers.insert("CC".into(), AMQPValue::FieldArray(FieldArray::from(copies)));
    let (exchange, key) = ("infera.nodes".into(), format!("rogue.{word}").into());
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_headers(headers);
    let confirm = channel.basic_publish(exchange, key, options, b"\x01", properties).await.unwrap();
    assert!(confirm.await.unwrap().is_ack());

    let honest = Address::Nodes(format!("honest.{word}"));
    assert_eq!(broker.publish(&honest, message("honest")).await, Published::Confirmed);
    let delivery = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
    assert_eq!((delivery.sender(), delivery.message.id.as_str()), ("honest", "honest"));
    assert!(delivery.ack().await);
    broker.delete(&queue.name).await.unwrap();
}

/// Another process's exclusive queue cannot be consumed, queried or deleted, and the error says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exclusive_queue_of_another_connection_is_refused() {
    let (ours, theirs) = (broker(), broker());
    let queue = Queue { exclusive: true, ..queue() };
    theirs.declare(&queue).await.unwrap();
    let name = &queue.name;
    for outcome in [
        ours.declare(&queue).await,
        ours.consume(name, 1).await.map(|_| ()),
        ours.depth(name).await.map(|_| ()),
        ours.delete(name).await,
    ] {
        assert!(matches!(&outcome, Err(BrokerError::Exclusive(taken)) if taken == name), "{outcome:?}");
    }
    assert_eq!(ours.publish(&Address::Queue(name.clone()), message("a")).await, Published::Confirmed);
    assert_eq!(theirs.depth(name).await.unwrap(), Some(1));
    theirs.delete(name).await.unwrap();
}

/// The error of a mismatch names what differs, with both values.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mismatch_names_what_differs() {
    let broker = broker();
    let queue = queue();
    broker.declare(&queue).await.unwrap();
    for (other, word) in [
        (Queue { replicated: true, ..queue.clone() }, "x-queue-type"),
        (Queue { length_max: Some(7), ..queue.clone() }, "x-max-length"),
        (Queue { bytes_max: Some(7), ..queue.clone() }, "x-max-length-bytes"),
        (Queue { idle_ms: Some(60_000), ..queue.clone() }, "x-expires"),
        (Queue { dead_letters: Some("dead".to_owned()), ..queue.clone() }, "x-dead-letter-exchange"),
    ] {
        match broker.declare(&other).await {
            Err(BrokerError::Mismatch { name, difference }) => {
                assert_eq!(name, queue.name);
                assert!(difference.starts_with(word), "{difference}");
                let said = BrokerError::Mismatch { name: name.clone(), difference }.to_string();
                assert!(said.contains(&format!("rabbitmqctl delete_queue {name}")), "no remedy in: {said}");
            }
            outcome => panic!("{outcome:?}"),
        }
    }
    broker.delete(&queue.name).await.unwrap();
}
