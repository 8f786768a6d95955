//! Accounts, their keys, and how they share the network.

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::PostgresLedger;
use super::pool::Parameters;
use super::values::{flag, get, millis, optional_time, privacy, small, word};
use infera_ledger::statements::{ALLOW_PRIORITY, ISSUE_KEY, KEY, PROVE, REVOKE_KEY, WEIGH};
use infera_ledger::stored::scopes;
use infera_ledger::{
    AccountBook, EndedKey, FirstKey, FoundKey, KeyEnd, KeyRecord, LedgerError, NewKey, ShareBook, SignedUp,
};
use infera_types::ids::{AccountId, Digest, KeyId};
use infera_types::time::Timestamp;

/// Creates an account with its key in one statement, so that no account exists without a key. An existing account
/// gets no key.
const SIGN_UP: &str = "WITH made AS (
        INSERT INTO accounts (id, email, created_ms) VALUES ($1, $2, $3)
        ON CONFLICT (email) DO NOTHING RETURNING id),
    issued AS (
        INSERT INTO api_keys (hash, account, hint, issued_ms, id)
        SELECT $4::bytea, id, $5::text, $3::bigint, $6::text FROM made WHERE $4::bytea IS NOT NULL
        ON CONFLICT (hash) DO NOTHING)
    SELECT 1 FROM made";

/// Makes an account with its key in one statement.
const OPEN_ACCOUNT: &str = concat!(
    "WITH made AS (",
    infera_ledger::open_account!(),
    " RETURNING id),
    issued AS (
        INSERT INTO api_keys (hash, account, hint, issued_ms, id)
        SELECT $4::bytea, id, $5::text, $3::bigint, $6::text FROM made)
    SELECT 1 FROM made"
);

#[async_trait]
impl AccountBook for PostgresLedger {
    async fn sign_up(
        &self,
        email: &str,
        key: Option<FirstKey>,
        now: Timestamp,
    ) -> Result<SignedUp, LedgerError> {
        let fresh = AccountId::fresh();
        let hash = key.as_ref().map(|key| &key.hash.as_bytes()[..]);
        let hint = key.as_ref().map(|key| word(&key.hint)).transpose()?;
        let id = KeyId::fresh();
        let values: [&(dyn ToSql + Sync); 6] =
            [&fresh.as_str(), &word(email)?, &millis(now), &hash, &hint, &id.as_str()];
        let inserted = self.pool.change(SIGN_UP, &values).await?;
        if !inserted.is_empty() {
            return Ok(SignedUp { account: fresh, is_new: true });
        }
        let row = self.pool.query_opt("SELECT id FROM accounts WHERE email = $1", &[&email]).await?;
        let gone = || LedgerError::Row("the account existed a moment ago and is now missing".to_owned());
        let account = AccountId::new(get::<String>(&row.ok_or_else(gone)?, 0)?);
        Ok(SignedUp { account, is_new: false })
    }

    async fn open_account(
        &self,
        email: &str,
        key: &FirstKey,
        now: Timestamp,
    ) -> Result<AccountId, LedgerError> {
        let (account, id) = (AccountId::fresh(), KeyId::fresh());
        let (email, hint, hash) = (word(email)?, word(&key.hint)?, &key.hash.as_bytes()[..]);
        let values: [&(dyn ToSql + Sync); 6] =
            [&account.as_str(), &email, &millis(now), &hash, &hint, &id.as_str()];
        // Of two first sign-ups at the same moment one finds the address taken, and at its second try knows it.
        match self.pool.change(OPEN_ACCOUNT, &values).await {
            Err(LedgerError::Row(_)) => self.pool.change(OPEN_ACCOUNT, &values).await?,
            opened => opened?,
        };
        Ok(account)
    }

    async fn issue_key(&self, key: &NewKey, now: Timestamp) -> Result<(), LedgerError> {
        let (account, hint) = (word(key.account.as_str())?, word(&key.hint)?);
        let (id, name, scopes) = (word(key.id.as_str())?, word(&key.name)?, key.scopes.to_string());
        let hash = &key.hash.as_bytes()[..];
        let expires = key.expires_ms.map(millis);
        let values: [&(dyn ToSql + Sync); 8] =
            [&hash, &account, &hint, &millis(now), &id, &name, &scopes, &expires];
        self.pool.put(ISSUE_KEY, &values).await?;
        Ok(())
    }

    async fn key(&self, hash: Digest) -> Result<Option<KeyRecord>, LedgerError> {
        Ok(self.found_key(hash).await?.and_then(FoundKey::valid))
    }

    async fn revoke_key(&self, hash: Digest, now: Timestamp) -> Result<(), LedgerError> {
        self.pool.put(REVOKE_KEY, &[&&hash.as_bytes()[..], &millis(now)]).await?;
        Ok(())
    }
}

impl PostgresLedger {
    /// Returns a key by its hash, whatever its state.
    pub(super) async fn found_key(&self, hash: Digest) -> Result<Option<FoundKey>, LedgerError> {
        let Some(row) = self.pool.query_opt(KEY, &[&&hash.as_bytes()[..]]).await? else { return Ok(None) };
        let (account, id) = (AccountId::new(get::<String>(&row, 0)?), KeyId::new(get::<String>(&row, 2)?));
        let [is_revoked, is_blocked, is_account_blocked] =
            [optional_time(&row, 10)?, optional_time(&row, 11)?, optional_time(&row, 12)?]
                .map(|since| since.is_some());
        if let Some(end) = KeyEnd::of(is_revoked, is_blocked, is_account_blocked) {
            return Ok(Some(FoundKey::Ended(EndedKey { id, account, end })));
        }
        Ok(Some(FoundKey::Valid(KeyRecord {
            account,
            hint: get(&row, 1)?,
            id,
            scopes: scopes(get(&row, 3)?)?,
            expires_ms: optional_time(&row, 4)?,
            proven: get::<Option<i64>>(&row, 5)?.is_some(),
            weight: small(&row, 6)?.max(1),
            may_prioritise: flag(&row, 7)?,
            privacy: privacy(&row, 8)?,
        })))
    }
}

#[async_trait]
impl ShareBook for PostgresLedger {
    async fn prove(&self, email: &str, now: Timestamp) -> Result<Option<AccountId>, LedgerError> {
        account(&self.pool.put(PROVE, &[&word(email)?, &millis(now)]).await?)
    }

    async fn weigh(&self, email: &str, weight: u32) -> Result<Option<AccountId>, LedgerError> {
        account(&self.pool.put(WEIGH, &[&word(email)?, &i64::from(weight.max(1))]).await?)
    }

    async fn allow_priority(&self, hash: Digest, is_allowed: bool) -> Result<bool, LedgerError> {
        let values: Parameters<'_> = &[&&hash.as_bytes()[..], &i16::from(is_allowed)];
        Ok(!self.pool.put(ALLOW_PRIORITY, values).await?.is_empty())
    }
}

/// Returns the account of the row that a statement changed, if it changed one.
fn account(rows: &[Row]) -> Result<Option<AccountId>, LedgerError> {
    rows.first().map(|row| Ok(AccountId::new(get::<String>(row, 0)?))).transpose()
}
