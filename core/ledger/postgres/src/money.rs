//! What models cost, and what keys and accounts may spend.

use std::collections::HashMap;

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::PostgresLedger;
use super::values::{count, flag, get, whole, word};
use infera_ledger::statements::money::{
    LIMIT_ACCOUNT, SET_PAYS, SET_PRICE, SPENDING_OF_ACCOUNT, SPENDING_OF_KEY, SPENDING_OF_KEYS,
};
use infera_ledger::stored::charging::month;
use infera_ledger::{AccountSpending, AccountTerms, LedgerError, ModelPrice, PriceBook, SpendBook, Spending};
use infera_types::ids::{AccountId, KeyId, ModelName};
use infera_types::money::Price;
use infera_types::time::Timestamp;

/// Finds the prices of models that aren't free, sorted by bytes, as SQLite does, whatever the database's language.
const PRICES: &str = "SELECT model, prompt, completion FROM prices WHERE prompt > 0 OR completion > 0
    ORDER BY model COLLATE \"C\"";

#[async_trait]
impl PriceBook for PostgresLedger {
    async fn set_price(&self, model: &ModelName, price: Price) -> Result<bool, LedgerError> {
        let (prompt, completion) = (whole(price.prompt), whole(price.completion));
        Ok(!self.pool.put(SET_PRICE, &[&word(model.as_str())?, &prompt, &completion]).await?.is_empty())
    }

    async fn prices(&self) -> Result<Vec<ModelPrice>, LedgerError> {
        let price = |row: &Row| {
            let price = Price { prompt: count(row, 1)?, completion: count(row, 2)? };
            Ok(ModelPrice { model: ModelName::new(get::<String>(row, 0)?), price })
        };
        self.pool.query(PRICES, &[]).await?.iter().map(price).collect()
    }
}

#[async_trait]
impl SpendBook for PostgresLedger {
    async fn set_terms(&self, known_as: &str, terms: AccountTerms) -> Result<Option<AccountId>, LedgerError> {
        let known_as = word(known_as)?;
        let rows = match terms {
            AccountTerms::Limit(limit) => {
                self.pool.put(LIMIT_ACCOUNT, &[&known_as, &limit.map(whole)]).await?
            }
            AccountTerms::Pays(pays) => self.pool.put(SET_PAYS, &[&known_as, &i16::from(pays)]).await?,
        };
        rows.first().map(|row| Ok(AccountId::new(get::<String>(row, 0)?))).transpose()
    }

    async fn spending(&self, account: &AccountId, now: Timestamp) -> Result<AccountSpending, LedgerError> {
        let (account, month) = (word(account.as_str())?, whole(month(now)));
        let found = self.pool.query_opt(SPENDING_OF_ACCOUNT, &[&account, &month]).await?;
        let of_account = found.map(|row| Ok::<_, LedgerError>((flag(&row, 0)?, spending(&row)?)));
        let (pays, account) = of_account.transpose()?.unwrap_or_default();
        Ok(AccountSpending { pays, account })
    }

    async fn key_spending(&self, id: &KeyId, now: Timestamp) -> Result<Spending, LedgerError> {
        let values: [&(dyn ToSql + Sync); 2] = [&word(id.as_str())?, &whole(month(now))];
        let found = self.pool.query_opt(SPENDING_OF_KEY, &values).await?;
        Ok(found.as_ref().map(spending).transpose()?.unwrap_or_default())
    }

    async fn keys_spending(
        &self,
        account: &AccountId,
        limit: u32,
        now: Timestamp,
    ) -> Result<HashMap<KeyId, Spending>, LedgerError> {
        let values: [&(dyn ToSql + Sync); 3] =
            [&word(account.as_str())?, &whole(month(now)), &i64::from(limit)];
        let rows = self.pool.query(SPENDING_OF_KEYS, &values).await?;
        rows.iter().map(|row| Ok((KeyId::new(get::<String>(row, 0)?), spending(row)?))).collect()
    }
}

fn spending(row: &Row) -> Result<Spending, LedgerError> {
    let limit = get::<Option<i64>>(row, 1)?.map(|limit| u64::try_from(limit).unwrap_or(0));
    Ok(Spending { limit, spent: count(row, 2)?, reserved: count(row, 3)? })
}
