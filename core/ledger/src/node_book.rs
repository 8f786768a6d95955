//! The half of the ledger that admits nodes from outside.

use std::fmt;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::rows::{NodeCheck, NodeRecord};
use infera_types::ids::{AccountId, Digest, NodeId};
use infera_types::time::Timestamp;

/// Decides which nodes may connect to the broker from outside. [`super::NetworkBook::register_node`] registers them.
#[async_trait]
pub trait NodeBook: Send + Sync + fmt::Debug {
    /// Gives the account of an e-mail address, or of an id, the scope `fleet`, so that its nodes may connect to the broker. Returns
    /// none if no account was signed up under the address. Repeating the call changes nothing.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn allow_fleet(&self, email: &str, now: Timestamp) -> Result<Option<AccountId>, LedgerError>;

    /// Returns whether an account has the scope `fleet`.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn is_fleet(&self, account: &AccountId) -> Result<bool, LedgerError>;

    /// Admits the node that its runner calls `name`, if this secret entitles it, and then records `until` when.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn admit_node(
        &self,
        name: &str,
        secret: Digest,
        until: Timestamp,
    ) -> Result<NodeCheck, LedgerError>;

    /// Returns the nodes that are admitted until `now` or later and are not revoked.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn admitted(&self, now: Timestamp) -> Result<Vec<NodeId>, LedgerError>;

    /// Revokes a node for good; what it earned stays. Returns none if there is no such node. Repeating the call
    /// changes nothing.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn revoke_node(&self, node: &NodeId, now: Timestamp) -> Result<Option<NodeRecord>, LedgerError>;
}
