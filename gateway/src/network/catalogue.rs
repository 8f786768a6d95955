//! What model names mean, and the present epoch: read from the ledger now and then, so that no request waits for
//! either. Models' queues at the broker are another matter (`queues`): what was read is true without them.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use infera_ledger::{CatalogueEntry, LedgerError, NetworkBook};
use infera_types::ids::{Digest, ModelName};
use infera_types::time::Timestamp;

/// Holds what is known, all of it from one reading.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    models: HashMap<ModelName, Arc<CatalogueEntry>>,
    epoch: Option<u64>,
}

/// Holds the last reading.
#[derive(Debug, Default)]
pub(crate) struct Catalogue(ArcSwap<Reading>);

/// Says why the catalogue or the epoch couldn't be read. A retry is safe.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The ledger is at fault.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The operating system is at fault.
    #[error("no randomness from the operating system: {0}")]
    Randomness(String),
}

/// Returns the present epoch's number, made if there is none.
///
/// # Errors
/// [`CatalogueError`].
pub(crate) async fn present_epoch(network: &dyn NetworkBook) -> Result<u64, CatalogueError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| CatalogueError::Randomness(error.to_string()))?;
    Ok(network.epoch(None, Digest::from_bytes(secret), Timestamp::now()).await?.number)
}

impl Reading {
    /// Reads what the ledger says now.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub(crate) async fn take(network: &dyn NetworkBook) -> Result<Self, CatalogueError> {
        let epoch = present_epoch(network).await?;
        let entries = network.catalogue().await?.into_iter();
        let models = entries.map(|entry| (entry.name.clone(), Arc::new(entry))).collect();
        Ok(Self { models, epoch: Some(epoch) })
    }

    /// Returns the models that it names, in no order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &ModelName> {
        self.models.keys()
    }
}

impl Catalogue {
    /// Returns the entry of a name.
    #[must_use]
    pub(crate) fn model(&self, name: &str) -> Option<Arc<CatalogueEntry>> {
        let reading = self.0.load();
        reading.models.get(&ModelName::new(name)).cloned()
    }

    /// Returns all entries, by name.
    #[must_use]
    pub(crate) fn models(&self) -> Vec<Arc<CatalogueEntry>> {
        let reading = self.0.load();
        let mut models: Vec<_> = reading.models.values().cloned().collect();
        models.sort_by(|one, other| one.name.cmp(&other.name));
        models
    }

    /// Returns the present epoch; none before the first reading.
    #[must_use]
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.0.load().epoch
    }

    /// Shows this reading from now on.
    pub(crate) fn show(&self, reading: Reading) {
        self.0.store(Arc::new(reading));
    }
}
