//! Queues that are read for as long as the tenure lasts, whatever happens to the broker meanwhile.

use std::time::Duration;

use infera_broker::{Consumer, Queue};

use crate::tenure::Tenure;

/// Before trying again what the broker refused, and before reading again what went away.
pub(crate) const RETRY: Duration = Duration::from_millis(250);

/// A consumer of `queue`, which is made if it isn't there. Tries until there is one.
pub(crate) async fn consume(tenure: &Tenure, queue: &Queue, prefetch: u16) -> Box<dyn Consumer> {
    let broker = &tenure.seams.broker;
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
