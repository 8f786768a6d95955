//! Accounts' keys by their public ids.

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::PostgresLedger;
use super::values::{count, get, millis, optional_time, privacy, time, whole, word};
use infera_ledger::statements::{
    ACCOUNT_OF, BLOCK_ACCOUNT, BLOCK_KEY, CHANGE_KEY, END_KEY, KEY_BY_ID, KEYS_OF_ACCOUNT, USAGE,
};
use infera_ledger::stored::{retention, scopes, used_key};
use infera_ledger::{
    AccountLook, Added, FoundKey, KeyBook, KeyChange, KeyEnds, KeyView, LedgerError, NewKey, PrivacyChange,
    Rotated, Rotation, Scope, UsageRow,
};
use infera_types::ids::{AccountId, Digest, KeyId, ModelName};
use infera_types::time::Timestamp;

/// Stores a key (`$1` to `$8`) in one statement, unless its account has `$9` valid keys. Callers at the same moment may
/// exceed that by their number. `$10` says whether the account gets the scope `fleet`. Returns whether the key is stored; no
/// row if there is no such account.
const ADD_KEY: &str = "WITH locked AS MATERIALIZED (SELECT id FROM accounts WHERE id = $2),
    live AS MATERIALIZED (
        SELECT COUNT(*) AS keys FROM api_keys, locked WHERE account = locked.id AND revoked_ms IS NULL
            AND (expires_ms IS NULL OR expires_ms > $4)),
    known AS MATERIALIZED (SELECT 1 FROM api_keys WHERE hash = $1),
    made AS (
        INSERT INTO api_keys (hash, account, hint, issued_ms, id, name, scopes, expires_ms)
        SELECT $1::bytea, locked.id, $3::text, $4::bigint, $5::text, $6::text, $7::text, $8::bigint FROM locked, live
        WHERE live.keys < $9 AND NOT EXISTS (SELECT 1 FROM known)
        ON CONFLICT (hash) DO NOTHING RETURNING 1),
    allowed AS (
        UPDATE accounts SET fleet_ms = COALESCE(fleet_ms, $4) WHERE id = $2 AND $10 AND EXISTS (SELECT 1 FROM made))
    SELECT EXISTS (SELECT 1 FROM made) OR EXISTS (SELECT 1 FROM known) FROM locked";

/// Lets a key (`$1`) of an account (`$3`) expire and stores its successor, with what it takes over, in one statement. Finds
/// nothing if the key can't be replaced, or else whether it is, and whether there is a place for one more.
const ROTATE_KEY: &str = "WITH live AS MATERIALIZED (
        SELECT COUNT(*) < $11 AS has_place FROM api_keys WHERE account = $3 AND revoked_ms IS NULL
            AND (expires_ms IS NULL OR expires_ms > $5)),
    valid AS MATERIALIZED (
        SELECT successor FROM api_keys WHERE id = $1 AND account = $3 AND revoked_ms IS NULL AND blocked_ms IS NULL
            AND (successor IS NULL OR successor = $6) AND (expires_ms IS NULL OR expires_ms > $5)),
    old AS (
        UPDATE api_keys SET successor = $6, expires_ms = LEAST(COALESCE(expires_ms, $10), $10)
        FROM live WHERE id = $1 AND account = $3 AND revoked_ms IS NULL AND blocked_ms IS NULL
            AND successor IS NULL AND (expires_ms IS NULL OR expires_ms > $5) AND live.has_place
        RETURNING id, pool, stores, retention_days, spend_limit, purse),
    made AS (
        INSERT INTO api_keys (hash, account, hint, issued_ms, id, name, scopes, expires_ms,
            pool, stores, retention_days, spend_limit, purse)
        SELECT $2::bytea, $3::text, $4::text, $5::bigint, $6::text, $7::text, $8::text, $9::bigint,
            pool, stores, retention_days, spend_limit, COALESCE(purse, old.id) FROM old
        ON CONFLICT (hash) DO NOTHING)
    SELECT successor IS NOT NULL OR EXISTS (SELECT 1 FROM old), live.has_place FROM valid, live";

#[async_trait]
impl KeyEnds for PostgresLedger {
    async fn end_key(&self, id: &KeyId, now: Timestamp) -> Result<Option<KeyView>, LedgerError> {
        let rows = self.pool.put(END_KEY, &[&word(id.as_str())?, &millis(now)]).await?;
        rows.first().map(view).transpose()
    }

    async fn block_key(&self, id: &KeyId, since: Option<Timestamp>) -> Result<Option<KeyView>, LedgerError> {
        let rows = self.pool.put(BLOCK_KEY, &[&word(id.as_str())?, &since.map(millis)]).await?;
        rows.first().map(view).transpose()
    }

    async fn block_account(
        &self,
        account: &AccountId,
        since: Option<Timestamp>,
    ) -> Result<bool, LedgerError> {
        let rows = self.pool.put(BLOCK_ACCOUNT, &[&word(account.as_str())?, &since.map(millis)]).await?;
        Ok(!rows.is_empty())
    }

    async fn find_key(&self, hash: Digest) -> Result<Option<FoundKey>, LedgerError> {
        self.found_key(hash).await
    }
}

#[async_trait]
impl AccountLook for PostgresLedger {
    async fn usage(
        &self,
        account: &AccountId,
        from: u64,
        to: u64,
        limit: u32,
    ) -> Result<Vec<UsageRow>, LedgerError> {
        let values: [&(dyn ToSql + Sync); 4] =
            [&account.as_str(), &whole(from), &whole(to), &i64::from(limit)];
        let rows = self.pool.query(USAGE, &values).await?;
        rows.iter().map(used).collect()
    }

    async fn account_of(&self, email: &str) -> Result<Option<AccountId>, LedgerError> {
        let row = self.pool.query_opt(ACCOUNT_OF, &[&word(email)?]).await?;
        row.map(|row| Ok(AccountId::new(get::<String>(&row, 0)?))).transpose()
    }
}

#[async_trait]
impl KeyBook for PostgresLedger {
    async fn add_key(&self, key: &NewKey, live_max: u32, now: Timestamp) -> Result<Added, LedgerError> {
        let new = Columns::of(key)?;
        let (now, live_max) = (millis(now), i64::from(live_max));
        let is_fleet = key.scopes.iter().any(|scope| scope == Scope::Fleet);
        let values: [&(dyn ToSql + Sync); 10] = [
            &new.hash,
            &new.account,
            &new.hint,
            &now,
            &new.id,
            &new.name,
            &new.scopes,
            &new.expires,
            &live_max,
            &is_fleet,
        ];
        let rows = self.pool.put(ADD_KEY, &values).await?;
        Ok(match rows.first() {
            None => Added::NoAccount,
            Some(row) if get(row, 0)? => Added::Stored,
            Some(_) => Added::Full,
        })
    }

    async fn keys(&self, account: &AccountId, limit: u32) -> Result<Vec<KeyView>, LedgerError> {
        let rows = self.pool.query(KEYS_OF_ACCOUNT, &[&account.as_str(), &i64::from(limit)]).await?;
        rows.iter().map(view).collect()
    }

    async fn key_by_id(&self, id: &KeyId) -> Result<Option<KeyView>, LedgerError> {
        let row = self.pool.query_opt(KEY_BY_ID, &[&word(id.as_str())?]).await?;
        row.as_ref().map(view).transpose()
    }

    async fn change_key(&self, id: &KeyId, change: &KeyChange) -> Result<Option<KeyView>, LedgerError> {
        let KeyChange { name, scopes, expires_ms, privacy, spend_limit } = change;
        let PrivacyChange { stores, retention_days } = privacy;
        let name = name.as_deref().map(word).transpose()?;
        let scopes = scopes.map(|scopes| scopes.to_string());
        let (changes_end, end) = (i64::from(expires_ms.is_some()), expires_ms.flatten().map(millis));
        let (changes_days, days) = (i64::from(retention_days.is_some()), retention(retention_days.flatten()));
        let (changes_limit, limit) = (i64::from(spend_limit.is_some()), spend_limit.flatten().map(whole));
        let values: [&(dyn ToSql + Sync); 10] = [
            &word(id.as_str())?,
            &name,
            &scopes,
            &changes_end,
            &end,
            &stores.map(i16::from),
            &changes_days,
            &days,
            &changes_limit,
            &limit,
        ];
        self.pool.put(CHANGE_KEY, &values).await?.first().map(view).transpose()
    }

    async fn rotate_key(&self, rotation: &Rotation, now: Timestamp) -> Result<Rotated, LedgerError> {
        let new = Columns::of(&rotation.successor)?;
        let (now, until) = (millis(now), millis(rotation.until));
        let values: [&(dyn ToSql + Sync); 11] = [
            &word(rotation.id.as_str())?,
            &new.hash,
            &new.account,
            &new.hint,
            &now,
            &new.id,
            &new.name,
            &new.scopes,
            &new.expires,
            &until,
            &i64::from(rotation.live_max),
        ];
        Ok(match self.pool.put(ROTATE_KEY, &values).await?.first() {
            None => Rotated::NotValid,
            Some(row) if get(row, 0)? => Rotated::Done,
            Some(row) if !get::<bool>(row, 1)? => Rotated::Full,
            // Another successor came in between.
            Some(_) => Rotated::NotValid,
        })
    }
}

/// The columns of a new key.
struct Columns<'a> {
    hash: &'a [u8],
    account: &'a str,
    hint: &'a str,
    id: &'a str,
    name: &'a str,
    scopes: String,
    expires: Option<i64>,
}

impl<'a> Columns<'a> {
    fn of(key: &'a NewKey) -> Result<Self, LedgerError> {
        Ok(Self {
            hash: key.hash.as_bytes(),
            account: word(key.account.as_str())?,
            hint: word(&key.hint)?,
            id: word(key.id.as_str())?,
            name: word(&key.name)?,
            scopes: key.scopes.to_string(),
            expires: key.expires_ms.map(millis),
        })
    }
}

fn view(row: &Row) -> Result<KeyView, LedgerError> {
    Ok(KeyView {
        id: KeyId::new(get::<String>(row, 0)?),
        account: AccountId::new(get::<String>(row, 1)?),
        hint: get(row, 2)?,
        name: get(row, 3)?,
        scopes: scopes(get(row, 4)?)?,
        issued_ms: time(row, 5)?,
        expires_ms: optional_time(row, 6)?,
        revoked_ms: optional_time(row, 7)?,
        blocked_ms: optional_time(row, 8)?,
        successor: get::<Option<String>>(row, 9)?.map(KeyId::new),
        privacy: privacy(row, 10)?,
    })
}

fn used(row: &Row) -> Result<UsageRow, LedgerError> {
    Ok(UsageRow {
        day: count(row, 0)?,
        key: used_key(get(row, 1)?),
        model: ModelName::new(get::<String>(row, 2)?),
        requests: count(row, 3)?,
        prompt_tokens: count(row, 4)?,
        completion_tokens: count(row, 5)?,
        cost: count(row, 6)?,
    })
}
