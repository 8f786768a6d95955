//! Tests TLS to the server: it is trusted only if a CA of ours vouches for it.

use infera_broker::{Address, Broker, BrokerError, Published};
use infera_broker_rabbitmq::{Config, RabbitBroker};
use infera_types::secret::Secret;

use super::outages::{message, queue};
use super::{broker, named};

fn over_tls(authority: &str) -> Config {
    let url = Secret::new(named("TEST_RABBITMQ_TLS_URL"));
    Config { url, ca_file: Some(named(authority).into()), publish_timeout_ms: 2_000 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_our_authority_vouches_for_is_used() {
    let broker = RabbitBroker::start(&over_tls("TEST_CA_FILE")).unwrap();
    let queue = queue();
    broker.declare(&queue).await.unwrap();
    let mut consumer = broker.consume(&queue.name, 1).await.unwrap();
    assert_eq!(broker.publish(&Address::Queue(queue.name.clone()), message("a")).await, Published::Confirmed);
    let delivery = consumer.next().await.unwrap();
    assert_eq!(delivery.message.id, "a");
    assert!(delivery.ack().await);
    broker.delete(&queue.name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_a_stranger_hears_nothing() {
    let rogue = RabbitBroker::start(&over_tls("TEST_STRANGER_CA_FILE")).unwrap();
    let queue = queue();
    let refused = rogue.declare(&queue).await;
    assert!(
        matches!(&refused, Err(BrokerError::Unavailable(why)) if why.to_lowercase().contains("certificate")),
        "{refused:?}"
    );
    assert_eq!(broker().depth(&queue.name).await.unwrap(), None);
    assert_eq!(rogue.publish(&Address::Queue(queue.name.clone()), message("a")).await, Published::Unknown);
}
