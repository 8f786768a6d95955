//! What models cost, and what keys and accounts may spend.

use std::collections::HashMap;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row, params};

use super::SqliteLedger;
use super::values::{Numbered as _, Word, count, whole};
use infera_ledger::statements::money::{
    LIMIT_ACCOUNT, SET_PAYS, SET_PRICE, SPENDING_OF_ACCOUNT, SPENDING_OF_KEY, SPENDING_OF_KEYS,
};
use infera_ledger::stored::charging::month;
use infera_ledger::{AccountSpending, AccountTerms, LedgerError, ModelPrice, PriceBook, SpendBook, Spending};
use infera_types::ids::{AccountId, KeyId, ModelName};
use infera_types::money::Price;
use infera_types::time::Timestamp;

/// Finds the prices of models that aren't free. The order is the database's own.
const PRICES: &str =
    "SELECT model, prompt, completion FROM prices WHERE prompt > 0 OR completion > 0 ORDER BY model";

#[async_trait]
impl PriceBook for SqliteLedger {
    async fn set_price(&self, model: &ModelName, price: Price) -> Result<bool, LedgerError> {
        let model = model.clone();
        self.write(move |connection| {
            let values = params![Word(model.as_str()), whole(price.prompt), whole(price.completion)];
            Ok(connection.numbered(SET_PRICE)?.query_row(values, |_| Ok(())).optional()?.is_some())
        })
        .await
    }

    async fn prices(&self) -> Result<Vec<ModelPrice>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.numbered(PRICES)?;
            let prices = statement.query_map([], |row| {
                let price = Price { prompt: count(row, 1)?, completion: count(row, 2)? };
                Ok(ModelPrice { model: ModelName::new(row.get::<_, String>(0)?), price })
            })?;
            Ok(prices.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}

#[async_trait]
impl SpendBook for SqliteLedger {
    async fn set_terms(&self, known_as: &str, terms: AccountTerms) -> Result<Option<AccountId>, LedgerError> {
        let known_as = known_as.to_owned();
        let (sql, value) = match terms {
            AccountTerms::Limit(limit) => (LIMIT_ACCOUNT, limit.map(whole)),
            AccountTerms::Pays(pays) => (SET_PAYS, Some(i64::from(pays))),
        };
        self.write(move |connection| {
            let mut statement = connection.numbered(sql)?;
            let account = statement.query_row(params![Word(&known_as), value], |row| row.get::<_, String>(0));
            Ok(account.optional()?.map(AccountId::new))
        })
        .await
    }

    async fn spending(&self, account: &AccountId, now: Timestamp) -> Result<AccountSpending, LedgerError> {
        let account = account.clone();
        self.read(move |connection| {
            let values = params![Word(account.as_str()), whole(month(now))];
            let found = connection
                .numbered(SPENDING_OF_ACCOUNT)?
                .query_row(values, |row| Ok((row.get::<_, i64>(0)? != 0, spending(row)?)))
                .optional()?;
            let (pays, account) = found.unwrap_or_default();
            Ok(AccountSpending { pays, account })
        })
        .await
    }

    async fn key_spending(&self, id: &KeyId, now: Timestamp) -> Result<Spending, LedgerError> {
        let id = id.clone();
        self.read(move |connection| {
            let values = params![Word(id.as_str()), whole(month(now))];
            let found = connection.numbered(SPENDING_OF_KEY)?.query_row(values, spending).optional()?;
            Ok(found.unwrap_or_default())
        })
        .await
    }

    async fn keys_spending(
        &self,
        account: &AccountId,
        limit: u32,
        now: Timestamp,
    ) -> Result<HashMap<KeyId, Spending>, LedgerError> {
        let account = account.clone();
        self.read(move |connection| {
            let values = params![Word(account.as_str()), whole(month(now)), limit];
            let mut statement = connection.numbered(SPENDING_OF_KEYS)?;
            let keys = statement
                .query_map(values, |row| Ok((KeyId::new(row.get::<_, String>(0)?), spending(row)?)))?;
            Ok(keys.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}

fn spending(row: &Row<'_>) -> rusqlite::Result<Spending> {
    let limit = row.get::<_, Option<i64>>(1)?.map(|limit| u64::try_from(limit).unwrap_or(0));
    Ok(Spending { limit, spent: count(row, 2)?, reserved: count(row, 3)? })
}
