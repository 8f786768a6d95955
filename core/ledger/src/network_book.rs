//! The half of the ledger that knows the network: its models and nodes.

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::money_book::PriceBook;
use crate::rows::{CatalogueEntry, Epoch, NewNode, NodeRecord, Registered};
use infera_types::ids::Digest;
use infera_types::time::Timestamp;

/// The network's records: the models by name and their prices, the nodes, and the epoch's secret.
#[async_trait]
pub trait NetworkBook: PriceBook {
    /// Returns the catalogue, sorted by name.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn catalogue(&self) -> Result<Vec<CatalogueEntry>, LedgerError>;

    /// Adds or replaces one entry.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn list_model(&self, entry: &CatalogueEntry) -> Result<(), LedgerError>;

    /// Registers a node under the name that its runner chose, or finds it again if the secret is the same.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn register_node(&self, node: &NewNode, now: Timestamp) -> Result<Registered, LedgerError>;

    /// Returns all nodes that are not revoked.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn nodes(&self) -> Result<Vec<NodeRecord>, LedgerError>;

    /// Returns the epoch with this number, or with `None` the present one (made with `fresh_secret` if there is
    /// none).
    ///
    /// # Errors
    /// [`LedgerError`]; an unknown number is [`LedgerError::Row`].
    async fn epoch(
        &self,
        number: Option<u64>,
        fresh_secret: Digest,
        now: Timestamp,
    ) -> Result<Epoch, LedgerError>;
}
