//! Sets the stage: the operator, a victim's queue and a jobs' queue with one message each, and a node with its token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use infera_broker::{
    Address, Binding, Broker, Consumer, Delivery, Exchange, Message, Published, Queue, topology,
};
use infera_broker_rabbitmq::{Config, RabbitBroker};
use infera_types::ids::{ModelName, NodeId};
use infera_types::secret::Secret;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::timeout;

use crate::signing;

/// How long an expected event may take; after that it counts as not happening.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long to listen when nothing may arrive.
pub(crate) const SILENCE: Duration = Duration::from_millis(500);

/// AMQP's code for a missing permission.
pub(crate) const ACCESS_REFUSED: u16 = 403;
/// AMQP's code for a failed condition: a user that is not the sender, or a message over the limit.
pub(crate) const PRECONDITION_FAILED: u16 = 406;

/// Returns the services' variable of this name.
pub(crate) fn named(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} isn't set; `make services` starts the servers and tells their addresses")
    })
}

/// Returns the moment `seconds` from now, in seconds since 1970.
pub(crate) fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

/// The operator, two queues that are not the hostile node's, and what that node has itself.
pub(crate) struct Stage {
    pub(crate) operator: Arc<RabbitBroker>,
    /// The hostile node.
    pub(crate) node: NodeId,
    /// Its own queue.
    pub(crate) own: Queue,
    /// Another node.
    pub(crate) victim: NodeId,
    /// The victim's queue, with one message.
    pub(crate) private: Queue,
    /// A jobs' queue, with one message.
    pub(crate) jobs: Queue,
    /// The queue in which a verifier receives the messages of both nodes.
    pub(crate) heard: Queue,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let config = Config { url: Secret::new(named("TEST_RABBITMQ_URL")), ..Config::default() };
        let operator = RabbitBroker::start(&config).unwrap();
        // A cluster that ran here leaves these: without a reader the tests would fill them until they refuse.
        for left in [topology::replicas_any(), topology::parked()] {
            operator.delete(&left.name).await.unwrap();
        }
        let (node, victim) = (NodeId::fresh(), NodeId::fresh());
        let (own, private) = (topology::node(&node, "0123"), topology::node(&victim, "4567"));
        let jobs = topology::jobs(&ModelName::new(format!("hostile-{node}")));
        let bindings = [&node, &victim]
            .map(|node| Binding { exchange: Exchange::Nodes, pattern: format!("{node}.#") })
            .to_vec();
        let heard = Queue { name: format!("heard.{node}"), bindings, ..topology::node(&node, "heard") };
        for queue in [&own, &private, &jobs, &heard] {
            operator.declare(queue).await.unwrap();
        }
        for queue in [&private, &jobs] {
            let address = Address::Queue(queue.name.clone());
            assert_eq!(operator.publish(&address, message("secret")).await, Published::Confirmed);
        }
        Self { operator, node, own, victim, private, jobs, heard }
    }

    /// Returns the claims that a gateway puts into this node's token.
    pub(crate) fn claims(&self) -> Value {
        let (node, queue) = (&self.node, &self.own.name);
        json!({
            "aud": "rabbitmq",
            "sub": node.as_str(),
            "iat": in_seconds(0),
            "exp": in_seconds(300),
            "scope": [format!("rabbitmq.read:%2F/{queue}"), format!("rabbitmq.write:%2F/infera.nodes/{node}.*")],
        })
    }

    /// Connects the node with its own valid token.
    pub(crate) async fn connect(&self) -> Connection {
        log_in(&signed(&self.claims())).await.unwrap()
    }

    /// Opens a new channel of the node with confirmations.
    pub(crate) async fn channel(&self, connection: &Connection) -> Channel {
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        channel
    }

    /// Consumes the queue in which the operator receives the nodes' messages.
    pub(crate) async fn hears(&self) -> Box<dyn Consumer> {
        self.operator.consume(&self.heard.name, 10).await.unwrap()
    }

    /// Publishes a message that the node may send, in the proper way.
    pub(crate) async fn speak_properly(&self, channel: &Channel, id: &str) {
        let properties = BasicProperties::default().with_user_id(self.node.as_str().into());
        assert_eq!(self.publish(channel, &format!("{}.heartbeat", self.node), properties, id).await, Ok(()));
    }

    /// Publishes to the nodes' exchange; the error is the code with which the broker closed the channel.
    pub(crate) async fn publish(
        &self,
        channel: &Channel,
        key: &str,
        properties: BasicProperties,
        id: &str,
    ) -> Result<(), u16> {
        publish(channel, (topology::NODES_EXCHANGE, key), properties.with_message_id(id.into()), b"\x01{}")
            .await
    }

    /// Publishes what RabbitMQ 4 refuses and 3.10 does not. Returns whether it passed; otherwise the channel is
    /// closed.
    pub(crate) async fn let_pass_or_refused(
        &self,
        channel: &Channel,
        key: &str,
        properties: BasicProperties,
        id: &str,
    ) -> bool {
        let outcome = self.publish(channel, key, properties, id).await;
        assert!(matches!(outcome, Ok(()) | Err(ACCESS_REFUSED)), "{outcome:?}");
        outcome.is_ok()
    }

    /// Checks that both other queues still have their one message, and that the operator still receives messages.
    pub(crate) async fn clear(self) {
        for queue in [&self.private, &self.jobs] {
            assert_eq!(self.operator.depth(&queue.name).await.unwrap(), Some(1), "{}", queue.name);
        }
        for queue in [&self.own, &self.private, &self.jobs, &self.heard] {
            self.operator.delete(&queue.name).await.unwrap();
        }
    }
}

/// Makes an empty message with this id.
pub(crate) fn message(id: &str) -> Message {
    Message {
        id: id.to_owned(),
        kind: "test".to_owned(),
        body: b"\x01{}".as_slice().into(),
        ttl_ms: None,
        trace: None,
    }
}

/// Publishes mandatorily and waits for the outcome; the error is the code with which the broker closed the channel.
pub(crate) async fn publish(
    channel: &Channel,
    (exchange, key): (&str, &str),
    properties: BasicProperties,
    body: &[u8],
) -> Result<(), u16> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirmed =
        async { channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?.await };
    match timeout(PATIENCE, confirmed).await.expect("an outcome") {
        Ok(confirmation) => {
            assert!(confirmation.is_ack() && confirmation.take_message().is_none(), "kept nowhere");
            Ok(())
        }
        Err(error) => Err(code(&error)),
    }
}

/// Returns the AMQP code in an error of the broker.
pub(crate) fn code(error: &lapin::Error) -> u16 {
    match error.kind() {
        ErrorKind::ProtocolError(protocol) => protocol.get_id(),
        // Later callers on a closed channel get an error without the reason; the first caller got the reason.
        other => panic!("not the broker's word: {other:?}"),
    }
}

/// Makes a header that names additional routing keys.
pub(crate) fn more_keys(header: &'static str, keys: &[&str]) -> BasicProperties {
    let keys = keys.iter().map(|key| AMQPValue::LongString((*key).into())).collect::<Vec<_>>();
    let mut headers = FieldTable::default();
    headers.insert(header.into(), AMQPValue::FieldArray(FieldArray::from(keys)));
    BasicProperties::default().with_headers(headers)
}

/// Returns the next delivery, which must come.
pub(crate) async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    timeout(PATIENCE, consumer.next()).await.expect("in time").expect("a delivery")
}

/// Checks that nothing comes.
pub(crate) async fn silent(consumer: &mut Box<dyn Consumer>) {
    assert!(timeout(SILENCE, consumer.next()).await.is_err(), "something came");
}

/// Signs the claims with the gateways' key.
pub(crate) fn signed(claims: &Value) -> String {
    signing::signed(claims, &named("TEST_TOKEN_KEY"))
}

/// Connects with an empty user name and `token` as the password.
pub(crate) async fn log_in(token: &str) -> lapin::Result<Connection> {
    let (_, address) =
        named("TEST_RABBITMQ_URL").split_once('@').map(|(_, rest)| ((), rest.to_owned())).unwrap();
    // The token consists of base64url characters and dots, which need no escaping.
    let url = format!("amqp://:{token}@{address}");
    timeout(PATIENCE, Connection::connect(&url, ConnectionProperties::default())).await.expect("an answer")
}
