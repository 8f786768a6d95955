//! Accounts, their keys, and how they share the network.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Params, params};

use super::SqliteLedger;
use super::failure::Failure;
use super::values::{Blob, Numbered as _, Word, millis, optional_time, privacy, small};
use infera_ledger::statements::mail::OPEN_ACCOUNT;
use infera_ledger::statements::{ALLOW_PRIORITY, ISSUE_KEY, KEY, PROVE, REVOKE_KEY, WEIGH};
use infera_ledger::stored::scopes;
use infera_ledger::{
    AccountBook, EndedKey, FirstKey, FoundKey, KeyEnd, KeyRecord, LedgerError, NewKey, Scopes, ShareBook,
    SignedUp,
};
use infera_types::ids::{AccountId, Digest, KeyId};
use infera_types::time::Timestamp;

#[async_trait]
impl AccountBook for SqliteLedger {
    async fn sign_up(
        &self,
        email: &str,
        key: Option<FirstKey>,
        now: Timestamp,
    ) -> Result<SignedUp, LedgerError> {
        let email = email.to_owned();
        self.write(move |connection| {
            let fresh = AccountId::fresh();
            let inserted = connection
                .numbered(
                    "INSERT INTO accounts (id, email, created_ms) VALUES ($1, $2, $3)
                     ON CONFLICT (email) DO NOTHING",
                )?
                .execute(params![fresh.as_str(), Word(&email), millis(now)])?;
            if inserted == 1 {
                if let Some(FirstKey { hash, hint }) = key {
                    insert_key(connection, &NewKey::plain(hash, fresh.clone(), hint), now)?;
                }
                return Ok(SignedUp { account: fresh, is_new: true });
            }
            let account: String = connection
                .numbered("SELECT id FROM accounts WHERE email = $1")?
                .query_row([Word(&email)], |row| row.get(0))?;
            Ok(SignedUp { account: AccountId::new(account), is_new: false })
        })
        .await
    }

    async fn open_account(
        &self,
        email: &str,
        key: &FirstKey,
        now: Timestamp,
    ) -> Result<AccountId, LedgerError> {
        let (email, key) = (email.to_owned(), key.clone());
        self.write(move |connection| {
            let account = AccountId::fresh();
            connection.numbered(OPEN_ACCOUNT)?.execute(params![
                Word(account.as_str()),
                Word(&email),
                millis(now)
            ])?;
            let FirstKey { hash, hint } = key;
            insert_key(connection, &NewKey::plain(hash, account.clone(), hint), now)?;
            Ok(account)
        })
        .await
    }

    async fn issue_key(&self, key: &NewKey, now: Timestamp) -> Result<(), LedgerError> {
        let key = key.clone();
        self.write(move |connection| insert_key(connection, &key, now)).await
    }

    async fn key(&self, hash: Digest) -> Result<Option<KeyRecord>, LedgerError> {
        Ok(self.found_key(hash).await?.and_then(FoundKey::valid))
    }

    async fn revoke_key(&self, hash: Digest, now: Timestamp) -> Result<(), LedgerError> {
        self.write(move |connection| {
            connection.numbered(REVOKE_KEY)?.execute(params![hash.blob(), millis(now)])?;
            Ok(())
        })
        .await
    }
}

impl SqliteLedger {
    /// Returns a key by its hash, whatever its state.
    pub(super) async fn found_key(&self, hash: Digest) -> Result<Option<FoundKey>, LedgerError> {
        self.read(move |connection| {
            let found = connection
                .numbered(KEY)?
                .query_row([hash.blob()], |row| {
                    let scopes: String = row.get(3)?;
                    let record = KeyRecord {
                        account: AccountId::new(row.get::<_, String>(0)?),
                        hint: row.get(1)?,
                        id: KeyId::new(row.get::<_, String>(2)?),
                        scopes: Scopes::default(),
                        expires_ms: optional_time(row, 4)?,
                        proven: row.get::<_, Option<i64>>(5)?.is_some(),
                        weight: small(row, 6)?.max(1),
                        may_prioritise: row.get::<_, i64>(7)? != 0,
                        privacy: privacy(row, 8)?,
                    };
                    let [is_revoked, is_blocked, is_account_blocked] =
                        [optional_time(row, 10)?, optional_time(row, 11)?, optional_time(row, 12)?]
                            .map(|since| since.is_some());
                    Ok((record, scopes, KeyEnd::of(is_revoked, is_blocked, is_account_blocked)))
                })
                .optional()?;
            let Some((record, words, end)) = found else { return Ok(None) };
            Ok(Some(match end {
                Some(end) => FoundKey::Ended(EndedKey { id: record.id, account: record.account, end }),
                None => FoundKey::Valid(KeyRecord { scopes: scopes(&words)?, ..record }),
            }))
        })
        .await
    }
}

#[async_trait]
impl ShareBook for SqliteLedger {
    async fn prove(&self, email: &str, now: Timestamp) -> Result<Option<AccountId>, LedgerError> {
        let email = email.to_owned();
        self.write(move |connection| changed(connection, PROVE, params![Word(&email), millis(now)])).await
    }

    async fn weigh(&self, email: &str, weight: u32) -> Result<Option<AccountId>, LedgerError> {
        let email = email.to_owned();
        self.write(move |connection| changed(connection, WEIGH, params![Word(&email), weight.max(1)])).await
    }

    async fn allow_priority(&self, hash: Digest, is_allowed: bool) -> Result<bool, LedgerError> {
        self.write(move |connection| {
            let values = params![hash.blob(), i64::from(is_allowed)];
            Ok(changed(connection, ALLOW_PRIORITY, values)?.is_some())
        })
        .await
    }
}

/// Runs a statement that changes one row and returns its account, if there is such a row.
fn changed<P: Params>(
    connection: &Connection,
    sql: &'static str,
    values: P,
) -> Result<Option<AccountId>, Failure> {
    let account = connection.numbered(sql)?.query_row(values, |row| row.get::<_, String>(0)).optional()?;
    Ok(account.map(AccountId::new))
}

pub(super) fn insert_key(connection: &Connection, key: &NewKey, now: Timestamp) -> Result<(), Failure> {
    connection.numbered(ISSUE_KEY)?.execute(params![
        key.hash.blob(),
        Word(key.account.as_str()),
        Word(&key.hint),
        millis(now),
        Word(key.id.as_str()),
        Word(&key.name),
        key.scopes.to_string(),
        key.expires_ms.map(millis)
    ])?;
    Ok(())
}
