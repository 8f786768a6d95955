//! The models with their prices and the present epoch, as they were last read from the ledger, so that no request waits for the ledger.
//! The models' queues at the broker are handled by `queues`; a catalogue entry is valid even while its queue doesn't
//! exist.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use infera_ledger::{CatalogueEntry, LedgerError, NetworkBook};
use infera_types::ids::{Digest, ModelName};
use infera_types::money::Price;
use infera_types::time::Timestamp;

/// The result of one reading of the ledger.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    models: HashMap<ModelName, Arc<CatalogueEntry>>,
    prices: HashMap<ModelName, Price>,
    epoch: Option<u64>,
}

/// The catalogue, which shows the latest reading.
#[derive(Debug, Default)]
pub(crate) struct Catalogue(ArcSwap<Reading>);

/// The reason why the catalogue or the epoch could not be read. A retry is safe.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The ledger is at fault.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The operating system is at fault.
    #[error("no randomness from the operating system: {0}")]
    Randomness(String),
}

/// Returns the number of the present epoch, and makes an epoch if there is none.
///
/// # Errors
/// [`CatalogueError`].
pub(crate) async fn present_epoch(network: &dyn NetworkBook) -> Result<u64, CatalogueError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| CatalogueError::Randomness(error.to_string()))?;
    Ok(network.epoch(None, Digest::from_bytes(secret), Timestamp::now()).await?.number)
}

impl Reading {
    /// Reads the catalogue and the epoch from the ledger.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub(crate) async fn take(network: &dyn NetworkBook) -> Result<Self, CatalogueError> {
        let epoch = present_epoch(network).await?;
        let entries = network.catalogue().await?.into_iter();
        let models = entries.map(|entry| (entry.name.clone(), Arc::new(entry))).collect();
        let prices = network.prices().await?.into_iter().map(|priced| (priced.model, priced.price)).collect();
        Ok(Self { models, prices, epoch: Some(epoch) })
    }

    /// Returns the names of all models in this reading, in no order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &ModelName> {
        self.models.keys()
    }
}

impl Catalogue {
    /// Returns the entry of the model `name`.
    #[must_use]
    pub(crate) fn model(&self, name: &str) -> Option<Arc<CatalogueEntry>> {
        let reading = self.0.load();
        reading.models.get(&ModelName::new(name)).cloned()
    }

    /// Returns the price of the model `name`; none if it is free.
    #[must_use]
    pub(crate) fn price(&self, name: &ModelName) -> Option<Price> {
        self.0.load().prices.get(name).copied()
    }

    /// Returns all entries, in the order of their names.
    #[must_use]
    pub(crate) fn models(&self) -> Vec<Arc<CatalogueEntry>> {
        let reading = self.0.load();
        let mut models: Vec<_> = reading.models.values().cloned().collect();
        models.sort_by(|one, other| one.name.cmp(&other.name));
        models
    }

    /// Returns the number of the present epoch, or none before the first reading.
    #[must_use]
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.0.load().epoch
    }

    /// Replaces the reading that is shown.
    pub(crate) fn show(&self, reading: Reading) {
        self.0.store(Arc::new(reading));
    }
}
