//! What models cost, and what keys and accounts may spend.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::values::{count, flag, get, whole, word};
use infera_ledger::statements::money::{
    LIMIT_ACCOUNT, LIMIT_KEY, SET_PAYS, SET_PRICE, SPENDING_OF_ACCOUNT, SPENDING_OF_KEYS,
};
use infera_ledger::stored::charging::month;
use infera_ledger::{
    AccountSpending, AccountTerms, Inheritance, LedgerError, ModelPrice, PriceBook, SpendBook, Spending,
};
use infera_types::ids::{AccountId, KeyId, ModelName};
use infera_types::money::Price;
use infera_types::time::Timestamp;

/// Finds the prices of models that aren't free, sorted by bytes, as SQLite does, whatever the database's language.
const PRICES: &str = "SELECT model, prompt, completion FROM prices WHERE prompt > 0 OR completion > 0
    ORDER BY model COLLATE \"C\"";

/// Gives a key (`$2`) of an account (`$3`) the limit of another one (`$1`), and counts as spent by it what that one spent and
/// reserved in a month (`$4`), in one statement.
const INHERIT: &str = "WITH limited AS (
        UPDATE api_keys
        SET spend_limit = (SELECT old.spend_limit FROM api_keys AS old WHERE old.id = $1 AND old.account = $3)
        WHERE id = $2 AND account = $3)
    INSERT INTO spending (subject, month, reserved, spent)
    SELECT $2::text, month, 0, reserved + spent FROM spending WHERE subject = $1 AND month = $4
    ON CONFLICT (subject, month) DO UPDATE SET spent = spending.spent + excluded.spent";

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

    async fn limit_key(&self, id: &KeyId, limit: Option<u64>) -> Result<bool, LedgerError> {
        Ok(!self.pool.put(LIMIT_KEY, &[&word(id.as_str())?, &limit.map(whole)]).await?.is_empty())
    }

    async fn inherit_limit(&self, inheritance: &Inheritance, now: Timestamp) -> Result<(), LedgerError> {
        let Inheritance { account, from, to } = inheritance;
        let (from, to, account) = (word(from.as_str())?, word(to.as_str())?, word(account.as_str())?);
        self.pool.change(INHERIT, &[&from, &to, &account, &whole(month(now))]).await?;
        Ok(())
    }

    async fn spending(&self, account: &AccountId, now: Timestamp) -> Result<AccountSpending, LedgerError> {
        let (account, month) = (word(account.as_str())?, whole(month(now)));
        let found = self.pool.query_opt(SPENDING_OF_ACCOUNT, &[&account, &month]).await?;
        let keys = self.pool.query(SPENDING_OF_KEYS, &[&account, &month]).await?;
        let of_account = found.map(|row| Ok::<_, LedgerError>((flag(&row, 0)?, spending(&row)?)));
        let (pays, account) = of_account.transpose()?.unwrap_or_default();
        let of_key = |row| Ok((KeyId::new(get::<String>(row, 0)?), spending(row)?));
        Ok(AccountSpending {
            pays,
            account,
            keys: keys.iter().map(of_key).collect::<Result<_, LedgerError>>()?,
        })
    }
}

fn spending(row: &Row) -> Result<Spending, LedgerError> {
    let limit = get::<Option<i64>>(row, 1)?.map(|limit| u64::try_from(limit).unwrap_or(0));
    Ok(Spending { limit, spent: count(row, 2)?, reserved: count(row, 3)? })
}
