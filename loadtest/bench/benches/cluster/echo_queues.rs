//! The echo's queues and exchange: declared as the programs' are, under names of its own. Each part has connections of
//! its own, as each program has: one for publishing, one for consuming.

use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Connection, ExchangeKind};

use crate::Fault;
use crate::publisher::{Publisher, connect};

pub(crate) const JOBS: &str = "echo.jobs";
pub(crate) const COMPLETIONS: &str = "echo.completions";
pub(crate) const EXCHANGE: &str = "echo.nodes";

/// As many deliveries in hand as the programs hold in this test.
const PREFETCH: u16 = 256;

/// The queue of one node.
pub(crate) fn node_queue(node: usize) -> String {
    format!("echo.node.{node}")
}

/// Queues that are there, and the connections of who uses them.
pub(crate) struct Queues {
    url: String,
    /// Exclusive queues live as long as this.
    shared: Connection,
    /// A connection ends when nobody holds it.
    open: tokio::sync::Mutex<Vec<Connection>>,
}

/// How a queue is declared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Quorum,
    Classic,
    Exclusive,
}

impl Queues {
    /// Declares all anew, and empty.
    pub(crate) async fn declare(url: &str, verifiers: usize, nodes: usize) -> Result<Self, Fault> {
        let shared = connect(url).await?;
        let channel = shared.create_channel().await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, options, FieldTable::default())
            .await?;
        let queues = Self { url: url.to_owned(), shared, open: tokio::sync::Mutex::default() };
        queues.make(JOBS, Kind::Quorum).await?;
        for node in 0..nodes {
            queues.make(&node_queue(node), Kind::Classic).await?;
        }
        // Those that consume exclusive queues do it on the connection that declared them.
        queues.make(COMPLETIONS, Kind::Exclusive).await?;
        for verifier in 0..verifiers {
            let queue = format!("echo.replicas.{verifier}");
            queues.make(&queue, Kind::Exclusive).await?;
            let pattern = ShortString::try_new(format!("*.replica.{verifier}"))?;
            let name = ShortString::try_new(queue)?;
            let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(name, EXCHANGE.into(), pattern, options, arguments).await?;
        }
        Ok(queues)
    }

    async fn make(&self, name: &str, kind: Kind) -> Result<(), Fault> {
        let channel = self.shared.create_channel().await?;
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

    async fn publisher(&self) -> Result<Publisher, Fault> {
        let connection = connect(&self.url).await?;
        let publisher = Publisher::open(&connection).await?;
        self.open.lock().await.push(connection);
        Ok(publisher)
    }

    async fn consumer(&self, connection: &Connection, queue: &str) -> Result<lapin::Consumer, Fault> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let queue = ShortString::try_new(queue)?;
        Ok(channel.basic_consume(queue, "".into(), options, arguments).await?)
    }

    /// A node's two connections.
    pub(crate) async fn node(&self, node: usize) -> Result<(usize, Publisher, lapin::Consumer), Fault> {
        let consuming = connect(&self.url).await?;
        let assignments = self.consumer(&consuming, &node_queue(node)).await?;
        self.open.lock().await.push(consuming);
        Ok((node, self.publisher().await?, assignments))
    }

    /// A verifier's: where it publishes, its notices, its replicas.
    pub(crate) async fn verifier(
        &self,
        verifier: usize,
    ) -> Result<(Publisher, lapin::Consumer, lapin::Consumer), Fault> {
        let consuming = connect(&self.url).await?;
        let notices = self.consumer(&consuming, JOBS).await?;
        self.open.lock().await.push(consuming);
        let replicas = self.consumer(&self.shared, &format!("echo.replicas.{verifier}")).await?;
        Ok((self.publisher().await?, notices, replicas))
    }

    /// A gateway's: where it publishes, and the ends that it waits for.
    pub(crate) async fn gateway(&self) -> Result<(Publisher, lapin::Consumer), Fault> {
        let completions = self.consumer(&self.shared, COMPLETIONS).await?;
        Ok((self.publisher().await?, completions))
    }
}
