//! Reserves what jobs may cost and settles what they do cost, within the transactions that accept and end them. What an
//! account and its keys spent changes only under the lock of the account's count (`waiting`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Error, Row, Statement};

use super::pool::execute_over;
use super::values::{count, flag, get, job_id, whole};
use infera_ledger::stored::Usage;
use infera_ledger::stored::charging::{Purse, StoredCharge, month, over_limit};
use infera_ledger::{LedgerError, NewJob, OverLimit};
use infera_types::ids::{AccountId, JobId, KeyId};
use infera_types::money::Price;

/// Finds what accounts and their keys (empty: no key) may spend and spent in months: account, key, month, whether the account
/// pays, its limit, what it used, the key's limit, what the key used.
pub(super) const FUNDS: &str = "SELECT asked.account, asked.key, asked.month, COALESCE(accounts.pays, 0::smallint),
        accounts.spend_limit, COALESCE(of_account.reserved + of_account.spent, 0),
        api_keys.spend_limit, COALESCE(of_key.reserved + of_key.spent, 0)
    FROM unnest($1::text[], $2::text[], $3::bigint[]) AS asked (account, key, month)
        LEFT JOIN accounts ON accounts.id = asked.account
        LEFT JOIN api_keys ON api_keys.id = asked.key
        LEFT JOIN spending AS of_account ON of_account.subject = asked.account AND of_account.month = asked.month
        LEFT JOIN spending AS of_key ON of_key.subject = asked.key AND of_key.month = asked.month";

/// Stores what jobs may cost.
pub(super) const INSERT_CHARGES: &str =
    "INSERT INTO charges (job_id, month, prompt_price, completion_price, reserved, is_paid)
    SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::smallint[])";

/// Adds to what is reserved and spent, in the order in which the rows are locked. What is given back is a negative number.
pub(super) const ADD_SPENDING: &str = "INSERT INTO spending (subject, month, reserved, spent)
    SELECT subject, month, reserved, spent
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS more (subject, month, reserved, spent)
    ON CONFLICT (subject, month) DO UPDATE SET reserved = spending.reserved + excluded.reserved,
        spent = spending.spent + excluded.spent";

/// Finds the charges of jobs: job, month, prices, what is reserved, key.
pub(super) const CHARGES: &str =
    "SELECT charges.job_id, charges.month, prompt_price, completion_price, reserved, jobs.key_id
    FROM charges JOIN jobs ON jobs.id = charges.job_id WHERE charges.job_id = ANY($1)";

/// Records what ended jobs cost.
pub(super) const SETTLE_CHARGES: &str = "UPDATE charges SET cost = ended.cost
    FROM unnest($1::bytea[], $2::bigint[]) AS ended (job_id, cost) WHERE charges.job_id = ended.job_id";

/// What accounts and keys may spend and used, by their ids and months, while a batch is decided.
#[derive(Clone, Default)]
pub(super) struct Funds {
    purses: HashMap<(String, u64), Purse>,
    paying: HashSet<String>,
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
            funds.purses.insert((account, month), purse(row, 4)?);
            if !key.is_empty() {
                funds.purses.insert((key, month), purse(row, 6)?);
            }
        }
        Ok(funds)
    }

    /// Returns whether an account pays.
    pub(super) fn pays(&self, account: &AccountId) -> bool {
        self.paying.contains(account.as_str())
    }

    /// Reserves what a job may cost, or returns why that isn't possible.
    pub(super) fn reserve(&mut self, job: &NewJob) -> Option<OverLimit> {
        let needed = job.charge.as_ref()?.reserved();
        let month = month(job.accepted_ms);
        let of_account = (job.account.as_str().to_owned(), month);
        let of_key = job.key.as_ref().map(|key| (key.as_str().to_owned(), month));
        let account = self.purses.get(&of_account).copied().unwrap_or_default();
        let key = of_key.as_ref().map(|key| self.purses.get(key).copied().unwrap_or_default());
        let over = over_limit(needed, key, account);
        if over.is_none() {
            for subject in [Some(of_account), of_key].into_iter().flatten() {
                let purse = self.purses.entry(subject).or_default();
                purse.used = purse.used.saturating_add(needed);
            }
        }
        over
    }
}

fn purse(row: &Row, index: usize) -> Result<Purse, LedgerError> {
    let limit = get::<Option<i64>>(row, index)?.map(|limit| u64::try_from(limit).unwrap_or(0));
    Ok(Purse { limit, used: count(row, index + 1)? })
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
}

impl ChargeColumns<'_> {
    /// Stores the charges, if there are any.
    pub(super) async fn insert(&self, client: &ClientWrapper, statement: &Statement) -> Result<(), Error> {
        let Self { jobs, months, prompts, completions, reserved, paid } = self;
        execute_over(client, jobs.len(), statement, &[jobs, months, prompts, completions, reserved, paid])
            .await
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
        for subject in [Some(account.as_str()), charge.key.as_deref()].into_iter().flatten() {
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

/// Returns what is stored for new jobs that may cost something; each comes with whether its account pays.
pub(super) fn reservations<'a>(
    jobs: impl Iterator<Item = (&'a NewJob, bool)>,
) -> (ChargeColumns<'a>, SpendingColumns) {
    let (mut columns, mut spending) = (ChargeColumns::default(), SpendingColumns::default());
    for (job, is_paid) in jobs {
        let Some(charge) = &job.charge else { continue };
        let (month, reserved) = (whole(month(job.accepted_ms)), whole(charge.reserved()));
        columns.jobs.push(job.id.as_bytes());
        columns.months.push(month);
        columns.prompts.push(whole(charge.price.prompt));
        columns.completions.push(whole(charge.price.completion));
        columns.reserved.push(reserved);
        columns.paid.push(i16::from(is_paid));
        for subject in [Some(job.account.as_str()), job.key.as_ref().map(KeyId::as_str)].into_iter().flatten()
        {
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
            key: get(row, 5)?,
        })
    };
    rows.iter().map(|row| charge(row).map(|charge| (charge.job, charge))).collect()
}

/// The columns of what ended jobs cost.
#[derive(Default)]
pub(super) struct CostColumns {
    jobs: Vec<Vec<u8>>,
    costs: Vec<i64>,
}

impl CostColumns {
    /// Adds a job with this usage and returns what it costs.
    pub(super) fn push(&mut self, charge: &StoredCharge, usage: Option<&Usage>) -> u64 {
        let cost = charge.cost(usage);
        self.jobs.push(charge.job.as_bytes().to_vec());
        self.costs.push(whole(cost));
        cost
    }

    /// Records the costs, if there are any.
    pub(super) async fn settle(&self, client: &ClientWrapper, statement: &Statement) -> Result<(), Error> {
        execute_over(client, self.jobs.len(), statement, &[&self.jobs, &self.costs]).await
    }
}

/// Reads a price from column `index` (for prompts) and the next one (for answers), if the row has one.
pub(super) fn optional_price(row: &Row, index: usize) -> Result<Option<Price>, LedgerError> {
    if get::<Option<i64>>(row, index)?.is_none() {
        return Ok(None);
    }
    Ok(Some(Price { prompt: count(row, index)?, completion: count(row, index + 1)? }))
}
