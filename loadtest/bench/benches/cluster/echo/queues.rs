//! The echo's queues and exchange: declared as the programs' are, under names of their own. Each part has its own
//! connections, as each program has: one for publishing, one for consuming.

use std::sync::Arc;

use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};

use infera_bench::Fault;

pub(crate) const JOBS: &str = "echo.jobs";
pub(super) const EXCHANGE: &str = "echo.nodes";

/// How many unsettled deliveries a consumer may hold, as many as the programs hold in this test.
const PREFETCH: u16 = 256;

/// Returns the name of one node's queue.
pub(super) fn node_queue(node: usize) -> String {
    format!("echo.node.{node}")
}

/// Returns the name of one gateway's queue.
pub(super) fn completions_queue(gateway: usize) -> String {
    format!("echo.completions.{gateway}")
}

/// The deliveries of a queue, and the channel on which they are acked.
pub(super) struct Deliveries {
    pub(super) channel: Arc<Channel>,
    pub(super) consumer: lapin::Consumer,
}

/// How a queue is declared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Quorum,
    Classic,
    /// It lives as long as the connection that declared it.
    Exclusive,
}

/// A connection that declares queues and consumes them.
pub(crate) struct Queues {
    connection: Connection,
}

impl Queues {
    pub(crate) const fn over(connection: Connection) -> Self {
        Self { connection }
    }

    /// Deletes and declares again the queues that several parts use, so that they are empty.
    pub(crate) async fn declare_shared(&self, nodes: usize) -> Result<(), Fault> {
        let channel = self.connection.create_channel().await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, options, FieldTable::default())
            .await?;
        self.make(JOBS, Kind::Quorum).await?;
        for node in 0..nodes {
            self.make(&node_queue(node), Kind::Classic).await?;
        }
        Ok(())
    }

    async fn make(&self, name: &str, kind: Kind) -> Result<(), Fault> {
        let channel = self.connection.create_channel().await?;
        let name = ShortString::try_new(name)?;
        channel.queue_delete(name.clone(), QueueDeleteOptions::default()).await?;
        let mut arguments = FieldTable::default();
        let word = if kind == Kind::Quorum { "quorum" } else { "classic" };
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(word.into()));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        if kind == Kind::Quorum {
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(20));
        }
        let exclusive = kind == Kind::Exclusive;
        let options =
            QueueDeclareOptions { durable: !exclusive, exclusive, ..QueueDeclareOptions::default() };
        channel.queue_declare(name, options, arguments).await?;
        Ok(())
    }

    async fn consumer(&self, queue: &str) -> Result<Deliveries, Fault> {
        let channel = self.connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let queue = ShortString::try_new(queue)?;
        let consumer = channel.basic_consume(queue, "".into(), options, arguments).await?;
        Ok(Deliveries { channel: Arc::new(channel), consumer })
    }

    /// Consumes the assignments of one node.
    pub(super) async fn assignments(&self, node: usize) -> Result<Deliveries, Fault> {
        self.consumer(&node_queue(node)).await
    }

    /// Consumes the jobs, which verifiers share.
    pub(super) async fn notices(&self) -> Result<Deliveries, Fault> {
        self.consumer(JOBS).await
    }

    /// Consumes the replicas for one verifier.
    pub(super) async fn replicas(&self, verifier: usize) -> Result<Deliveries, Fault> {
        let queue = format!("echo.replicas.{verifier}");
        self.make(&queue, Kind::Exclusive).await?;
        let pattern = ShortString::try_new(format!("*.replica.{verifier}"))?;
        let name = ShortString::try_new(queue.as_str())?;
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let channel = self.connection.create_channel().await?;
        channel.queue_bind(name, EXCHANGE.into(), pattern, options, arguments).await?;
        self.consumer(&queue).await
    }

    /// Consumes the completions for one gateway.
    pub(super) async fn completions(&self, gateway: usize) -> Result<Deliveries, Fault> {
        let queue = completions_queue(gateway);
        self.make(&queue, Kind::Exclusive).await?;
        self.consumer(&queue).await
    }
}
