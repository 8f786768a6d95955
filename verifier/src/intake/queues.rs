//! Opens consumers of queues that are read for as long as the tenure lasts, whatever happens to the broker meanwhile.

use std::time::Duration;

use infera_broker::{Broker, Consumer, Queue};

/// How long until the broker is asked again for what it refused, and until a queue is read again that went away.
pub(super) const RETRY: Duration = Duration::from_millis(250);

/// Bounds the unsettled deliveries of a queue of replicas. Each is settled as soon as it is routed, so this only fills the pipe.
pub(super) const REPLICAS_PREFETCH: u16 = 256;

/// Opens a consumer of `queue`, which is declared if it isn't there. Tries until it succeeds.
pub(super) async fn consume(broker: &dyn Broker, queue: &Queue, prefetch: u16) -> Box<dyn Consumer> {
    loop {
        let consumer = match broker.declare(queue).await {
            Ok(()) => broker.consume(&queue.name, prefetch).await,
            Err(error) => Err(error),
        };
        match consumer {
            Ok(consumer) => return consumer,
            Err(error) => tracing::warn!(queue = queue.name, %error, "can't consume; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
