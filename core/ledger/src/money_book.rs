//! The half of the ledger that says what models cost and what keys and accounts may spend. What a job costs is reserved where
//! it is accepted ([`crate::JobIntake::accept`]) and settled where it ends ([`crate::JobOwner::settle`]).

use std::fmt;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::rows::{AccountSpending, AccountTerms, Inheritance, ModelPrice};
use infera_types::ids::{AccountId, KeyId, ModelName};
use infera_types::money::Price;
use infera_types::time::Timestamp;

/// What models cost. Jobs keep the price at which they were accepted.
#[async_trait]
pub trait PriceBook: Send + Sync + fmt::Debug {
    /// Sets the price of a model that the catalogue has, or takes it away where it is free. Returns whether the catalogue has
    /// the model.
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

/// What keys and accounts may spend, in each calendar month (UTC) in which jobs are accepted.
#[async_trait]
pub trait SpendBook: Send + Sync + fmt::Debug {
    /// Changes the terms of the account of this address or id, and returns it; none if there is no such account. What is
    /// accepted already goes on.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn set_terms(&self, known_as: &str, terms: AccountTerms) -> Result<Option<AccountId>, LedgerError>;

    /// Sets the limit of a key, in billionths, or takes it away. Returns whether there is such a key.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn limit_key(&self, id: &KeyId, limit: Option<u64>) -> Result<bool, LedgerError>;

    /// Gives a key that was just made the limit of the key that it replaces, and counts as spent by it what that key spent
    /// and reserved in this month, so that replacing a key gains nothing. It is called once for a successor.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn inherit_limit(&self, inheritance: &Inheritance, now: Timestamp) -> Result<(), LedgerError>;

    /// Returns what an account and its keys may spend, and spent in the month of `now`.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn spending(&self, account: &AccountId, now: Timestamp) -> Result<AccountSpending, LedgerError>;
}
