//! The node as whoever runs it sees it: before it is let in, while it works, and between two stays.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use infera_broker_rabbitmq::Token;
use infera_telemetry::readiness::{Readiness, Watched};
use tokio::sync::watch;
use tokio::time::Instant;

use infera_worker::WorkerHandle;
use infera_worker::vitals::{Snapshot, decide};

/// One stay: its worker, and the token that it is let in by.
type Stay = (WorkerHandle, watch::Receiver<Token>);

/// What is known of the present stay; nothing before the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Present(Arc<Mutex<Option<Stay>>>);

impl Present {
    /// A stay begins.
    pub(super) fn begin(&self, worker: WorkerHandle, tokens: watch::Receiver<Token>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((worker, tokens));
    }

    fn look(&self) -> Option<Snapshot> {
        let present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (worker, tokens) = present.as_ref()?;
        Some(worker.look(tokens.borrow().expires > Instant::now()))
    }
}

#[async_trait]
impl Watched for Present {
    fn observe(&self) {
        let present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((worker, _)) = present.as_ref() {
            worker.observe();
        }
    }

    async fn readiness(&self) -> Readiness {
        let outside = Snapshot { engine: false, consuming: false, draining: false, token: false };
        decide(self.look().unwrap_or(outside))
    }
}
