//! Reads a queue that may not be there: declares it and consumes it, again and again until there is a consumer.

use std::time::Duration;

use crate::{Broker, BrokerError, Consumer, Queue};

/// How long to wait before what the broker refused is tried again, and before a queue is read again that went away: short
/// beside a job's time, long beside a round trip.
pub const RETRY: Duration = Duration::from_millis(250);

/// Returns a consumer of `queue`, which is declared first: a declaration of what is there changes nothing.
///
/// # Errors
/// As [`Broker::declare`] and [`Broker::consume`].
pub async fn declare_and_consume(
    broker: &dyn Broker,
    queue: &Queue,
    prefetch: u16,
) -> Result<Box<dyn Consumer>, BrokerError> {
    broker.declare(queue).await?;
    broker.consume(&queue.name, prefetch).await
}

/// Returns a consumer of `queue`, and tries until there is one. The queue is declared at each try, since it may go away while
/// the broker is.
pub async fn until_consuming(broker: &dyn Broker, queue: &Queue, prefetch: u16) -> Box<dyn Consumer> {
    loop {
        match declare_and_consume(broker, queue, prefetch).await {
            Ok(consumer) => return consumer,
            Err(error) => {
                tracing::warn!(queue = queue.name, %error, "a queue can't be consumed; trying again")
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBroker;
    use crate::{Address, Published, topology};

    #[tokio::test]
    async fn a_queue_that_is_not_there_is_declared_and_read() {
        let broker = MemoryBroker::new();
        let queue = topology::parked();
        let mut consumer = until_consuming(&*broker, &queue, 1).await;
        let message = crate::Message {
            id: "1".to_owned(),
            kind: "job".to_owned(),
            body: bytes::Bytes::new(),
            ttl_ms: None,
            trace: None,
        };
        assert_eq!(broker.publish(&Address::Queue(queue.name), message).await, Published::Confirmed);
        assert_eq!(consumer.next().await.map(|delivery| delivery.message.id), Some("1".to_owned()));
    }

    /// While another process holds the queue it can't be consumed; the trying ends when that process lets go.
    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_taken_is_waited_for() {
        let broker = MemoryBroker::new();
        let queue = topology::completions(&infera_types::ids::GatewayId::fresh());
        let first = until_consuming(&*broker, &queue, 1).await;
        let second = until_consuming(&*broker, &queue, 1);
        tokio::pin!(second);
        assert!(tokio::time::timeout(RETRY * 3, second.as_mut()).await.is_err(), "taken");
        drop(first);
        second.await;
    }
}
