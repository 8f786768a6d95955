//! Keeps the catalogue, the epoch and the models' queues as the ledger has them.

use std::sync::Arc;
use std::time::Duration;

use infera_broker::Broker;
use infera_ledger::NetworkBook;
use infera_types::shutdown::Shutdown;

use super::catalogue::{Catalogue, Reading};
use super::queues::Queues;

/// Reads the ledger's catalogue again and again.
#[derive(Debug)]
pub(crate) struct Refresher {
    book: Arc<dyn NetworkBook>,
    catalogue: Arc<Catalogue>,
    queues: Queues,
    every: Duration,
}

impl Refresher {
    /// Shows in `catalogue` what it reads from `book` at intervals of `every`, and declares the models' queues at `broker`.
    pub(crate) fn new(
        book: Arc<dyn NetworkBook>,
        catalogue: Arc<Catalogue>,
        broker: Arc<dyn Broker>,
        every: Duration,
    ) -> Self {
        Self { book, catalogue, queues: Queues::new(broker), every }
    }

    /// Reads everything again. Whatever becomes of the queues, what was read is shown: jobs are accepted without a broker.
    pub(crate) async fn refresh(&mut self) {
        match Reading::take(&*self.book).await {
            Ok(reading) => {
                self.queues.see_to(reading.names()).await;
                self.catalogue.show(reading);
            }
            Err(error) => {
                tracing::warn!(%error, "catalogue and epoch could not be read; the last reading stays");
            }
        }
    }

    /// Refreshes until told to stop.
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
