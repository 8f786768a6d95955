//! Queues that are not the node's: those of other nodes, those of jobs, and those that don't exist.

use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};

use crate::stage::{ACCESS_REFUSED, Stage, code, next, silent};

/// An operation that is tried on a queue.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Consume,
    Get,
    Purge,
    Delete,
    Bind,
    Declare,
}

async fn attempt(channel: &Channel, deed: Deed, queue: &str) -> lapin::Result<()> {
    let (queue, arguments) = (queue.into(), FieldTable::default());
    match deed {
        Deed::Consume => channel
            .basic_consume(queue, "".into(), BasicConsumeOptions::default(), arguments)
            .await
            .map(|_| ()),
        Deed::Get => channel.basic_get(queue, BasicGetOptions::default()).await.map(|_| ()),
        Deed::Purge => channel.queue_purge(queue, QueuePurgeOptions::default()).await.map(|_| ()),
        Deed::Delete => channel.queue_delete(queue, QueueDeleteOptions::default()).await.map(|_| ()),
        Deed::Bind => {
            let options = QueueBindOptions::default();
            channel.queue_bind(queue, "infera.nodes".into(), "#".into(), options, arguments).await
        }
        Deed::Declare => {
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue, options, arguments).await.map(|_| ())
        }
    }
}

/// Tries each operation on a channel of its own, because a refusal closes the channel, and expects that all are
/// refused.
async fn all_refused(stage: &Stage, deeds: &[Deed], queue: &str) {
    let connection = stage.connect().await;
    for deed in deeds {
        let channel = stage.channel(&connection).await;
        let refused = attempt(&channel, *deed, queue).await;
        assert_eq!(refused.as_ref().map_err(code), Err(ACCESS_REFUSED), "{deed:?} {queue}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_own_queue_it_reads() {
    let stage = Stage::set().await;
    let connection = stage.connect().await;
    let channel = stage.channel(&connection).await;
    attempt(&channel, Deed::Consume, &stage.own.name).await.unwrap();
    stage.speak_properly(&channel, "alive").await;
    let mut hears = stage.hears().await;
    let delivery = next(&mut hears).await;
    assert_eq!((delivery.sender(), delivery.message.id.as_str()), (stage.node.as_str(), "alive"));
    assert!(delivery.ack().await);
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_nodes_queue_is_refused() {
    let stage = Stage::set().await;
    let deeds = [Deed::Consume, Deed::Get, Deed::Purge, Deed::Delete, Deed::Bind, Deed::Declare];
    all_refused(&stage, &deeds, &stage.private.name).await;
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_jobs_queues_are_refused() {
    let stage = Stage::set().await;
    let deeds = [Deed::Consume, Deed::Get, Deed::Purge, Deed::Delete, Deed::Bind, Deed::Declare];
    all_refused(&stage, &deeds, &stage.jobs.name).await;
    stage.clear().await;
}

/// Before 4.3 RabbitMQ requires no permission to look whether a queue exists. So the depth of a queue whose name is
/// known is no secret (a jobs' queue: how many jobs wait), and a node's queue has a name that cannot be guessed.
/// Nothing of a message is revealed. RabbitMQ 4.3 refuses all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_depth_is_all_that_looking_tells() {
    let stage = Stage::set().await;
    let connection = stage.connect().await;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let look = async |name: &str| {
        let channel = stage.channel(&connection).await;
        channel.queue_declare(name.into(), passive, FieldTable::default()).await
    };
    let depth = look(&stage.jobs.name).await.map(|queue| queue.message_count()).map_err(|error| code(&error));
    let guess = format!("node.{}.0000", stage.victim);
    let guessed = look(&guess).await.map(|_| ()).map_err(|error| code(&error));
    match depth {
        Ok(depth) => assert_eq!((depth, guessed), (1, Err(404)), "a guess finds nothing"),
        Err(refusal) => assert_eq!((refusal, guessed), (ACCESS_REFUSED, Err(ACCESS_REFUSED))),
    }
    stage.clear().await;
}

/// A node can declare no queue, cannot bind, delete or declare even its own, and cannot change the exchanges.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_made_or_taken_away() {
    let stage = Stage::set().await;
    for name in ["", "amq.gen-hostile", "a-queue-of-its-own"] {
        all_refused(&stage, &[Deed::Declare], name).await;
    }
    // Not even its own queue: with a binding it could receive other nodes' messages.
    all_refused(&stage, &[Deed::Bind, Deed::Delete, Deed::Declare], &stage.own.name).await;
    let connection = stage.connect().await;
    for name in ["infera.nodes", "infera.network", "an-exchange-of-its-own"] {
        let channel = stage.channel(&connection).await;
        let deleted = channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await;
        assert_eq!(deleted.as_ref().map_err(code), Err(ACCESS_REFUSED), "{name}");
        let channel = stage.channel(&connection).await;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let (kind, arguments) = (ExchangeKind::Topic, FieldTable::default());
        let declared = channel.exchange_declare(name.into(), kind, options, arguments).await;
        assert_eq!(declared.as_ref().map_err(code), Err(ACCESS_REFUSED), "{name}");
    }
    let mut hears = stage.hears().await;
    silent(&mut hears).await;
    stage.clear().await;
}
