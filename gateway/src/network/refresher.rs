//! Keeps the catalogue, the epoch and the models' queues in step with the ledger.

use std::sync::Arc;
use std::time::Duration;

use infera_broker::Broker;
use infera_ledger::NetworkBook;
use infera_types::shutdown::Shutdown;

use super::catalogue::{Catalogue, Reading};
use super::queues::Queues;

/// Reloads the ledger's catalogue at intervals.
#[derive(Debug)]
pub(crate) struct Refresher {
    book: Arc<dyn NetworkBook>,
    catalogue: Arc<Catalogue>,
    queues: Queues,
    every: Duration,
}

impl Refresher {
    /// Makes a refresher that reads `book` at intervals of `every`, shows the result in `catalogue`, and declares the
    /// models' queues at `broker`.
    pub(crate) fn new(
        book: Arc<dyn NetworkBook>,
        catalogue: Arc<Catalogue>,
        broker: Arc<dyn Broker>,
        every: Duration,
    ) -> Self {
        Self { book, catalogue, queues: Queues::new(broker), every }
    }

    /// Reads the ledger again. The result is shown even if queues can't be declared, because jobs are accepted
    /// without a broker.
    pub(crate) async fn refresh(&mut self) {
        match Reading::take(&*self.book).await {
            Ok(reading) => {
                self.queues.see_to(reading.names()).await;
                self.catalogue.show(reading);
            }
            Err(error) => {
                tracing::warn!(%error, "catalogue and epoch could not be read; the last reading stays in use");
            }
        }
    }

    /// Refreshes until `stop`.
    pub(crate) async fn run(mut self, stop: Shutdown) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.every) => {}
            }
            self.refresh().await;
        }
    }
}
