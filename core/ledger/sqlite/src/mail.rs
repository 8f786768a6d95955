//! Mails, the codes that they carry, and accounts whose addresses they prove.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteLedger;
use super::accounts::insert_key;
use super::failure::Failure;
use super::values::{Blob, Numbered as _, Word, digest, millis, small, time};
use infera_ledger::mail_codes::{COUNTED, CodeCheck, StoredCode, TURN_MAX, check};
use infera_ledger::statements::mail::{
    ACCOUNT_EVENTS, CODE, FINISH_MAIL, FORGET_CODES, FORGET_MAILS, FREE_ADDRESS, ISSUE_CODE, MAY_PROVE,
    PROVEN_ACCOUNT, VOID_MAIL, WRONG_CODE,
};
use infera_ledger::stored::{before, latest, mail_word};
use infera_ledger::{
    AccountEvent, AccountEventKind, Addressee, CodeUse, DueMail, LedgerError, MailBook, MailBounds, MailKind,
    MailOutbox, NewCode, NewKey, NewMail, RecoveredKey, ShownCode,
};
use infera_types::ids::{AccountId, KeyId, MailId};
use infera_types::time::Timestamp;

#[async_trait]
impl MailBook for SqliteLedger {
    async fn ask_for_mail(
        &self,
        mail: &NewMail,
        bounds: &MailBounds,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let (mail, bounds) = (mail.clone(), *bounds);
        self.write(move |connection| {
            let mut statement = connection.numbered(infera_ledger::ask_for_mail!("$1"))?;
            let stored = statement.exists(params![
                mail.id.blob(),
                mail.kind.word(),
                Word(&mail.address),
                mail.account.as_ref().map(|account| Word(account.as_str())),
                Word(&mail.network),
                millis(now),
                millis(before(now, COUNTED)),
                millis(latest(now)),
                bounds.per_hour_max,
                bounds.per_address_hour_max,
                bounds.per_network_hour_max
            ])?;
            Ok(stored)
        })
        .await
    }

    async fn redeem(
        &self,
        code: &ShownCode,
        what_for: &CodeUse,
        now: Timestamp,
    ) -> Result<Option<AccountId>, LedgerError> {
        let (code, what_for) = (*code, what_for.clone());
        self.write(move |connection| redeem(connection, &code, &what_for, now)).await
    }

    async fn account_events(
        &self,
        account: &AccountId,
        limit: u32,
    ) -> Result<Vec<AccountEvent>, LedgerError> {
        let account = account.clone();
        self.read(move |connection| {
            let mut statement = connection.numbered(ACCOUNT_EVENTS)?;
            let rows = statement.query_map(params![Word(account.as_str()), limit], |row| {
                let key = row.get::<_, Option<String>>(2)?.map(KeyId::new);
                Ok((row.get::<_, String>(0)?, time(row, 1)?, key))
            })?;
            rows.map(|row| {
                let (word, at_ms, key) = row?;
                Ok(AccountEvent { kind: mail_word(&word)?, at_ms, key })
            })
            .collect()
        })
        .await
    }
}

#[async_trait]
impl MailOutbox for SqliteLedger {
    async fn take_mails(
        &self,
        limit: u32,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<DueMail>, LedgerError> {
        self.write(move |connection| {
            let mut statement = connection.numbered(infera_ledger::take_mails!(""))?;
            let times = [millis(now), millis(latest(now).after(TURN_MAX)), millis(now.after(lease))];
            let rows = statement.query_map(params![times[0], times[1], times[2], limit], |row| {
                let mail = DueMail {
                    id: MailId::from_bytes(row.get(0)?),
                    kind: MailKind::Proof,
                    address: row.get(2)?,
                    account: row.get::<_, Option<String>>(3)?.map(AccountId::new),
                    tries: small(row, 4)?,
                };
                Ok((mail, row.get::<_, String>(1)?))
            })?;
            rows.map(|row| {
                let (mail, word) = row?;
                Ok(DueMail { kind: mail_word(&word)?, ..mail })
            })
            .collect()
        })
        .await
    }

    async fn issue_code(&self, mail: &DueMail, code: &NewCode) -> Result<Addressee, LedgerError> {
        let (mail, code) = (mail.clone(), *code);
        self.write(move |connection| issue(connection, &mail, &code)).await
    }

    async fn finish_mail(&self, mail: MailId, again: Option<Timestamp>) -> Result<(), LedgerError> {
        self.write(move |connection| {
            connection.numbered(FINISH_MAIL)?.execute(params![mail.blob(), again.map(millis)])?;
            Ok(())
        })
        .await
    }

    async fn forget_mails(&self, now: Timestamp) -> Result<(), LedgerError> {
        self.write(move |connection| {
            let times = [millis(before(now, COUNTED)), millis(latest(now))];
            connection.numbered(FORGET_MAILS)?.execute(times)?;
            connection.numbered(FORGET_CODES)?.execute([millis(now)])?;
            Ok(())
        })
        .await
    }
}

fn issue(connection: &Connection, mail: &DueMail, code: &NewCode) -> Result<Addressee, Failure> {
    let account = match &mail.account {
        Some(account) => {
            let may: Option<i64> = connection
                .numbered(MAY_PROVE)?
                .query_row(params![Word(account.as_str()), Word(&mail.address)], |row| row.get(0))
                .optional()?;
            match may {
                Some(0) => account.as_str().to_owned(),
                Some(1) => return Ok(Addressee::Taken),
                _ => return void(connection, mail.id),
            }
        }
        None => {
            let proven = connection
                .numbered(PROVEN_ACCOUNT)?
                .query_row([Word(&mail.address)], |row| row.get::<_, String>(0))
                .optional()?;
            let Some(account) = proven else { return void(connection, mail.id) };
            account
        }
    };
    connection.numbered(ISSUE_CODE)?.execute(params![
        code.id.blob(),
        code.hash.blob(),
        mail.kind.word(),
        account,
        Word(&mail.address),
        millis(code.expires_ms)
    ])?;
    Ok(Addressee::MayProve)
}

/// Notes that a mail has no one to go to.
fn void(connection: &Connection, mail: MailId) -> Result<Addressee, Failure> {
    connection.numbered(VOID_MAIL)?.execute([mail.blob()])?;
    Ok(Addressee::NoOne)
}

fn redeem(
    connection: &Connection,
    code: &ShownCode,
    what_for: &CodeUse,
    now: Timestamp,
) -> Result<Option<AccountId>, Failure> {
    let found = connection
        .numbered(CODE)?
        .query_row([code.id.blob()], |row| {
            let (kind, account): (String, String) = (row.get(0)?, row.get(4)?);
            Ok((kind, digest(row, 1)?, time(row, 2)?, small(row, 3)?, account, row.get::<_, String>(5)?))
        })
        .optional()?;
    let Some((kind, hash, expires_ms, wrong, account, address)) = found else { return Ok(None) };
    let stored = StoredCode { kind: mail_word(&kind)?, hash, expires_ms, wrong };
    match check(&stored, code, what_for.kind(), now) {
        CodeCheck::Right => {}
        CodeCheck::Wrong => {
            connection.numbered(WRONG_CODE)?.execute([code.id.blob()])?;
            return Ok(None);
        }
        CodeCheck::Void => return Ok(None),
    }
    connection.numbered("DELETE FROM mail_codes WHERE id = $1")?.execute([code.id.blob()])?;
    let account = AccountId::new(account);
    let is_done = match what_for {
        CodeUse::Proof => prove(connection, &account, &address, now)?,
        CodeUse::Recovery(key) => recover(connection, &account, key, now)?,
    };
    if !is_done {
        return Ok(None);
    }
    connection
        .numbered("DELETE FROM mail_codes WHERE account = $1 AND kind = $2")?
        .execute(params![Word(account.as_str()), kind])?;
    Ok(Some(account))
}

fn prove(
    connection: &Connection,
    account: &AccountId,
    address: &str,
    now: Timestamp,
) -> Result<bool, Failure> {
    let may: Option<i64> = connection
        .numbered(MAY_PROVE)?
        .query_row(params![Word(account.as_str()), Word(address)], |row| row.get(0))
        .optional()?;
    if may != Some(0) {
        return Ok(false);
    }
    connection.numbered(FREE_ADDRESS)?.execute(params![Word(address), Word(account.as_str())])?;
    connection
        .numbered(
            "UPDATE accounts SET email = $1, address_ms = $3, proven_ms = COALESCE(proven_ms, $3) WHERE id = $2",
        )?
        .execute(params![Word(address), Word(account.as_str()), millis(now)])?;
    note(connection, account, AccountEventKind::Proven, None, now)?;
    Ok(true)
}

fn recover(
    connection: &Connection,
    account: &AccountId,
    key: &RecoveredKey,
    now: Timestamp,
) -> Result<bool, Failure> {
    let may = connection
        .numbered("SELECT 1 FROM accounts WHERE id = $1 AND address_ms IS NOT NULL AND blocked_ms IS NULL")?
        .exists([Word(account.as_str())])?;
    if !may {
        return Ok(false);
    }
    let mut kind = AccountEventKind::Recovered;
    if key.revokes_others {
        kind = AccountEventKind::RecoveredAndRevoked;
        connection
            .numbered("UPDATE api_keys SET revoked_ms = $2 WHERE account = $1 AND revoked_ms IS NULL")?
            .execute(params![Word(account.as_str()), millis(now)])?;
    }
    let RecoveredKey { hash, hint, id, .. } = key;
    let plain = NewKey::plain(*hash, account.clone(), hint.as_str());
    insert_key(connection, &NewKey { id: id.clone(), name: "recovered".to_owned(), ..plain }, now)?;
    note(connection, account, kind, Some(id), now)?;
    Ok(true)
}

fn note(
    connection: &Connection,
    account: &AccountId,
    kind: AccountEventKind,
    key: Option<&KeyId>,
    now: Timestamp,
) -> Result<(), Failure> {
    connection
        .numbered("INSERT INTO account_events (account, at_ms, event, key_id) VALUES ($1, $2, $3, $4)")?
        .execute(params![
            Word(account.as_str()),
            millis(now),
            kind.word(),
            key.map(|key| Word(key.as_str()))
        ])?;
    Ok(())
}
