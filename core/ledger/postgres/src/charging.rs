//! Reserves what jobs may cost and settles what they do cost, within the transactions that accept and end them. What an
//! account and its keys spent changes only under the lock of the account's count (`waiting`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

use super::pool::execute_over;
use super::values::{count, flag, get, job_id, whole};
use infera_ledger::stored::Usage;
use infera_ledger::stored::charging::{Purse, StoredCharge, month, over_limit};
use infera_ledger::{LedgerError, NewJob, OverLimit};
use infera_types::ids::{AccountId, JobId, KeyId};
use infera_types::money::Price;

/// Finds what accounts and their keys (empty: no key) may spend and spent in months: account, key, month, whether the account
/// pays, its limit, what it used, the key's limit, what the key's purse used, and that purse.
pub(super) const FUNDS: &str = "SELECT asked.account, asked.key, asked.month, COALESCE(accounts.pays, 0::smallint),
        accounts.spend_limit, COALESCE(of_account.reserved + of_account.spent, 0),
        api_keys.spend_limit, COALESCE(of_purse.reserved + of_purse.spent, 0), COALESCE(api_keys.purse, asked.key)
    FROM unnest($1::text[], $2::text[], $3::bigint[]) AS asked (account, key, month)
        LEFT JOIN accounts ON accounts.id = asked.account
        LEFT JOIN api_keys ON api_keys.id = asked.key
        LEFT JOIN spending AS of_account ON of_account.subject = asked.account AND of_account.month = asked.month
        LEFT JOIN spending AS of_purse
            ON of_purse.subject = COALESCE(api_keys.purse, asked.key) AND of_purse.month = asked.month";

/// Stores what jobs may cost.
pub(super) const INSERT_CHARGES: &str =
    "INSERT INTO charges (job_id, month, prompt_price, completion_price, reserved, is_paid, purse)
    SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::smallint[],
        $7::text[])";

/// Adds to what is reserved and spent, in the order in which the rows are locked. What is given back is a negative number.
pub(super) const ADD_SPENDING: &str = "INSERT INTO spending (subject, month, reserved, spent)
    SELECT subject, month, reserved, spent
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS more (subject, month, reserved, spent)
    ON CONFLICT (subject, month) DO UPDATE SET reserved = spending.reserved + excluded.reserved,
        spent = spending.spent + excluded.spent";

/// Finds the charges of jobs: job, month, prices, what is reserved, purse.
pub(super) const CHARGES: &str = "SELECT job_id, month, prompt_price, completion_price, reserved, purse
    FROM charges WHERE job_id = ANY($1)";

/// What accounts and keys may spend and used while a batch is decided.
#[derive(Clone, Default)]
pub(super) struct Funds {
    /// The limits, by the ids of accounts and keys.
    limits: HashMap<String, Option<u64>>,
    /// What is used, by the ids of accounts and purses and by the month.
    used: HashMap<(String, u64), u64>,
    /// The purses of keys.
    purses: HashMap<String, String>,
    paying: HashSet<String>,
}

/// The payer of a job.
#[derive(Clone, Debug, Default)]
pub(super) struct Payer {
    /// Whether the account pays.
    is_paid: bool,
    /// The purse of the key, if the job has a key.
    purse: Option<String>,
}

impl Funds {
    /// Reads the rows of [`FUNDS`].
    pub(super) fn of(rows: &[Row]) -> Result<Self, LedgerError> {
        let mut funds = Self::default();
        for row in rows {
            let (account, key, month): (String, String, u64) = (get(row, 0)?, get(row, 1)?, count(row, 2)?);
            if flag(row, 3)? {
                funds.paying.insert(account.clone());
            }
            funds.limits.insert(account.clone(), limit(row, 4)?);
            funds.used.insert((account, month), count(row, 5)?);
            if !key.is_empty() {
                let purse: String = get(row, 8)?;
                funds.limits.insert(key.clone(), limit(row, 6)?);
                funds.used.insert((purse.clone(), month), count(row, 7)?);
                funds.purses.insert(key, purse);
            }
        }
        Ok(funds)
    }

    /// Returns who is charged for a job.
    pub(super) fn payer(&self, job: &NewJob) -> Payer {
        let is_paid = self.paying.contains(job.account.as_str());
        Payer { is_paid, purse: job.key.as_ref().map(|key| self.purse(key).to_owned()) }
    }

    /// Reserves what a job may cost, or returns why that isn't possible.
    pub(super) fn reserve(&mut self, job: &NewJob) -> Option<OverLimit> {
        let needed = job.charge.as_ref()?.reserved();
        let month = month(job.accepted_ms);
        let account = (job.account.as_str().to_owned(), month);
        let purse = job.key.as_ref().map(|key| (self.purse(key).to_owned(), month));
        let of = |limited: &str, spender: &(String, u64)| Purse {
            limit: self.limits.get(limited).copied().flatten(),
            used: self.used.get(spender).copied().unwrap_or_default(),
        };
        let of_key = job.key.as_ref().zip(purse.as_ref()).map(|(key, purse)| of(key.as_str(), purse));
        let over = over_limit(needed, of_key, of(job.account.as_str(), &account));
        if over.is_none() {
            for subject in [Some(account), purse].into_iter().flatten() {
                let used = self.used.entry(subject).or_default();
                *used = used.saturating_add(needed);
            }
        }
        over
    }

    fn purse<'a>(&'a self, key: &'a KeyId) -> &'a str {
        self.purses.get(key.as_str()).map_or(key.as_str(), String::as_str)
    }
}

fn limit(row: &Row, index: usize) -> Result<Option<u64>, LedgerError> {
    Ok(get::<Option<i64>>(row, index)?.map(|limit| u64::try_from(limit).unwrap_or(0)))
}

/// Returns the accounts, keys and months of jobs that may cost something, for [`FUNDS`].
pub(super) fn payers<'a>(jobs: &[&'a NewJob]) -> (Vec<&'a str>, Vec<&'a str>, Vec<i64>) {
    let charged = jobs.iter().filter(|job| job.charge.is_some());
    let payers: BTreeSet<(&str, &str, i64)> = charged
        .map(|job| {
            let key = job.key.as_ref().map_or("", KeyId::as_str);
            (job.account.as_str(), key, whole(month(job.accepted_ms)))
        })
        .collect();
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for (account, key, month) in payers {
        columns.0.push(account);
        columns.1.push(key);
        columns.2.push(month);
    }
    columns
}

/// The columns of charges that are stored.
#[derive(Default)]
pub(super) struct ChargeColumns<'a> {
    jobs: Vec<&'a [u8]>,
    months: Vec<i64>,
    prompts: Vec<i64>,
    completions: Vec<i64>,
    reserved: Vec<i64>,
    paid: Vec<i16>,
    purses: Vec<Option<&'a str>>,
}

impl ChargeColumns<'_> {
    /// Stores the charges, if there are any.
    pub(super) async fn insert(&self, client: &ClientWrapper, statement: &Statement) -> Result<(), Error> {
        let Self { jobs, months, prompts, completions, reserved, paid, purses } = self;
        let columns: [&(dyn ToSql + Sync); 7] = [jobs, months, prompts, completions, reserved, paid, purses];
        execute_over(client, jobs.len(), statement, &columns).await
    }
}

/// The amounts by which what accounts and keys reserved and spent changes, in the order in which their rows are locked.
#[derive(Default)]
pub(super) struct SpendingColumns(BTreeMap<(String, i64), (i64, i64)>);

impl SpendingColumns {
    fn change(&mut self, subject: &str, month: i64, (reserved, spent): (i64, i64)) {
        let sums = self.0.entry((subject.to_owned(), month)).or_default();
        sums.0 = sums.0.saturating_add(reserved);
        sums.1 = sums.1.saturating_add(spent);
    }

    /// Gives back what was reserved for a job of `account` and spends what it costs.
    pub(super) fn settle(&mut self, charge: &StoredCharge, account: &AccountId, usage: Option<&Usage>) {
        let change = (-whole(charge.reserved), whole(charge.cost(usage)));
        for subject in [Some(account.as_str()), charge.purse.as_deref()].into_iter().flatten() {
            self.change(subject, whole(charge.month), change);
        }
    }

    /// Adds the amounts, if there are any.
    pub(super) async fn add(&self, client: &ClientWrapper, statement: &Statement) -> Result<(), Error> {
        let (mut subjects, mut months) = (Vec::new(), Vec::new());
        let (mut reserved, mut spent) = (Vec::new(), Vec::new());
        for ((subject, month), (more_reserved, more_spent)) in &self.0 {
            subjects.push(subject.as_str());
            months.push(*month);
            reserved.push(*more_reserved);
            spent.push(*more_spent);
        }
        execute_over(client, subjects.len(), statement, &[&subjects, &months, &reserved, &spent]).await
    }
}

/// Returns what is stored for new jobs that may cost something; each comes with who is charged.
pub(super) fn reservations<'a>(
    jobs: impl Iterator<Item = (&'a NewJob, &'a Payer)>,
) -> (ChargeColumns<'a>, SpendingColumns) {
    let (mut columns, mut spending) = (ChargeColumns::default(), SpendingColumns::default());
    for (job, payer) in jobs {
        let Some(charge) = &job.charge else { continue };
        let (month, reserved) = (whole(month(job.accepted_ms)), whole(charge.reserved()));
        columns.jobs.push(job.id.as_bytes());
        columns.months.push(month);
        columns.prompts.push(whole(charge.price.prompt));
        columns.completions.push(whole(charge.price.completion));
        columns.reserved.push(reserved);
        columns.paid.push(i16::from(payer.is_paid));
        columns.purses.push(payer.purse.as_deref());
        for subject in [Some(job.account.as_str()), payer.purse.as_deref()].into_iter().flatten() {
            spending.change(subject, month, (reserved, 0));
        }
    }
    (columns, spending)
}

/// Reads the rows of [`CHARGES`].
pub(super) fn stored_charges(rows: &[Row]) -> Result<HashMap<JobId, StoredCharge>, LedgerError> {
    let charge = |row| {
        Ok(StoredCharge {
            job: job_id(row, 0)?,
            month: count(row, 1)?,
            price: Price { prompt: count(row, 2)?, completion: count(row, 3)? },
            reserved: count(row, 4)?,
            purse: get(row, 5)?,
        })
    };
    rows.iter().map(|row| charge(row).map(|charge| (charge.job, charge))).collect()
}

/// Reads a price from column `index` (for prompts) and the next one (for answers), if the row has one.
pub(super) fn optional_price(row: &Row, index: usize) -> Result<Option<Price>, LedgerError> {
    if get::<Option<i64>>(row, index)?.is_none() {
        return Ok(None);
    }
    Ok(Some(Price { prompt: count(row, index)?, completion: count(row, index + 1)? }))
}
