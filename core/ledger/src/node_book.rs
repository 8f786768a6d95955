//! The half of the ledger that says which nodes may come in.

use std::fmt;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::rows::{NodeCheck, NodeRecord};
use infera_types::ids::{AccountId, Digest, NodeId};
use infera_types::time::Timestamp;

/// Which nodes may come in from outside, over the broker itself. Registering them is [`super::NetworkBook::register_node`].
#[async_trait]
pub trait NodeBook: Send + Sync + fmt::Debug {
    /// Gives the account of an e-mail address the scope `fleet`: its nodes may speak to the broker themselves. None: no
    /// account was signed up under it. Again, it changes nothing.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn allow_fleet(&self, email: &str, now: Timestamp) -> Result<Option<AccountId>, LedgerError>;

    /// Whether an account has the scope `fleet`.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn is_fleet(&self, account: &AccountId) -> Result<bool, LedgerError>;

    /// Lets the node in that its runner calls `name`, if it may come in with this secret; `until` when is on record then.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn admit_node(
        &self,
        name: &str,
        secret: Digest,
        until: Timestamp,
    ) -> Result<NodeCheck, LedgerError>;

    /// The nodes that were let in until `now` or later and are not revoked.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn admitted(&self, now: Timestamp) -> Result<Vec<NodeId>, LedgerError>;

    /// Shuts a node out for good; what it earned stays. None: there is no such node. Again, it changes nothing.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn revoke_node(&self, node: &NodeId, now: Timestamp) -> Result<Option<NodeRecord>, LedgerError>;
}
