//! Keeps messages of kinds and versions that a program doesn't know where an operator finds them.

use infera_types::envelope::Message;

use crate::{Address, Broker, Published, topology};

/// Publishes a message to the queue of parked ones, which is declared if it is not there. The message waits for an operator,
/// however short its own time was.
pub async fn park(broker: &dyn Broker, message: &Message) -> Published {
    let queue = topology::parked();
    let address = Address::Queue(queue.name.clone());
    let published = broker.publish(&address, lasting(message)).await;
    if published == Published::Unroutable && broker.declare(&queue).await.is_ok() {
        return broker.publish(&address, lasting(message)).await;
    }
    published
}

/// Returns the message without a time after which the broker drops it.
#[must_use]
pub fn lasting(message: &Message) -> Message {
    Message { ttl_ms: None, ..message.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBroker;

    #[tokio::test]
    async fn a_message_is_kept_where_no_queue_was_and_longer_than_it_wanted() {
        let broker = MemoryBroker::new();
        let message = Message {
            id: "1".to_owned(),
            kind: "tomorrow".to_owned(),
            body: bytes::Bytes::from_static(b"\x09{}"),
            ttl_ms: Some(1),
            trace: None,
        };
        assert_eq!(park(&*broker, &message).await, Published::Confirmed);
        assert_eq!(park(&*broker, &message).await, Published::Confirmed);
        let parked = topology::parked().name;
        assert_eq!(broker.depth(&parked).await.ok().flatten(), Some(2));
        let mut consumer = broker.consume(&parked, 1).await.expect("a consumer");
        let kept = consumer.next().await.expect("a message").message;
        assert_eq!((kept.ttl_ms, kept.body), (None, message.body));
    }
}
