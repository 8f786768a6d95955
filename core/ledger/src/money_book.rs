//! The half of the ledger that says what models cost and what keys and accounts may spend. What a job costs is reserved where
//! it is accepted ([`crate::JobIntake::accept`]) and settled where it ends ([`crate::JobOwner::settle`]).

use std::collections::HashMap;
use std::fmt;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::rows::{AccountSpending, AccountTerms, ModelPrice, Spending};
use infera_types::ids::{AccountId, KeyId, ModelName};
use infera_types::money::Price;
use infera_types::time::Timestamp;

/// What models cost. Jobs keep the price at which they were accepted.
#[async_trait]
pub trait PriceBook: Send + Sync + fmt::Debug {
    /// Sets the price of a model that the catalogue has. Returns whether the catalogue has the model.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn set_price(&self, model: &ModelName, price: Price) -> Result<bool, LedgerError>;

    /// Returns the models that aren't free, sorted by name.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn prices(&self) -> Result<Vec<ModelPrice>, LedgerError>;
}

/// What keys and accounts may spend, in each calendar month (UTC) in which jobs are accepted. A key's limit is set by
/// [`KeyBook::change_key`](crate::KeyBook::change_key).
#[async_trait]
pub trait SpendBook: Send + Sync + fmt::Debug {
    /// Changes the terms of the account of this address or id, and returns it; none if there is no such account. What is
    /// accepted already goes on.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn set_terms(&self, known_as: &str, terms: AccountTerms) -> Result<Option<AccountId>, LedgerError>;

    /// Returns what an account may spend, and spent in the month of `now`.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn spending(&self, account: &AccountId, now: Timestamp) -> Result<AccountSpending, LedgerError>;

    /// Returns what a key may spend, and what its purse spent in the month of `now`; nothing for an unknown key. A key and
    /// those that it was rotated to have one purse.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn key_spending(&self, id: &KeyId, now: Timestamp) -> Result<Spending, LedgerError>;

    /// Returns the same of at most `limit` keys of an account, those that [`KeyBook::keys`](crate::KeyBook::keys) lists.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn keys_spending(
        &self,
        account: &AccountId,
        limit: u32,
        now: Timestamp,
    ) -> Result<HashMap<KeyId, Spending>, LedgerError>;
}
