//! The models with their prices and the present epoch, as they were last read from the ledger, so that no request waits for the ledger.
//! The models' queues at the broker are handled by `queues`; a catalogue entry is valid even while its queue doesn't
//! exist.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use infera_ledger::{CatalogueEntry, LedgerError, NetworkBook};
use infera_types::admission::{REMOVED_MODELS_MAX, RemovedModel};
use infera_types::ids::{Digest, ModelName};
use infera_types::money::Price;
use infera_types::time::Timestamp;

/// The most digests of a removed model that nodes are told; models have a handful.
const DIGESTS_MAX: usize = 8;

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

    /// Returns the models that were removed last, the latest first, each with those digests that no served model has: what nodes
    /// that still announce them are told.
    #[must_use]
    pub(crate) fn removed(&self) -> Vec<RemovedModel> {
        let reading = self.0.load();
        let (mut removed, served): (Vec<_>, Vec<_>) =
            reading.models.values().partition(|entry| entry.is_removed());
        removed.sort_by_key(|entry| (Reverse(entry.removed_ms), entry.name.clone()));
        let is_served = |digest: &Digest| served.iter().any(|entry| entry.digests.contains(digest));
        let told = removed.into_iter().map(|entry| {
            let digests = entry.digests.iter().filter(|digest| !is_served(digest)).copied();
            // A catalogue's mistake must not make the reply too long to be read.
            RemovedModel { name: entry.name.clone(), digests: digests.take(DIGESTS_MAX).collect() }
        });
        told.filter(|model| !model.digests.is_empty()).take(REMOVED_MODELS_MAX).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, digests: &[&str], removed: Option<u64>) -> (ModelName, Arc<CatalogueEntry>) {
        let name = ModelName::new(name);
        let entry = CatalogueEntry {
            name: name.clone(),
            digests: digests.iter().map(|text| Digest::of(text.as_bytes())).collect(),
            tokenizer: Digest::of(b"tokenizer"),
            context_max: 512,
            said_bytes_per_token: None,
            quantization: None,
            end_tokens: Vec::new(),
            reference_token_us: 1,
            bytes: None,
            created_ms: Timestamp::from_millis(0),
            removed_ms: removed.map(Timestamp::from_millis),
        };
        (name, Arc::new(entry))
    }

    #[test]
    fn nodes_are_told_of_what_was_removed_last_and_stands_for_no_other_name() {
        let catalogue = Catalogue::default();
        let many = (0..40).map(|number| entry(&format!("old-{number}"), &[&format!("o{number}")], Some(1)));
        let models = many.chain([
            entry("served", &["a", "b"], None),
            entry("renamed", &["a"], Some(9)),
            entry("gone", &["b", "c"], Some(7)),
            entry("gone-last", &["d"], Some(8)),
        ]);
        let models = models.collect();
        catalogue.show(Reading { models, prices: HashMap::new(), epoch: None });
        let told = catalogue.removed();
        assert_eq!(told.len(), REMOVED_MODELS_MAX);
        let expected = |name: &str, digest: &str| RemovedModel {
            name: ModelName::new(name),
            digests: vec![Digest::of(digest.as_bytes())],
        };
        assert_eq!(told[..2], [expected("gone-last", "d"), expected("gone", "c")]);
    }
}
