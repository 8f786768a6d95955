//! Reserves what jobs may cost and settles what they do cost, within the transactions that accept and end them.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::failure::Failure;
use super::values::{Blob, Numbered as _, Word, count, whole};
use infera_ledger::stored::charging::{Purse, StoredCharge, month, over_limit};
use infera_ledger::stored::{SettlementRow, Usage};
use infera_ledger::{Charge, NewJob, OverLimit};
use infera_types::money::Price;

/// Whether a job may be accepted for what it may cost.
pub(super) enum Admitted {
    /// It costs nothing.
    Free,
    /// It may, and what it may cost is to be reserved.
    Charged(Payer),
    /// It may not.
    Over(OverLimit),
}

/// The payer of a job.
pub(super) struct Payer {
    /// Whether the account pays.
    is_paid: bool,
    /// The purse of the key, if the job has a key.
    purse: Option<String>,
}

/// Finds what an account (`$1`) and a key (`$2`, or null) may spend and spent in a month (`$3`), and the key's purse.
const FUNDS: &str = "SELECT
        (SELECT pays FROM accounts WHERE id = $1), (SELECT spend_limit FROM accounts WHERE id = $1),
        (SELECT reserved + spent FROM spending WHERE subject = $1 AND month = $3),
        spend_limit, (SELECT reserved + spent FROM spending WHERE subject = purse AND month = $3), purse
    FROM (SELECT (SELECT spend_limit FROM api_keys WHERE id = $2) AS spend_limit,
        COALESCE((SELECT purse FROM api_keys WHERE id = $2), $2) AS purse)";

/// Decides whether a job may be accepted for what it may cost. It writes nothing.
pub(super) fn admit(connection: &Connection, job: &NewJob) -> Result<Admitted, Failure> {
    let Some(charge) = &job.charge else { return Ok(Admitted::Free) };
    let key = job.key.as_ref().map(|key| Word(key.as_str()));
    let values = params![Word(job.account.as_str()), key, whole(month(job.accepted_ms))];
    let (payer, account, of_key) = connection.numbered(FUNDS)?.query_row(values, |row| {
        let is_paid = row.get::<_, Option<i64>>(0)?.is_some_and(|pays| pays != 0);
        Ok((Payer { is_paid, purse: row.get(5)? }, purse(row, 1)?, purse(row, 3)?))
    })?;
    let over = over_limit(charge.reserved(), job.key.is_some().then_some(of_key), account);
    Ok(over.map_or(Admitted::Charged(payer), Admitted::Over))
}

fn purse(row: &Row<'_>, index: usize) -> rusqlite::Result<Purse> {
    let amount = |index| {
        let stored = row.get::<_, Option<i64>>(index)?;
        Ok::<_, rusqlite::Error>(stored.map(|amount| u64::try_from(amount).unwrap_or(0)))
    };
    Ok(Purse { limit: amount(index)?, used: amount(index + 1)?.unwrap_or(0) })
}

/// Reserves what a job that was just stored may cost.
pub(super) fn reserve(
    connection: &Connection,
    job: &NewJob,
    charge: &Charge,
    payer: &Payer,
) -> Result<(), Failure> {
    let (month, reserved) = (whole(month(job.accepted_ms)), whole(charge.reserved()));
    connection
        .numbered(
            "INSERT INTO charges (job_id, month, prompt_price, completion_price, reserved, is_paid, purse)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )?
        .execute(params![
            job.id.blob(),
            month,
            whole(charge.price.prompt),
            whole(charge.price.completion),
            reserved,
            i64::from(payer.is_paid),
            payer.purse
        ])?;
    for subject in [Some(job.account.as_str()), payer.purse.as_deref()].into_iter().flatten() {
        connection
            .numbered(
                "INSERT INTO spending (subject, month, reserved, spent) VALUES ($1, $2, $3, 0)
                 ON CONFLICT (subject, month) DO UPDATE SET reserved = spending.reserved + excluded.reserved",
            )?
            .execute(params![Word(subject), month, reserved])?;
    }
    Ok(())
}

/// Gives back what was reserved for a job that ends now, and spends what it costs, which is returned; 0 for a job without a
/// charge.
pub(super) fn settle(
    connection: &Connection,
    row: &SettlementRow,
    usage: Option<&Usage>,
) -> Result<u64, Failure> {
    let job = row.job;
    let stored = connection
        .numbered(
            "SELECT month, prompt_price, completion_price, reserved, purse FROM charges WHERE job_id = $1",
        )?
        .query_row([row.job.blob()], |row| {
            Ok(StoredCharge {
                job,
                month: count(row, 0)?,
                price: Price { prompt: count(row, 1)?, completion: count(row, 2)? },
                reserved: count(row, 3)?,
                purse: row.get(4)?,
            })
        })
        .optional()?;
    let Some(charge) = stored else { return Ok(0) };
    let cost = charge.cost(usage);
    for subject in [Some(row.account.as_str()), charge.purse.as_deref()].into_iter().flatten() {
        connection
            .numbered(
                "UPDATE spending SET reserved = reserved - $3, spent = spent + $4 WHERE subject = $1 AND month = $2",
            )?
            .execute(params![Word(subject), whole(charge.month), whole(charge.reserved), whole(cost)])?;
    }
    Ok(cost)
}

/// Reads a price from column `index` (for prompts) and the next one (for answers), if the row has one.
pub(super) fn optional_price(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Price>> {
    if row.get::<_, Option<i64>>(index)?.is_none() {
        return Ok(None);
    }
    Ok(Some(Price { prompt: count(row, index)?, completion: count(row, index + 1)? }))
}
