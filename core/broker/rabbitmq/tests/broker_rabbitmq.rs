//! Tests every promise of the broker's seam on a RabbitMQ server, with classic queues and again with quorum queues,
//! and what happens when the line to the server is cut, closed or dead.
//!
//! `TEST_RABBITMQ_URL` says where the server is; the variables beside it in `data/services.env` say how nodes log in
//! and what TLS needs. Queues have names of their own and are deleted at the end of their check.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a check fails by panicking")]

#[path = "broker_rabbitmq/fleeting.rs"]
mod fleeting;
#[path = "broker_rabbitmq/line.rs"]
mod line;
#[path = "broker_rabbitmq/outages.rs"]
mod outages;
#[path = "broker_rabbitmq/queues.rs"]
mod queues;
#[path = "hostile_node/signing.rs"]
mod signing;
#[path = "broker_rabbitmq/tls.rs"]
mod tls;
#[path = "broker_rabbitmq/tokens.rs"]
mod tokens;

use std::sync::Arc;

use async_trait::async_trait;
use infera_broker::{Address, Broker, BrokerError, Consumer, Fleeting, Message, Published, Queue, Sent};
use infera_broker_rabbitmq::{Config, RabbitBroker};
use infera_types::secret::Secret;

/// Returns the services' variable of this name.
fn named(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} isn't set; `make services` starts the servers and tells their addresses")
    })
}

fn url() -> String {
    named("TEST_RABBITMQ_URL")
}

fn broker() -> Arc<dyn Broker> {
    RabbitBroker::start(&Config { url: Secret::new(url()), ..Config::default() }).unwrap()
}

/// The same broker, which declares all shared queues as replicated.
#[derive(Debug)]
struct Replicating(Arc<dyn Broker>);

impl Fleeting for Replicating {
    fn publish_fleeting(&self, address: &Address, message: Message) -> Sent {
        self.0.publish_fleeting(address, message)
    }
}

#[async_trait]
impl Broker for Replicating {
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        let replicated = queue.replicated || !queue.exclusive;
        self.0.declare(&Queue { replicated, ..queue.clone() }).await
    }

    async fn publish(&self, address: &Address, message: Message) -> Published {
        self.0.publish(address, message).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        self.0.consume(queue, prefetch).await
    }

    async fn depth(&self, queue: &str) -> Result<Option<u64>, BrokerError> {
        self.0.depth(queue).await
    }

    async fn delete(&self, queue: &str) -> Result<(), BrokerError> {
        self.0.delete(queue).await
    }
}

mod classic {
    use super::*;

    infera_conformance::broker_conformance!(async { broker() });
}

mod quorum {
    use super::*;

    infera_conformance::broker_conformance!(async { Arc::new(Replicating(broker())) as Arc<dyn Broker> });
}
