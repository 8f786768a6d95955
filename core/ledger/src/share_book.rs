//! The half of the ledger in which an operator says how accounts share the network.

use std::fmt;

use async_trait::async_trait;

use crate::error::LedgerError;
use infera_types::ids::{AccountId, Digest};
use infera_types::time::Timestamp;

/// How accounts share the network. What is said here shows in [`crate::KeyRecord`].
#[async_trait]
pub trait ShareBook: Send + Sync + fmt::Debug {
    /// Records that the account of this e-mail address, or of this id, is proven, so that its jobs are counted under a share of their
    /// own, and returns it; none if there is no such account. The first time of proof stays.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn prove(&self, email: &str, now: Timestamp) -> Result<Option<AccountId>, LedgerError>;

    /// Sets the weight of the share of the account of this e-mail address, or of this id, and returns the account; none if there is no
    /// such account. A weight of 0 counts as 1.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn weigh(&self, email: &str, weight: u32) -> Result<Option<AccountId>, LedgerError>;

    /// Gives a key the right to the tier `priority`, or takes it away. Returns whether the key is valid; an unknown or
    /// revoked key is not changed.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn allow_priority(&self, hash: Digest, is_allowed: bool) -> Result<bool, LedgerError>;
}
