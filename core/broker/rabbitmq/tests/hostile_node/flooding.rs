//! A node that sends as much as it can to queues that have no reader at the moment. What waits there is bounded, so
//! the broker's disk stays far from its alarm, which would stop every publish; honest senders are told that there is
//! no room, and succeed later.

use std::time::Instant;

use infera_broker::{
    Address, Binding, Broker as _, Exchange, Fleeting as _, Published, Queue, Sent, topology,
};
use infera_types::ids::{GatewayId, VerifierId};
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel};
use tokio::time::timeout;

use crate::stage::{PATIENCE, Stage, message, next};

/// The size of a message in bytes, almost the largest that the broker accepts.
const EACH_BYTES: usize = 1_000_000;

/// How many messages are sent: more than any bound lets in.
const FLOOD: usize = 110;

/// By how many messages a broker may exceed its limits.
const LATE_MAX: usize = 20;

/// Sends a flood and returns how many messages were kept; all others were refused.
async fn flood(stage: &Stage, channel: &Channel, key: &str) -> usize {
    let body = vec![b'x'; EACH_BYTES];
    let mut kept = 0;
    for number in 0..FLOOD {
        let properties = BasicProperties::default()
            .with_user_id(stage.node.as_str().into())
            .with_message_id(number.to_string().as_str().into());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent =
            channel.basic_publish(topology::NODES_EXCHANGE.into(), key.into(), options, &body, properties);
        let confirmation = timeout(PATIENCE, async { sent.await?.await }).await.expect("an outcome").unwrap();
        kept += usize::from(confirmation.is_ack());
    }
    kept
}

/// Returns a queue of the topology that receives only this stage's nodes, because other tests use the same broker.
fn apart(queue: Queue, stage: &Stage, word: &str) -> Queue {
    let bindings = [&stage.node, &stage.victim]
        .map(|node| Binding { exchange: Exchange::Nodes, pattern: format!("{node}.{word}") })
        .to_vec();
    Queue { name: format!("flooded.{word}.{}", stage.node), bindings, ..queue }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_refused_and_who_is_honest_gets_through() {
    let stage = Stage::set().await;
    // Its queue would keep a copy of everything.
    stage.operator.delete(&stage.heard.name).await.unwrap();
    let connection = stage.connect().await;
    for (queue, word) in [
        (topology::replicas_any(), "replica.any"),
        (topology::replicas(&VerifierId::fresh()), "replica.v"),
        (topology::parked(), "parked"),
    ] {
        let bytes_max = usize::try_from(queue.bytes_max.expect("a bound")).unwrap();
        let queue = apart(queue, &stage, word);
        stage.operator.declare(&queue).await.unwrap();
        let channel = stage.channel(&connection).await;
        let kept = flood(&stage, &channel, &format!("{}.{word}", stage.node)).await;
        assert!(kept >= bytes_max / EACH_BYTES, "{word}: only {kept} kept");
        assert!(kept <= bytes_max / EACH_BYTES + LATE_MAX, "{word}: {kept} kept");

        // Other queues keep what they accepted, and the honest node is told that there is no room.
        let elsewhere = Address::Queue(stage.own.name.clone());
        assert_eq!(stage.operator.publish(&elsewhere, message("work")).await, Published::Confirmed);
        let honest = Address::Nodes(format!("{}.{word}", stage.victim));
        let large = infera_broker::Message { body: vec![b'x'; EACH_BYTES].into(), ..message("early") };
        assert_eq!(stage.operator.publish(&honest, large).await, Published::Full, "{word}");

        // A reader comes: the honest node's next try succeeds, behind the flood.
        let mut consumer = stage.operator.consume(&queue.name, 20).await.unwrap();
        let reading = async {
            loop {
                let delivery = next(&mut consumer).await;
                let (sender, id) = (delivery.sender().to_owned(), delivery.message.id.clone());
                assert!(delivery.ack().await);
                if sender == stage.victim.as_str() {
                    return id;
                }
            }
        };
        let trying = async {
            let begun = Instant::now();
            while stage.operator.publish(&honest, message("again")).await != Published::Confirmed {
                assert!(begun.elapsed() < PATIENCE, "{word}: never room");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let (id, ()) = tokio::join!(reading, trying);
        assert_eq!(id, "again");
        drop(consumer);
        stage.operator.delete(&queue.name).await.unwrap();
    }
    stage.clear().await;
}

/// A flood into a verifier's queue of frames, which has no reader at the moment, drops the oldest: the broker keeps no
/// more than the queue's bytes, and an honest node's frame is there behind the flood. Gateways' queue and the broadcast
/// get nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_frames_drops_the_oldest_and_keeps_none_out() {
    let stage = Stage::set().await;
    stage.operator.delete(&stage.heard.name).await.unwrap();
    let verifier = VerifierId::fresh();
    let frames = topology::tokens(&verifier);
    let others = [topology::deltas(&GatewayId::fresh()), topology::watch(&verifier)];
    for queue in others.iter().chain([&frames]) {
        stage.operator.declare(queue).await.unwrap();
    }
    let bytes_max = usize::try_from(frames.bytes_max.expect("a bound")).unwrap();
    let connection = stage.connect().await;
    let channel = stage.channel(&connection).await;
    let key = format!("{}.tokens.{verifier}", stage.node);
    assert_eq!(flood(&stage, &channel, &key).await, FLOOD, "nothing is refused");
    let kept = usize::try_from(stage.operator.depth(&frames.name).await.unwrap().unwrap()).unwrap();
    assert_eq!(kept, bytes_max / EACH_BYTES, "of {FLOOD}");
    for queue in &others {
        assert_eq!(stage.operator.depth(&queue.name).await.unwrap(), Some(0), "{}", queue.name);
    }

    // Other queues keep what they accepted, and the honest node's frame comes, behind what is left of the flood.
    let elsewhere = Address::Queue(stage.own.name.clone());
    assert_eq!(stage.operator.publish(&elsewhere, message("work")).await, Published::Confirmed);
    let honest = topology::tokens_to(&stage.victim, &verifier);
    assert_eq!(stage.operator.publish_fleeting(&honest, message("honest")), Sent::HandedOn);
    let mut reader = stage.operator.consume(&frames.name, 1).await.unwrap();
    let mut before = Vec::new();
    loop {
        let delivery = next(&mut reader).await;
        if delivery.sender() == stage.victim.as_str() {
            break;
        }
        before.push(delivery.message.id);
    }
    let newest: Vec<String> = (FLOOD - before.len()..FLOOD).map(|number| number.to_string()).collect();
    assert!(before.len() <= kept && before == newest, "{before:?}");
    drop(reader);
    for queue in &others {
        stage.operator.delete(&queue.name).await.unwrap();
    }
    stage.clear().await;
}
