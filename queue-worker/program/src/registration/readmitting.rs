//! Wraps the broker of a node whose queue may be gone: RabbitMQ deletes the queue after ten minutes without its node.
//! A gateway then declares it again under the same name, and the worker notices nothing.

use std::sync::Arc;

use async_trait::async_trait;
use infera_broker::{Address, Broker, BrokerError, Consumer, Fleeting, Message, Published, Queue, Sent};

use super::membership::Doorbell;

/// A broker that asks a gateway for the node's queue when the queue is gone.
#[derive(Debug)]
pub struct Readmitting {
    inner: Arc<dyn Broker>,
    doorbell: Doorbell,
}

impl Readmitting {
    /// Wraps `inner`, and rings `doorbell` when the queue is gone.
    #[must_use]
    pub fn new(inner: Arc<dyn Broker>, doorbell: Doorbell) -> Arc<Self> {
        Arc::new(Self { inner, doorbell })
    }
}

impl Fleeting for Readmitting {
    fn publish_fleeting(&self, address: &Address, message: Message) -> Sent {
        self.inner.publish_fleeting(address, message)
    }
}

#[async_trait]
impl Broker for Readmitting {
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.inner.declare(queue).await
    }

    async fn publish(&self, address: &Address, message: Message) -> Published {
        self.inner.publish(address, message).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        match self.inner.consume(queue, prefetch).await {
            Err(BrokerError::NoSuchQueue(name)) => {
                tracing::warn!(queue = name, "the node's queue is gone; asking a gateway for it");
                if !self.doorbell.ring().await {
                    return Err(BrokerError::Unavailable(format!(
                        "queue {name} is gone and no gateway declares it"
                    )));
                }
                // If the queue is gone again at once, the broker is at fault, and the node need not end.
                self.inner.consume(queue, prefetch).await.map_err(|error| match error {
                    BrokerError::NoSuchQueue(name) => {
                        BrokerError::Unavailable(format!("queue {name} doesn't stay"))
                    }
                    other => other,
                })
            }
            outcome => outcome,
        }
    }

    async fn depth(&self, queue: &str) -> Result<Option<u64>, BrokerError> {
        self.inner.depth(queue).await
    }

    async fn delete(&self, queue: &str) -> Result<(), BrokerError> {
        self.inner.delete(queue).await
    }
}
