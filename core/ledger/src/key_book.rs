//! The half of the ledger by which accounts and operators manage API keys.

use std::fmt;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::money_book::SpendBook;
use crate::rows::{Added, FoundKey, KeyChange, KeyView, NewKey, Rotated, Rotation, UsageRow};
use infera_types::ids::{AccountId, Digest, KeyId};
use infera_types::time::Timestamp;

/// Ends keys, for good or for a while, and finds them by their hashes, ended or not. A key or an account that is blocked, and a key that is revoked, is found by
/// [`super::AccountBook::key`] no more; what was accepted before goes on.
#[async_trait]
pub trait KeyEnds: Send + Sync + fmt::Debug {
    /// Revokes a key for good and returns it; none if there is no such id. The first time of revocation stays.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn end_key(&self, id: &KeyId, now: Timestamp) -> Result<Option<KeyView>, LedgerError>;

    /// Blocks a key since `since`, or unblocks it with none, and returns it; none if there is no such id.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn block_key(&self, id: &KeyId, since: Option<Timestamp>) -> Result<Option<KeyView>, LedgerError>;

    /// Blocks an account since `since`, or unblocks it with none: all its keys, and the admission of its nodes. Returns
    /// whether there is such an account.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn block_account(&self, account: &AccountId, since: Option<Timestamp>)
    -> Result<bool, LedgerError>;

    /// Returns a key by its hash, or why it opens nothing; none if it is unknown. An expired key counts as valid and has its expiry.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn find_key(&self, hash: Digest) -> Result<Option<FoundKey>, LedgerError>;
}

/// Finds an account, and what it used.
#[async_trait]
pub trait AccountLook: Send + Sync + fmt::Debug {
    /// Returns what an account's keys used from the day `from` to the day `to`, both included, ordered by day, key and model;
    /// at most `limit` rows.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn usage(
        &self,
        account: &AccountId,
        from: u64,
        to: u64,
        limit: u32,
    ) -> Result<Vec<UsageRow>, LedgerError>;

    /// Returns the account that signed up under this address.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn account_of(&self, email: &str) -> Result<Option<AccountId>, LedgerError>;
}

/// Lists and changes keys by their public ids. [`super::AccountBook::key`] finds the valid ones by their hashes.
#[async_trait]
pub trait KeyBook: KeyEnds + AccountLook + SpendBook {
    /// Stores a key, unless its account has `live_max` keys that are neither revoked nor expired. A key with the scope
    /// `fleet` gives its account that scope too. Storing the same key twice stores it once.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn add_key(&self, key: &NewKey, live_max: u32, now: Timestamp) -> Result<Added, LedgerError>;

    /// Returns at most `limit` keys of an account, newest first, whatever their state.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn keys(&self, account: &AccountId, limit: u32) -> Result<Vec<KeyView>, LedgerError>;

    /// Returns one key; none if there is no such id.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn key_by_id(&self, id: &KeyId) -> Result<Option<KeyView>, LedgerError>;

    /// Changes a key and returns it; none if there is no such key or it is revoked.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn change_key(&self, id: &KeyId, change: &KeyChange) -> Result<Option<KeyView>, LedgerError>;

    /// Replaces a key, in one commit: stores its successor, with what it takes over, and lets the old key expire. Nothing is
    /// stored unless it is [`Rotated::Done`]. The same call again changes nothing and returns the same.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn rotate_key(&self, rotation: &Rotation, now: Timestamp) -> Result<Rotated, LedgerError>;
}
