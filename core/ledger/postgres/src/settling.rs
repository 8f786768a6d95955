//! Ends jobs: the only way for every kind of end, many in one transaction; and reads the ends back. A transaction
//! that ends a job holds the lock of the job's row, so that what it reads stays true until the commit.

mod filling;
mod reading;
mod statements;

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;

use super::charging::{ADD_SPENDING, CHARGES, SpendingColumns, stored_charges};
use super::failure::Failure;
use super::lane::Work;
use super::packing::Packing;
use super::pool::{Pool, execute_over, prepared};
use super::posting::{INSERT_POSTINGS, PostingColumns, SHARE_SEQUENCE};
use super::scheduling::{SCHEDULE, ScheduleColumns};
use super::values::{choice, get, job_id, millis, named, ordered, whole};
use filling::{GroupColumns, fill_and_read};
use infera_ledger::stored::charging::StoredCharge;
use infera_ledger::stored::{Form, GroupRow, SettlementRow, Usage, day, readable};
use infera_ledger::{LedgerError, Settled, job_state};
use infera_types::choice::Choice;
use infera_types::ids::JobId;
use infera_types::job::Settlement;
pub(super) use reading::{settlement, with_group};
pub(super) use statements::ADD_TO_TOTALS;
use statements::{
    COUNT_USAGE, END_JOBS, FREE_KEYS, INSERT_ENDS, INSERT_GROUPS, INSERT_RECORDS, INSERT_SETTLEMENTS,
    LOCK_JOBS, READ, TAKE_FROM_WAITING,
};

/// The amounts that a batch adds to the sums, by name, in the order in which their rows are locked.
#[derive(Default)]
pub(super) struct Totals(BTreeMap<&'static str, u64>);

impl Totals {
    pub(super) fn add(&mut self, name: &'static str, amount: u64) {
        let sum = self.0.entry(name).or_default();
        *sum = sum.saturating_add(amount);
    }

    pub(super) fn columns(&self) -> (Vec<&'static str>, Vec<i64>) {
        self.0.iter().map(|(name, amount)| (*name, whole(*amount))).unzip()
    }
}

/// The lane of [`infera_ledger::JobOwner::settle`] and of cancelling.
pub(super) struct Settling {
    pub(super) share: i16,
    /// The form in which postings are written.
    pub(super) packing: Packing,
}

#[async_trait]
impl Work for Settling {
    type Item = SettlementRow;
    type Outcome = Settled;

    /// Keeps two ends of one job out of the same transaction: the second must read the first.
    fn key(&self, row: &SettlementRow) -> Option<[u8; 16]> {
        Some(*row.job.as_bytes())
    }

    fn weight(&self, row: &SettlementRow) -> usize {
        row.settlement.as_bytes().len() + row.group.as_ref().map_or(0, |group| group.record.len())
    }

    async fn commit(
        &self,
        client: &ClientWrapper,
        rows: &[&SettlementRow],
    ) -> Result<Vec<Result<Settled, LedgerError>>, Failure> {
        let mut known = begin(client, rows).await?;
        let outcomes: Vec<_> = rows.iter().map(|row| known.decide(row)).collect();
        let is_first = |outcome: &Result<Settled, LedgerError>| matches!(outcome, Ok(Settled::Now));
        let ending: Vec<&SettlementRow> = rows
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| is_first(outcome))
            .map(|(row, _)| *row)
            .collect();
        let places: Vec<Option<GroupRow>> = ending.iter().map(|row| known.place(row)).collect();
        let further: Vec<Option<Usage>> = ending.iter().map(|row| known.of_further(row)).collect();
        if ending.is_empty() {
            client.batch_execute("COMMIT").await.map_err(Failure::of_commit)?;
        } else {
            // It holds fourteen statements at once: too large a future to move.
            let columns = Columns::of(&known, &ending, (&places, &further), self.packing.form())?;
            Box::pin(columns.write(client, self.share)).await?;
        }
        Ok(outcomes)
    }
}

struct Live {
    account: String,
    /// Which of its request's answers it is.
    choice: Choice,
    is_running: bool,
    /// The tokens that the job was charged with when it was offered.
    charged: i64,
    /// The time after the job's end at which its text goes, in milliseconds, if it isn't to be stored.
    erase_after_ms: Option<i64>,
    /// The days after which its text goes; 0: never.
    retention_days: i64,
}

/// What the database holds of a batch's jobs.
struct Known {
    live: HashMap<JobId, Live>,
    ended: HashMap<JobId, Settlement>,
    charges: HashMap<JobId, StoredCharge>,
}

impl Known {
    fn decide(&mut self, row: &SettlementRow) -> Result<Settled, LedgerError> {
        if let Some(winner) = self.ended.remove(&row.job) {
            return Ok(Settled::Before(winner));
        }
        match self.live.get(&row.job) {
            Some(live) if live.account == row.account.as_str() => Ok(Settled::Now),
            _ => Err(LedgerError::Row(format!("{} was never accepted for {}", row.job, row.account))),
        }
    }

    /// Returns what is owed for an answer that isn't its request's first.
    fn of_further(&self, row: &SettlementRow) -> Option<Usage> {
        let choice = self.live.get(&row.job).map_or(Choice::ONLY, |live| live.choice);
        row.usage.as_ref()?.of_further(choice)
    }

    /// Returns the place to keep for the group of a job that is cancelled or expires while its verifier owns it.
    fn place(&self, row: &SettlementRow) -> Option<GroupRow> {
        let is_running = self.live.get(&row.job).is_some_and(|live| live.is_running);
        (row.is_called_off && is_running).then(|| GroupRow::awaited(row.settled_ms))
    }
}

/// Begins the transaction and locks the jobs: one round trip. If some of them have ended before, it fills the places
/// that were kept for their groups and reads their ends: one more round trip.
async fn begin(client: &ClientWrapper, rows: &[&SettlementRow]) -> Result<Known, Failure> {
    let [lock, charges] = prepared(client, [LOCK_JOBS, CHARGES]).await?;
    let jobs: Vec<JobId> = rows.iter().map(|row| row.job).collect();
    let ids = ordered(&jobs);
    let (begun, locked, charges) = tokio::join!(
        biased;
        client.batch_execute("BEGIN"),
        async { client.query(&lock, &[&ids]).await },
        async { client.query(&charges, &[&ids]).await },
    );
    begun?;
    let mut known = Known { live: HashMap::new(), ended: HashMap::new(), charges: HashMap::new() };
    let mut ended = Vec::new();
    for row in &locked? {
        let (job, state): (JobId, i16) = (job_id(row, 0)?, get(row, 2)?);
        if state < job_state!(ended) {
            let is_running = state == job_state!(running);
            let (erase_after_ms, retention_days) = (get(row, 4)?, get(row, 5)?);
            let (account, charged, choice) = (get(row, 1)?, get(row, 3)?, choice(row, 6)?);
            let live = Live { account, choice, is_running, charged, erase_after_ms, retention_days };
            known.live.insert(job, live);
        } else {
            ended.push(job);
        }
    }
    known.charges = stored_charges(&charges?)?;
    if !ended.is_empty() {
        known.ended = fill_and_read(client, rows, &ended).await?;
    }
    Ok(known)
}

/// The jobs of one account that a batch ends.
#[derive(Clone, Copy, Default)]
struct Ended {
    jobs: i64,
    answers: i64,
    /// The tokens of those answers.
    tokens: i64,
    /// The tokens that they and their prompts took beyond what was charged.
    excess: i64,
}

/// The columns of everything that belongs to the ends of a batch.
#[derive(Default)]
struct Columns<'a> {
    jobs: Vec<&'a [u8]>,
    owners: Vec<&'a str>,
    kinds: Vec<i16>,
    settled: Vec<i64>,
    settlements: Vec<&'a str>,
    reasons: Vec<Option<&'static str>>,
    hashes: Vec<&'a [u8]>,
    groups: GroupColumns<'a>,
    records: (Vec<&'a [u8]>, Vec<i64>),
    freed: Vec<Vec<u8>>,
    waiting: BTreeMap<&'a str, Ended>,
    postings: PostingColumns<'a>,
    used: UsageColumns<'a>,
    scheduled: ScheduleColumns<'a>,
    spending: SpendingColumns,
    totals: Totals,
}

/// The columns of answers that are counted.
#[derive(Default)]
struct UsageColumns<'a> {
    jobs: Vec<&'a [u8]>,
    days: Vec<i64>,
    prompts: Vec<i64>,
    completions: Vec<i64>,
    costs: Vec<i64>,
}

impl<'a> Columns<'a> {
    /// Makes the columns. `places` holds the place to keep for each row, or none, and `further` what is owed for it if that is
    /// less than what the row says; `form` is that of postings.
    fn of(
        known: &Known,
        rows: &[&'a SettlementRow],
        (places, further): (&'a [Option<GroupRow>], &'a [Option<Usage>]),
        form: Form,
    ) -> Result<Self, LedgerError> {
        let mut columns = Self::default();
        for ((row, place), further) in rows.iter().zip(places).zip(further) {
            let usage = further.as_ref().or(row.usage.as_ref());
            let (job, settled) = (&row.job.as_bytes()[..], millis(row.settled_ms));
            columns.jobs.push(job);
            columns.owners.push(row.account.as_str());
            columns.kinds.push(row.kind as i16);
            columns.settled.push(settled);
            let plain = row.settlement.plain();
            columns
                .settlements
                .push(plain.ok_or_else(|| LedgerError::Row("a settlement is packed".to_owned()))?);
            columns.reasons.push(row.reason);
            columns.hashes.push(row.hash.as_bytes());
            if let Some(group) = row.group.as_ref().or(place.as_ref()) {
                columns.groups.push(job, group);
            } else {
                columns.records.0.push(job);
                columns.records.1.push(settled);
            }
            if let Some(live) = known.live.get(&row.job) {
                if row.frees_key {
                    columns.freed.push(live.choice.first(row.job).as_bytes().to_vec());
                }
                columns.scheduled.push(row, (live.erase_after_ms, live.retention_days));
            }
            let ended = columns.waiting.entry(row.account.as_str()).or_default();
            ended.jobs += 1;
            columns.totals.add(row.status, 1);
            let cost = known.charges.get(&row.job).map_or(0, |charge| {
                columns.spending.settle(charge, &row.account, usage);
                charge.cost(usage)
            });
            if let Some(whole_usage) = &row.usage {
                // Its nodes computed the prompt too, whoever is charged with it.
                let charged = known.live.get(&row.job).map_or(0, |live| live.charged);
                ended.excess = ended.excess.saturating_add(whole_usage.beyond(charged));
            }
            if let Some(usage) = usage {
                ended.answers += 1;
                ended.tokens = ended.tokens.saturating_add(whole(usage.completion_tokens));
                columns.postings.push(&usage.posting, form)?;
                columns.used.jobs.push(job);
                columns.used.days.push(day(row.settled_ms));
                columns.used.prompts.push(whole(usage.prompt_tokens));
                columns.used.completions.push(whole(usage.completion_tokens));
                columns.used.costs.push(whole(cost));
                columns.totals.add("prompt_tokens", usage.prompt_tokens);
                columns.totals.add("completion_tokens", usage.completion_tokens);
            }
        }
        Ok(columns)
    }

    /// Stores everything and commits: one round trip.
    async fn write(&self, client: &ClientWrapper, share: i16) -> Result<(), Failure> {
        let [settle, end, group, record, wait] = prepared(
            client,
            [INSERT_SETTLEMENTS, END_JOBS, INSERT_GROUPS, INSERT_RECORDS, TAKE_FROM_WAITING],
        )
        .await?;
        let [free, sequence, number, post, count, schedule, total] = prepared(
            client,
            [FREE_KEYS, SHARE_SEQUENCE, INSERT_ENDS, INSERT_POSTINGS, COUNT_USAGE, SCHEDULE, ADD_TO_TOTALS],
        )
        .await?;
        let [spend] = prepared(client, [ADD_SPENDING]).await?;
        let accounts: Vec<&str> = self.waiting.keys().copied().collect();
        let of_each = |value: fn(&Ended) -> i64| -> Vec<i64> { self.waiting.values().map(value).collect() };
        let [ended, answers] = [of_each(|ended| ended.jobs), of_each(|ended| ended.answers)];
        let [tokens, excess] = [of_each(|ended| ended.tokens), of_each(|ended| ended.excess)];
        let (names, amounts) = self.totals.columns();
        let (groups, records, posted, used) = (&self.groups, &self.records, &self.postings, &self.used);
        let scheduled = &self.scheduled;
        let outcomes = tokio::join!(
            biased;
            async { client.execute(&settle, &[&self.jobs, &self.settled, &self.settlements, &self.reasons, &self.hashes]).await.map(drop) },
            async { client.execute(&end, &[&self.jobs, &self.kinds]).await.map(drop) },
            async { execute_over(client, groups.jobs.len(), &group, &[&groups.jobs, &groups.verifiers, &groups.deadlines, &groups.records, &groups.hashes]).await },
            async { execute_over(client, records.0.len(), &record, &[&records.0, &records.1]).await },
            async { client.execute(&wait, &[&accounts, &ended, &answers, &tokens, &excess]).await.map(drop) },
            async { execute_over(client, self.freed.len(), &free, &[&self.freed]).await },
            async { client.execute(&sequence, &[]).await.map(drop) },
            async { client.execute(&number, &[&self.owners, &self.jobs]).await.map(drop) },
            async { posted.append(client, &post).await },
            async { execute_over(client, used.jobs.len(), &count, &[&used.jobs, &used.days, &used.prompts, &used.completions, &used.costs]).await },
            async { execute_over(client, scheduled.jobs.len(), &schedule, &[&scheduled.jobs, &scheduled.owners, &scheduled.asked, &scheduled.due, &scheduled.reasons]).await },
            async { client.execute(&total, &[&names, &share, &amounts]).await.map(drop) },
            async { self.spending.add(client, &spend).await },
            client.batch_execute("COMMIT"),
        );
        let (
            settled,
            ended,
            grouped,
            recorded,
            waited,
            freed,
            shared,
            numbered,
            posted,
            used,
            scheduled,
            added,
            spent,
            committed,
        ) = outcomes;
        // After a failed statement the server answers the COMMIT with a rollback and calls that a success.
        let written = [
            settled, ended, grouped, recorded, waited, freed, shared, numbered, posted, used, scheduled,
            added, spent,
        ];
        for outcome in written {
            outcome.map_err(Failure::before_sent_commit)?;
        }
        committed.map_err(Failure::of_commit)
    }
}

/// Returns the settlements of those of `jobs` that ended, with their groups.
pub(super) async fn read(pool: &Pool, jobs: &[JobId]) -> Result<Vec<Settlement>, LedgerError> {
    let rows = pool.query(READ, &[&ordered(jobs)]).await?;
    rows.iter().map(|row| named(row, with_group)).collect()
}

/// Returns the same, without those that cannot be read.
pub(super) async fn readable_ends(pool: &Pool, jobs: &[JobId]) -> Result<Vec<Settlement>, LedgerError> {
    let rows = pool.query(READ, &[&ordered(jobs)]).await?;
    readable(rows.iter().map(|row| named(row, with_group)))
}

/// Returns the settlement of a job, if it ended, without its group.
pub(super) async fn read_one(pool: &Pool, job: JobId) -> Result<Option<Settlement>, LedgerError> {
    let sql = "SELECT job_id, settlement, hash FROM settlements WHERE job_id = $1";
    let row = pool.query_opt(sql, &[&&job.as_bytes()[..]]).await?;
    row.map(|row| settlement(&row)).transpose()
}
