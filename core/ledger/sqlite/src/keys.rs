//! Accounts' keys by their public ids.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::SqliteLedger;
use super::accounts::insert_key;
use super::failure::Failure;
use super::values::{Blob, Numbered as _, Word, count, millis, optional_time, privacy, time};
use infera_ledger::statements::{
    ACCOUNT_OF, BLOCK_ACCOUNT, BLOCK_KEY, CHANGE_KEY, END_KEY, KEY_BY_ID, KEYS_OF_ACCOUNT, USAGE,
};
use infera_ledger::stored::{retention, scopes, used_key, whole};
use infera_ledger::{
    AccountLook, Added, FoundKey, KeyBook, KeyChange, KeyEnds, KeyView, LedgerError, NewKey, PrivacyChange,
    Rotated, Rotation, Scope, Scopes, UsageRow,
};
use infera_types::ids::{AccountId, Digest, KeyId, ModelName};
use infera_types::time::Timestamp;

#[async_trait]
impl KeyEnds for SqliteLedger {
    async fn end_key(&self, id: &KeyId, now: Timestamp) -> Result<Option<KeyView>, LedgerError> {
        let id = id.clone();
        self.write(move |connection| one(connection, END_KEY, params![Word(id.as_str()), millis(now)])).await
    }

    async fn block_key(&self, id: &KeyId, since: Option<Timestamp>) -> Result<Option<KeyView>, LedgerError> {
        let id = id.clone();
        let since = since.map(millis);
        self.write(move |connection| one(connection, BLOCK_KEY, params![Word(id.as_str()), since])).await
    }

    async fn block_account(
        &self,
        account: &AccountId,
        since: Option<Timestamp>,
    ) -> Result<bool, LedgerError> {
        let (account, since) = (account.clone(), since.map(millis));
        self.write(move |connection| {
            let mut statement = connection.numbered(BLOCK_ACCOUNT)?;
            let found = statement.query_row(params![Word(account.as_str()), since], |_| Ok(())).optional()?;
            Ok(found.is_some())
        })
        .await
    }

    async fn find_key(&self, hash: Digest) -> Result<Option<FoundKey>, LedgerError> {
        self.found_key(hash).await
    }
}

#[async_trait]
impl AccountLook for SqliteLedger {
    async fn usage(
        &self,
        account: &AccountId,
        from: u64,
        to: u64,
        limit: u32,
    ) -> Result<Vec<UsageRow>, LedgerError> {
        let account = account.clone();
        self.read(move |connection| {
            let mut statement = connection.numbered(USAGE)?;
            let rows = statement.query_map(
                params![Word(account.as_str()), whole(from), whole(to), limit],
                |row| {
                    Ok(UsageRow {
                        day: count(row, 0)?,
                        key: used_key(row.get(1)?),
                        model: ModelName::new(row.get::<_, String>(2)?),
                        requests: count(row, 3)?,
                        prompt_tokens: count(row, 4)?,
                        completion_tokens: count(row, 5)?,
                        cost: count(row, 6)?,
                    })
                },
            )?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn account_of(&self, email: &str) -> Result<Option<AccountId>, LedgerError> {
        let email = email.to_owned();
        self.read(move |connection| {
            let mut statement = connection.numbered(ACCOUNT_OF)?;
            let found = statement.query_row([Word(&email)], |row| row.get::<_, String>(0)).optional()?;
            Ok(found.map(AccountId::new))
        })
        .await
    }
}

#[async_trait]
impl KeyBook for SqliteLedger {
    async fn add_key(&self, key: &NewKey, live_max: u32, now: Timestamp) -> Result<Added, LedgerError> {
        let key = key.clone();
        self.write(move |connection| add(connection, &key, live_max, now)).await
    }

    async fn keys(&self, account: &AccountId, limit: u32) -> Result<Vec<KeyView>, LedgerError> {
        let account = account.clone();
        self.read(move |connection| {
            let mut statement = connection.numbered(KEYS_OF_ACCOUNT)?;
            let rows = statement.query_map(params![Word(account.as_str()), limit], columns)?;
            rows.map(|row| Ok(view(row?)?)).collect()
        })
        .await
    }

    async fn key_by_id(&self, id: &KeyId) -> Result<Option<KeyView>, LedgerError> {
        let id = id.clone();
        self.read(move |connection| one(connection, KEY_BY_ID, [Word(id.as_str())])).await
    }

    async fn change_key(&self, id: &KeyId, change: &KeyChange) -> Result<Option<KeyView>, LedgerError> {
        let (id, change) = (id.clone(), change.clone());
        self.write(move |connection| {
            let KeyChange { name, scopes, expires_ms, privacy, spend_limit } = &change;
            let PrivacyChange { stores, retention_days } = privacy;
            let values = params![
                Word(id.as_str()),
                name.as_deref().map(Word),
                scopes.map(|scopes| scopes.to_string()),
                i64::from(expires_ms.is_some()),
                expires_ms.flatten().map(millis),
                stores.map(i64::from),
                i64::from(retention_days.is_some()),
                retention(retention_days.flatten()),
                i64::from(spend_limit.is_some()),
                spend_limit.flatten().map(whole)
            ];
            one(connection, CHANGE_KEY, values)
        })
        .await
    }

    async fn rotate_key(&self, rotation: &Rotation, now: Timestamp) -> Result<Rotated, LedgerError> {
        let rotation = rotation.clone();
        self.write(move |connection| rotate(connection, &rotation, now)).await
    }
}

fn add(connection: &Connection, key: &NewKey, live_max: u32, now: Timestamp) -> Result<Added, Failure> {
    let account = Word(key.account.as_str());
    if !connection.numbered("SELECT 1 FROM accounts WHERE id = $1")?.exists([&account])? {
        return Ok(Added::NoAccount);
    }
    if connection.numbered("SELECT 1 FROM api_keys WHERE hash = $1")?.exists([key.hash.blob()])? {
        return Ok(Added::Stored);
    }
    if live(connection, &key.account, now)? >= i64::from(live_max) {
        return Ok(Added::Full);
    }
    insert_key(connection, key, now)?;
    if key.scopes.iter().any(|scope| scope == Scope::Fleet) {
        connection
            .numbered("UPDATE accounts SET fleet_ms = COALESCE(fleet_ms, $2) WHERE id = $1")?
            .execute(params![&account, millis(now)])?;
    }
    Ok(Added::Stored)
}

/// Counts the keys of an account that are neither revoked nor expired.
fn live(connection: &Connection, account: &AccountId, now: Timestamp) -> Result<i64, Failure> {
    let sql = "SELECT COUNT(*) FROM api_keys WHERE account = $1 AND revoked_ms IS NULL
        AND (expires_ms IS NULL OR expires_ms > $2)";
    let values = params![Word(account.as_str()), millis(now)];
    Ok(connection.numbered(sql)?.query_row(values, |row| row.get(0))?)
}

fn rotate(connection: &Connection, rotation: &Rotation, now: Timestamp) -> Result<Rotated, Failure> {
    let Rotation { id, successor, until, live_max } = rotation;
    let (old, new) = (Word(id.as_str()), Word(successor.id.as_str()));
    let values = params![old, new, millis(now), Word(successor.account.as_str())];
    let has_successor: Option<bool> = connection
        .numbered(
            "SELECT successor IS NOT NULL FROM api_keys
             WHERE id = $1 AND account = $4 AND revoked_ms IS NULL AND blocked_ms IS NULL
                 AND (successor IS NULL OR successor = $2) AND (expires_ms IS NULL OR expires_ms > $3)",
        )?
        .query_row(values, |row| row.get(0))
        .optional()?;
    match has_successor {
        None => return Ok(Rotated::NotValid),
        Some(true) => return Ok(Rotated::Done),
        Some(false) => {}
    }
    if live(connection, &successor.account, now)? >= i64::from(*live_max) {
        return Ok(Rotated::Full);
    }
    connection
        .numbered("UPDATE api_keys SET successor = $2, expires_ms = MIN(COALESCE(expires_ms, $3), $3) WHERE id = $1")?
        .execute(params![old, new, millis(*until)])?;
    insert_key(connection, successor, now)?;
    connection
        .numbered(
            "UPDATE api_keys SET (pool, stores, retention_days, spend_limit, purse) =
                 (SELECT old.pool, old.stores, old.retention_days, old.spend_limit, COALESCE(old.purse, old.id)
                  FROM api_keys AS old WHERE old.id = $1)
             WHERE id = $2",
        )?
        .execute(params![old, new])?;
    Ok(Rotated::Done)
}

/// Returns the key of a statement that finds or changes one.
fn one(connection: &Connection, sql: &'static str, values: impl Params) -> Result<Option<KeyView>, Failure> {
    let found = connection.numbered(sql)?.query_row(values, columns).optional()?;
    Ok(found.map(view).transpose()?)
}

/// Reads a key and the words of its scopes.
fn columns(row: &Row<'_>) -> rusqlite::Result<(KeyView, String)> {
    let key = KeyView {
        id: KeyId::new(row.get::<_, String>(0)?),
        account: AccountId::new(row.get::<_, String>(1)?),
        hint: row.get(2)?,
        name: row.get(3)?,
        scopes: Scopes::default(),
        issued_ms: time(row, 5)?,
        expires_ms: optional_time(row, 6)?,
        revoked_ms: optional_time(row, 7)?,
        blocked_ms: optional_time(row, 8)?,
        successor: row.get::<_, Option<String>>(9)?.map(KeyId::new),
        privacy: privacy(row, 10)?,
    };
    Ok((key, row.get(4)?))
}

fn view((key, words): (KeyView, String)) -> Result<KeyView, LedgerError> {
    Ok(KeyView { scopes: scopes(&words)?, ..key })
}
