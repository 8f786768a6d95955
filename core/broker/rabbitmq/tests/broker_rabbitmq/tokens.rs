//! Tests a node at the server: it logs in with a token, receives and sends only what the token allows, and stays
//! connected when a new token comes before the old one expires. Messages that the server does not vouch for are
//! dropped.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use infera_broker::{Address, Binding, Broker, BrokerError, Exchange, Fleeting as _, Published, Queue};
use infera_broker_rabbitmq::{Config, RabbitBroker, Token};
use infera_types::secret::Secret;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::outages::{message, queue};
use super::signing::signed;
use super::{broker, named, url};

const PATIENCE: Duration = Duration::from_secs(20);

/// Returns a word that can be a node's id.
fn node() -> String {
    format!("n{}", Uuid::new_v4().as_simple())
}

/// Makes a token as a gateway does: read the node's queue, write under keys that begin with its id.
fn token(node: &str, queue: &str, lives: Duration) -> Token {
    let expires = SystemTime::now() + lives;
    let claims = json!({
        "aud": "rabbitmq",
        "sub": node,
        "exp": expires.duration_since(UNIX_EPOCH).unwrap().as_secs(),
        "scope": [format!("rabbitmq.read:%2F/{queue}"), format!("rabbitmq.write:%2F/infera.nodes/{node}.*")],
    });
    let value = signed(&claims, &named("TEST_TOKEN_KEY"));
    Token { value: Secret::new(value), expires: Instant::now() + lives }
}

/// Starts the node's broker; its tokens end when the sender is dropped.
fn start(first: Token) -> (Arc<RabbitBroker>, watch::Sender<Token>) {
    let (sender, tokens) = watch::channel(first);
    let (_, address) = url().split_once('@').map(|(user, rest)| (user.to_owned(), rest.to_owned())).unwrap();
    let config = Config { url: Secret::new(format!("amqp://{address}")), ..Config::default() };
    (RabbitBroker::start_as_node(&config, tokens).unwrap(), sender)
}

/// Returns an operator's queue that receives one kind of message from every node.
fn hearing(word: &str) -> Queue {
    let pattern = format!("*.replica.{word}");
    Queue { bindings: vec![Binding { exchange: Exchange::Nodes, pattern }], ..queue() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_hears_its_queue_speaks_as_itself_and_nothing_else() {
    let (operator, node) = (broker(), node());
    let (own, others, heard) = (queue(), queue(), hearing(&node));
    for queue in [&own, &others, &heard] {
        operator.declare(queue).await.unwrap();
    }
    let (as_node, _tokens) = start(token(&node, &own.name, Duration::from_secs(300)));

    as_node.declare(&own).await.unwrap();
    let missing = queue();
    // RabbitMQ 4.3 doesn't tell a node whether a queue exists on which it has no permission.
    match as_node.declare(&missing).await {
        Err(BrokerError::NoSuchQueue(name)) if name == missing.name => {}
        Err(BrokerError::Unavailable(why)) if why.contains("not allowed") => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(operator.depth(&missing.name).await.unwrap(), None, "a node declared a queue");

    let mut consumer = as_node.consume(&own.name, 5).await.unwrap();
    assert_eq!(
        operator.publish(&Address::Queue(own.name.clone()), message("work")).await,
        Published::Confirmed
    );
    let delivery = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
    assert_eq!(delivery.message.id, "work");
    assert!(delivery.ack().await);

    let to = Address::Nodes(format!("{node}.replica.{node}"));
    assert_eq!(as_node.publish(&to, message("said")).await, Published::Confirmed);
    let mut hears = operator.consume(&heard.name, 5).await.unwrap();
    let delivery = timeout(PATIENCE, hears.next()).await.unwrap().unwrap();
    assert_eq!((delivery.sender(), delivery.message.id.as_str()), (node.as_str(), "said"));
    assert!(delivery.ack().await);

    // A refusal closes the channel, so the outcome is unknown; what counts is that nothing arrives.
    for forbidden in [
        Address::Nodes(format!("other.replica.{node}")),
        Address::Queue(others.name.clone()),
        Address::Network(format!("other.replica.{node}")),
    ] {
        assert_ne!(
            as_node.publish(&forbidden, message("forged")).await,
            Published::Confirmed,
            "{forbidden:?}"
        );
    }
    let refused = as_node.consume(&others.name, 1).await.map(|_| ());
    assert!(
        matches!(&refused, Err(BrokerError::Unavailable(why)) if why.contains("not allowed")),
        "{refused:?}"
    );
    assert!(as_node.delete(&others.name).await.is_err());
    assert_eq!(operator.depth(&others.name).await.unwrap(), Some(0));
    assert!(timeout(Duration::from_millis(300), hears.next()).await.is_err());
    // The node can still send.
    assert_eq!(as_node.publish(&to, message("again")).await, Published::Confirmed);
    for queue in [&own, &others, &heard] {
        operator.delete(&queue.name).await.unwrap();
    }
}

/// A node's frames reach the verifier that they are for, as the node's own. One that its token forbids reaches nothing,
/// and those after it arrive again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_sends_frames_as_itself() {
    let (operator, node) = (broker(), node());
    let binding = Binding { exchange: Exchange::Nodes, pattern: format!("*.tokens.{node}") };
    let frames = Queue::fleeting(queue().name, vec![binding], 100, 100_000);
    operator.declare(&frames).await.unwrap();
    let mut reader = operator.consume(&frames.name, 1).await.unwrap();
    let (as_node, _tokens) = start(token(&node, "none", Duration::from_secs(300)));
    let own = Address::Nodes(format!("{node}.tokens.{node}"));
    for forbidden in [
        None,
        Some(Address::Nodes(format!("other.tokens.{node}"))),
        Some(Address::Queue(frames.name.clone())),
        Some(Address::Network("watch".to_owned())),
    ] {
        if let Some(forbidden) = forbidden {
            as_node.publish_fleeting(&forbidden, message("forged"));
        }
        let until = Instant::now() + PATIENCE;
        loop {
            as_node.publish_fleeting(&own, message("frame"));
            if let Ok(delivery) = timeout(Duration::from_millis(100), reader.next()).await {
                let delivery = delivery.expect("the subscription ended");
                assert_eq!((delivery.sender(), delivery.message.id.as_str()), (node.as_str(), "frame"));
                break;
            }
            assert!(Instant::now() < until, "no frame arrives");
        }
    }
    operator.delete(&frames.name).await.unwrap();
}

/// Tokens of six seconds are renewed for a quarter of a minute: one subscription, and no publish fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_keeps_the_connection() {
    const LIVES: Duration = Duration::from_secs(6);
    let (operator, node) = (broker(), node());
    let (own, heard) = (queue(), hearing(&node));
    for queue in [&own, &heard] {
        operator.declare(queue).await.unwrap();
    }
    let (as_node, tokens) = start(token(&node, &own.name, LIVES));
    let mut consumer = as_node.consume(&own.name, 5).await.unwrap();
    let began = Instant::now();
    let mut renewed = began;
    while began.elapsed() < Duration::from_secs(15) {
        if renewed.elapsed() > LIVES / 2 {
            renewed = Instant::now();
            tokens.send_replace(token(&node, &own.name, LIVES));
        }
        let to = Address::Nodes(format!("{node}.replica.{node}"));
        assert_eq!(
            as_node.publish(&to, message("m")).await,
            Published::Confirmed,
            "after {:?}",
            began.elapsed()
        );
        assert_eq!(
            operator.publish(&Address::Queue(own.name.clone()), message("w")).await,
            Published::Confirmed
        );
        let delivery = timeout(PATIENCE, consumer.next()).await.unwrap().expect("the subscription ended");
        assert!(delivery.ack().await);
        sleep(Duration::from_millis(500)).await;
    }
    for queue in [&own, &heard] {
        operator.delete(&queue.name).await.unwrap();
    }
}

/// A node with an expired token can send nothing; the next token lets it send again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_says_nothing_until_there_is_a_new_one() {
    let (operator, node) = (broker(), node());
    let heard = hearing(&node);
    operator.declare(&heard).await.unwrap();
    let (as_node, tokens) = start(token(&node, "none", Duration::from_secs(2)));
    let to = Address::Nodes(format!("{node}.replica.{node}"));
    assert_eq!(as_node.publish(&to, message("early")).await, Published::Confirmed);
    sleep(Duration::from_secs(4)).await;
    assert_ne!(as_node.publish(&to, message("late")).await, Published::Confirmed);
    tokens.send_replace(token(&node, "none", Duration::from_secs(300)));
    let until = Instant::now() + PATIENCE;
    while as_node.publish(&to, message("back")).await != Published::Confirmed {
        assert!(Instant::now() < until, "the new token doesn't help");
    }
    let mut hears = operator.consume(&heard.name, 5).await.unwrap();
    for expected in ["early", "back"] {
        let delivery = timeout(PATIENCE, hears.next()).await.unwrap().unwrap();
        assert_eq!(delivery.message.id, expected);
        assert!(delivery.ack().await);
    }
    operator.delete(&heard.name).await.unwrap();
}

/// A message whose key names a node is dropped at delivery if its user is another node or is not vouched for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_vouches_for_is_dropped() {
    let (operator, node) = (broker(), node());
    let heard = hearing(&node);
    operator.declare(&heard).await.unwrap();
    let connection = Connection::connect(&url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let key = format!("{node}.replica.{node}");
    for user in [None, Some("another")] {
        let mut properties = BasicProperties::default();
        if let Some(user) = user {
            properties = properties.with_user_id(user.into());
        }
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (exchange, key) = ("infera.nodes".into(), key.as_str().into());
        let confirm = channel.basic_publish(exchange, key, options, b"\x01", properties).await.unwrap();
        assert!(confirm.await.unwrap().is_ack(), "{user:?}");
    }
    let mut hears = operator.consume(&heard.name, 1).await.unwrap();
    assert_eq!(operator.publish(&Address::Nodes(key), message("vouched")).await, Published::Confirmed);
    let delivery = timeout(PATIENCE, hears.next()).await.unwrap().unwrap();
    assert_eq!(delivery.message.id, "vouched");
    assert!(delivery.ack().await);
    operator.delete(&heard.name).await.unwrap();
}
