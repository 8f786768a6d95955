//! Shows the node's runner the node's state: before it is let in, while it works, and between two stays.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use infera_broker_rabbitmq::Token;
use infera_telemetry::readiness::{Readiness, Watched};
use infera_worker::WorkerHandle;
use infera_worker::vitals::{Snapshot, decide};
use tokio::sync::watch;
use tokio::time::Instant;

/// One stay in the network.
#[derive(Debug)]
struct Stay {
    worker: WorkerHandle,
    /// The token by which the broker lets the node in, and the ones after it.
    tokens: watch::Receiver<Token>,
}

/// The present stay; none before the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Present(Arc<Mutex<Option<Stay>>>);

impl Present {
    /// Notes that a stay begins.
    pub(super) fn begin(&self, worker: WorkerHandle, tokens: watch::Receiver<Token>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Stay { worker, tokens });
    }

    fn look(&self) -> Option<Snapshot> {
        let present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stay = present.as_ref()?;
        Some(stay.worker.look(stay.tokens.borrow().expires > Instant::now()))
    }
}

#[async_trait]
impl Watched for Present {
    fn observe(&self) {
        let present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stay) = present.as_ref() {
            stay.worker.observe();
        }
    }

    async fn readiness(&self) -> Readiness {
        let outside = Snapshot { engine: false, consuming: false, draining: false, token: false };
        decide(self.look().unwrap_or(outside))
    }
}
