//! Wraps any broker and measures its publishes: counts by kind and outcome, and times. It changes nothing on the way.
//! Fleeting messages are counted apart and not timed, because sending one waits for nothing.

use std::sync::Arc;

use async_trait::async_trait;
use metrics::{counter, histogram};
use tokio::time::Instant;

use super::{Address, Broker, BrokerError, Consumer, Fleeting, Message, Published, Queue, Sent};
use infera_telemetry::metrics::{BROKER_FLEETING, BROKER_PUBLISH, BROKER_PUBLISHES};
use infera_types::messages::kind_label;

/// A broker whose publishes are measured; see the module.
#[derive(Debug)]
pub struct MeasuredBroker(Arc<dyn Broker>);

impl MeasuredBroker {
    /// Wraps `broker`.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>) -> Arc<Self> {
        Arc::new(Self(broker))
    }
}

impl Fleeting for MeasuredBroker {
    fn publish_fleeting(&self, address: &Address, message: Message) -> Sent {
        let kind = kind_label(&message.kind);
        let outcome = self.0.publish_fleeting(address, message);
        counter!(BROKER_FLEETING, "kind" => kind, "outcome" => outcome.word()).increment(1);
        outcome
    }
}

#[async_trait]
impl Broker for MeasuredBroker {
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.0.declare(queue).await
    }

    async fn publish(&self, address: &Address, message: Message) -> Published {
        let (kind, begun) = (kind_label(&message.kind), Instant::now());
        let outcome = self.0.publish(address, message).await;
        histogram!(BROKER_PUBLISH).record(begun.elapsed());
        counter!(BROKER_PUBLISHES, "kind" => kind, "outcome" => outcome.word()).increment(1);
        outcome
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

#[cfg(test)]
mod tests {
    use infera_telemetry::metrics::ALL;
    use strum::VariantArray as _;

    use super::*;

    #[test]
    fn outcomes_have_the_words_that_the_metric_names() {
        let words: Vec<_> = Published::VARIANTS.iter().map(|outcome| outcome.word()).collect();
        let metric = ALL.iter().find(|metric| metric.name == BROKER_PUBLISHES).unwrap();
        assert_eq!(words, ["confirmed", "full", "unroutable", "refused", "unknown"]);
        assert!(metric.help.contains(&words.join(", ")), "{}", metric.help);
        let words: Vec<_> = Sent::VARIANTS.iter().map(|outcome| outcome.word()).collect();
        let metric = ALL.iter().find(|metric| metric.name == BROKER_FLEETING).unwrap();
        assert_eq!(words, ["handed_on", "dropped"]);
        assert!(metric.help.contains(&words.join(", ")), "{}", metric.help);
    }
}
