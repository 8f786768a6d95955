//! Tells gateways what was released: at most one message a tick to each, and the first at once.

use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Broker, topology};
use infera_types::frames::{Delta, DeltasFrame};
use infera_types::ids::{GatewayId, VerifierId};
use infera_types::wire::{MESSAGE_SIZE_MAX_BYTES, Wire as _};

use super::Streams;

/// The pause between two messages to a gateway: a reader sees no difference to none, and a message costs the broker 0.1 ms.
const TICK: Duration = Duration::from_millis(30);

/// The most bytes of text and tokens in one message, as JSON writes them at most: half of what the broker takes.
const FRAME_MAX_BYTES: usize = MESSAGE_SIZE_MAX_BYTES / 2;

/// Sends deltas.
pub(crate) struct Teller {
    /// Signs the messages.
    pub(crate) verifier: VerifierId,
    /// What is told.
    pub(crate) streams: Arc<Streams>,
    /// Carries the messages.
    pub(crate) broker: Arc<dyn Broker>,
}

impl Teller {
    /// Tells until the tenure ends. What the broker drops is asked for again by its gateway.
    pub(crate) async fn run(self) {
        loop {
            self.streams.news().await;
            for (gateway, deltas) in self.streams.untold() {
                self.tell(&gateway, deltas);
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn tell(&self, gateway: &GatewayId, deltas: Vec<Delta>) {
        let (mut some, mut bytes) = (Vec::new(), 0);
        for delta in deltas {
            let own = weight_bytes(&delta);
            if bytes + own > FRAME_MAX_BYTES && !some.is_empty() {
                self.send(gateway, std::mem::take(&mut some));
                bytes = 0;
            }
            bytes += own;
            some.push(delta);
        }
        self.send(gateway, some);
    }

    fn send(&self, gateway: &GatewayId, deltas: Vec<Delta>) {
        let frame = DeltasFrame { verifier: self.verifier.clone(), deltas };
        let message = frame.to_message(self.verifier.as_str());
        let _ = self.broker.publish_fleeting(&topology::deltas_to(gateway), message);
    }
}

/// Returns the most bytes that a delta takes in JSON: a control character is written as six, a token as eleven.
fn weight_bytes(delta: &Delta) -> usize {
    128 + 6 * delta.text.len() + 11 * delta.tokens.len()
}
