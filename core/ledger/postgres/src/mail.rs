//! Mails, the codes that they carry, and accounts whose addresses they prove.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::PostgresLedger;
use super::values::{bytes, digest, get, millis, small, time, word};
use infera_ledger::mail_codes::{COUNTED, CodeCheck, StoredCode, TURN_MAX, check};
use infera_ledger::statements::mail::{
    ACCOUNT_EVENTS, CODE, FINISH_MAIL, FORGET_CODES, FORGET_MAILS, FREE_ADDRESS, ISSUE_CODE, MAY_PROVE,
    PROVEN_ACCOUNT, VOID_MAIL, WRONG_CODE,
};
use infera_ledger::stored::{before, latest, mail_word};
use infera_ledger::{
    AccountEvent, Addressee, CodeUse, DueMail, LedgerError, MailBook, MailBounds, MailOutbox, NewCode,
    NewMail, RecoveredKey, ShownCode,
};
use infera_types::ids::{AccountId, KeyId, MailId};
use infera_types::time::Timestamp;

/// What [`MAY_PROVE`] says of an account that may.
const MAY: i32 = 0;

/// What it says if another account has proven the address.
const TAKEN: i32 = 1;

/// Uses a code (`$1`) up at `$2` and makes its address name its account, which is proven from then on. Another account that has
/// not proven the address has been parted from it before.
const PROVE: &str = "WITH used AS (DELETE FROM mail_codes WHERE id = $1 RETURNING account, address),
    proven AS (
        UPDATE accounts SET email = used.address, address_ms = $2, proven_ms = COALESCE(proven_ms, $2)
        FROM used WHERE accounts.id = used.account AND address_ms IS NULL AND blocked_ms IS NULL
            AND NOT EXISTS (
                SELECT 1 FROM accounts AS other WHERE other.email = used.address AND other.id <> used.account)
        RETURNING accounts.id),
    others AS (
        DELETE FROM mail_codes USING proven
        WHERE mail_codes.account = proven.id AND kind = 'proof' AND mail_codes.id <> $1),
    noted AS (
        INSERT INTO account_events (account, at_ms, event) SELECT id, $2::bigint, 'proven' FROM proven)
    SELECT id FROM proven";

/// Uses a code (`$1`) up at `$2` and gives its account a key (`$3` to `$5`). If `$6`, all its other keys are revoked.
const RECOVER: &str = "WITH used AS (DELETE FROM mail_codes WHERE id = $1 RETURNING account),
    alive AS MATERIALIZED (
        SELECT accounts.id FROM accounts JOIN used ON accounts.id = used.account
        WHERE address_ms IS NOT NULL AND blocked_ms IS NULL),
    revoked AS (
        UPDATE api_keys SET revoked_ms = $2 FROM alive
        WHERE api_keys.account = alive.id AND api_keys.revoked_ms IS NULL AND $6::boolean),
    made AS (
        INSERT INTO api_keys (hash, account, hint, issued_ms, id, name)
        SELECT $3::bytea, id, $4::text, $2::bigint, $5::text, 'recovered' FROM alive),
    others AS (
        DELETE FROM mail_codes USING alive
        WHERE mail_codes.account = alive.id AND kind = 'recovery' AND mail_codes.id <> $1),
    noted AS (
        INSERT INTO account_events (account, at_ms, event, key_id)
        SELECT id, $2::bigint, CASE WHEN $6::boolean THEN 'recovered_and_revoked' ELSE 'recovered' END, $5::text
        FROM alive)
    SELECT id FROM alive";

#[async_trait]
impl MailBook for PostgresLedger {
    async fn ask_for_mail(
        &self,
        mail: &NewMail,
        bounds: &MailBounds,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let (id, account) = (&mail.id.as_bytes()[..], mail.account.as_ref().map(AccountId::as_str));
        let bounds = [bounds.per_hour_max, bounds.per_address_hour_max, bounds.per_network_hour_max];
        let bounds = bounds.map(i64::from);
        let values: [&(dyn ToSql + Sync); 11] = [
            &id,
            &mail.kind.word(),
            &word(&mail.address)?,
            &account,
            &word(&mail.network)?,
            &millis(now),
            &millis(before(now, COUNTED)),
            &millis(latest(now)),
            &bounds[0],
            &bounds[1],
            &bounds[2],
        ];
        Ok(!self.pool.put(infera_ledger::ask_for_mail!("$1::bytea"), &values).await?.is_empty())
    }

    async fn redeem(
        &self,
        code: &ShownCode,
        what_for: &CodeUse,
        now: Timestamp,
    ) -> Result<Option<AccountId>, LedgerError> {
        let id = &code.id.as_bytes()[..];
        let Some(row) = self.pool.query_opt(CODE, &[&id]).await? else { return Ok(None) };
        let stored = StoredCode {
            kind: mail_word(get(&row, 0)?)?,
            hash: digest(&row, 1)?,
            expires_ms: time(&row, 2)?,
            wrong: small(&row, 3)?,
        };
        match check(&stored, code, what_for.kind(), now) {
            CodeCheck::Right => {}
            CodeCheck::Wrong => {
                self.pool.put(WRONG_CODE, &[&id]).await?;
                return Ok(None);
            }
            CodeCheck::Void => return Ok(None),
        }
        let rows = match what_for {
            CodeUse::Proof => {
                let (account, address): (&str, &str) = (get(&row, 4)?, get(&row, 5)?);
                // A statement of its own, because the address is unique at each row that changes. If the next one fails, the
                // address names no account until the code is shown again.
                if self.may_prove(account, address).await? == Some(MAY) {
                    self.pool.put(FREE_ADDRESS, &[&address, &account]).await?;
                }
                self.pool.change(PROVE, &[&id, &millis(now)]).await?
            }
            CodeUse::Recovery(RecoveredKey { hash, hint, id: key, revokes_others }) => {
                let hash = &hash.as_bytes()[..];
                let values: [&(dyn ToSql + Sync); 6] =
                    [&id, &millis(now), &hash, &word(hint)?, &word(key.as_str())?, revokes_others];
                self.pool.change(RECOVER, &values).await?
            }
        };
        rows.first().map(|row| Ok(AccountId::new(get::<String>(row, 0)?))).transpose()
    }

    async fn account_events(
        &self,
        account: &AccountId,
        limit: u32,
    ) -> Result<Vec<AccountEvent>, LedgerError> {
        let rows = self.pool.query(ACCOUNT_EVENTS, &[&account.as_str(), &i64::from(limit)]).await?;
        rows.iter().map(event).collect()
    }
}

#[async_trait]
impl MailOutbox for PostgresLedger {
    async fn take_mails(
        &self,
        limit: u32,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<DueMail>, LedgerError> {
        let times = [millis(now), millis(latest(now).after(TURN_MAX)), millis(now.after(lease))];
        let values: [&(dyn ToSql + Sync); 4] = [&times[0], &times[1], &times[2], &i64::from(limit)];
        let take = infera_ledger::take_mails!("FOR UPDATE SKIP LOCKED");
        self.pool.change(take, &values).await?.iter().map(due).collect()
    }

    async fn issue_code(&self, mail: &DueMail, code: &NewCode) -> Result<Addressee, LedgerError> {
        let address = word(&mail.address)?;
        let account = match &mail.account {
            Some(account) => match self.may_prove(word(account.as_str())?, address).await? {
                Some(MAY) => account.as_str().to_owned(),
                Some(TAKEN) => return Ok(Addressee::Taken),
                _ => return self.void(mail.id).await,
            },
            None => match self.pool.query_opt(PROVEN_ACCOUNT, &[&address]).await? {
                Some(row) => get::<String>(&row, 0)?,
                None => return self.void(mail.id).await,
            },
        };
        let (id, hash) = (&code.id.as_bytes()[..], &code.hash.as_bytes()[..]);
        let values: [&(dyn ToSql + Sync); 6] =
            [&id, &hash, &mail.kind.word(), &account, &address, &millis(code.expires_ms)];
        self.pool.put(ISSUE_CODE, &values).await?;
        Ok(Addressee::MayProve)
    }

    async fn finish_mail(&self, mail: MailId, again: Option<Timestamp>) -> Result<(), LedgerError> {
        self.pool.put(FINISH_MAIL, &[&&mail.as_bytes()[..], &again.map(millis)]).await?;
        Ok(())
    }

    async fn forget_mails(&self, now: Timestamp) -> Result<(), LedgerError> {
        self.pool.put(FORGET_MAILS, &[&millis(before(now, COUNTED)), &millis(latest(now))]).await?;
        self.pool.put(FORGET_CODES, &[&millis(now)]).await?;
        Ok(())
    }
}

impl PostgresLedger {
    /// Notes that a mail has no one to go to.
    async fn void(&self, mail: MailId) -> Result<Addressee, LedgerError> {
        self.pool.put(VOID_MAIL, &[&&mail.as_bytes()[..]]).await?;
        Ok(Addressee::NoOne)
    }

    /// Returns what [`MAY_PROVE`] says.
    async fn may_prove(&self, account: &str, address: &str) -> Result<Option<i32>, LedgerError> {
        let row = self.pool.query_opt(MAY_PROVE, &[&account, &address]).await?;
        row.map(|row| get(&row, 0)).transpose()
    }
}

fn due(row: &Row) -> Result<DueMail, LedgerError> {
    Ok(DueMail {
        id: MailId::from_bytes(bytes(row, 0)?),
        kind: mail_word(get(row, 1)?)?,
        address: get(row, 2)?,
        account: get::<Option<String>>(row, 3)?.map(AccountId::new),
        tries: small(row, 4)?,
    })
}

fn event(row: &Row) -> Result<AccountEvent, LedgerError> {
    Ok(AccountEvent {
        kind: mail_word(get(row, 0)?)?,
        at_ms: time(row, 1)?,
        key: get::<Option<String>>(row, 2)?.map(KeyId::new),
    })
}
