//! What the ledger says about the network, kept in memory and read again each second, so that no draw waits for a
//! read: the catalogue, who is registered, how nodes stand, and epochs' secrets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use infera_ledger::{CatalogueEntry, LedgerError, NetworkBook, NodeRecord, NodeStanding};
use infera_types::ids::{Digest, ModelName, NodeId};
use infera_types::time::Timestamp;

use crate::Seams;
use crate::fleet::Profiles;

/// Epochs last days; more than this in use at once is a mistake somewhere, and only costs a read.
const EPOCHS_MAX: usize = 64;

/// One reading of the book.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// What names mean.
    pub(crate) catalogue: HashMap<ModelName, Arc<CatalogueEntry>>,
    /// Registered nodes that are not revoked.
    pub(crate) nodes: HashMap<NodeId, NodeRecord>,
    /// How each node stands for each model.
    pub(crate) standings: HashMap<ModelName, HashMap<NodeId, NodeStanding>>,
    /// What those records are worth, for every model of the catalogue.
    pub(crate) profiles: HashMap<ModelName, Profiles>,
}

impl Page {
    /// How a node stands for a model; none while it has no verdict.
    pub(crate) fn standing(&self, node: &NodeId, model: &ModelName) -> Option<&NodeStanding> {
        self.standings.get(model)?.get(node)
    }
}

/// The last reading, and the epochs met so far.
#[derive(Debug, Default)]
pub(crate) struct Book {
    page: RwLock<Arc<Page>>,
    epochs: Mutex<HashMap<u64, Digest>>,
}

impl Book {
    /// The last reading.
    pub(crate) fn page(&self) -> Arc<Page> {
        Arc::clone(&self.page.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads everything again. On an error the old page stays.
    pub(crate) async fn refresh(&self, seams: &Seams) -> Result<(), LedgerError> {
        let mut page = Page::default();
        for entry in seams.network.catalogue().await? {
            page.catalogue.insert(entry.name.clone(), Arc::new(entry));
        }
        for node in seams.network.nodes().await? {
            page.nodes.insert(node.id.clone(), node);
        }
        for standing in seams.standing.standings().await? {
            let of_model = page.standings.entry(standing.model.clone()).or_default();
            of_model.insert(standing.node.clone(), standing);
        }
        let now = Timestamp::now();
        for model in page.catalogue.keys() {
            page.profiles.insert(model.clone(), Profiles::of(page.standings.get(model), now));
        }
        *self.page.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(page);
        Ok(())
    }

    /// The secret of epoch `number`, which never changes.
    pub(crate) async fn epoch_secret(
        &self,
        network: &dyn NetworkBook,
        number: u64,
    ) -> Result<Digest, LedgerError> {
        let known = self.epochs.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied();
        if let Some(secret) = known {
            return Ok(secret);
        }
        // A fresh secret is only used where no number is asked for.
        let unused = Digest::from_bytes([0; 32]);
        let epoch = network.epoch(Some(number), unused, Timestamp::now()).await?;
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if epochs.len() >= EPOCHS_MAX {
            epochs.clear();
        }
        epochs.insert(number, epoch.secret);
        Ok(epoch.secret)
    }
}
