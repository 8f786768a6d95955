//! Reads lists of jobs, and their ends in order. Ends can be read from the commit on: the one writing thread commits
//! their numbers in order.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteLedger;
use super::failure::Failure;
use super::reader::view;
use super::values::{Blob, Numbered as _, Word, count, job_id, small, time, whole};
use infera_ledger::listing::{Listing, edge, metadata_of};
use infera_ledger::stored::packing::content_bytes;
use infera_ledger::stored::{kept, of_job, readable};
use infera_ledger::{
    EndKind, EndsCursor, EndsQuestion, EndsReady, JobLists, JobPage, JobState, JobsQuestion, LedgerError,
    ListedJob, MANY_MAX, NumberedEnd,
};
use infera_types::ids::{AccountId, JobId, ModelName};

/// The columns that [`listed_job`] reads.
const LISTED: &str = "SELECT job_lists.job_id, jobs.model, jobs.state, jobs.ended_as, jobs.accepted_ms,
        jobs.deadline_ms, settlements.settled_ms, job_lists.metadata, jobs.erase_after_ms, jobs.erased_ms
    FROM job_lists JOIN jobs ON jobs.id = job_lists.job_id
        LEFT JOIN settlements ON settlements.job_id = job_lists.job_id
    WHERE job_lists.account = $1";

#[async_trait]
impl JobLists for SqliteLedger {
    async fn list(&self, question: &JobsQuestion) -> Result<JobPage, LedgerError> {
        let question = question.clone();
        self.read(move |connection| list(connection, &question)).await
    }

    async fn listed(&self, account: &AccountId, jobs: &[JobId]) -> Result<Vec<ListedJob>, LedgerError> {
        let (account, jobs) = (account.clone(), jobs.to_vec());
        self.read(move |connection| {
            let mut statement = connection.numbered_once(&format!("{LISTED} AND job_lists.job_id = $2"))?;
            let mut found = Vec::with_capacity(jobs.len());
            for job in &jobs {
                let row = statement
                    .query_row(params![Word(account.as_str()), job.blob()], |row| Ok(listed_job(row)))
                    .optional()?;
                found.extend(row.transpose()?);
            }
            Ok(found)
        })
        .await
    }

    async fn ends(&self, question: &EndsQuestion) -> Result<Vec<NumberedEnd>, LedgerError> {
        let question = question.clone();
        self.read(move |connection| ends(connection, &question)).await
    }

    async fn ends_ready(&self, cursors: &[EndsCursor]) -> Result<Vec<EndsReady>, LedgerError> {
        let cursors = cursors.to_vec();
        self.read(move |connection| cursors.iter().map(|cursor| ready(connection, cursor)).collect()).await
    }
}

fn list(connection: &Connection, question: &JobsQuestion) -> Result<JobPage, Failure> {
    let (comparison, order) = if question.newest_first { ("<", "DESC") } else { (">", "ASC") };
    let sql =
        format!("{LISTED} AND job_lists.job_id {comparison} $2 ORDER BY job_lists.job_id {order} LIMIT $3");
    let mut statement = connection.numbered_once(&sql)?;
    let mut listing = Listing::begin(&question.filter, question.after, question.limit);
    while let Some((wanted, after)) = listing.wants() {
        let after = after.as_ref().map_or(edge(question.newest_first), Blob::blob);
        let mut rows = statement.query(params![Word(question.account.as_str()), after, wanted])?;
        let mut jobs = Vec::new();
        while let Some(row) = rows.next()? {
            jobs.push(listed_job(row)?);
        }
        listing.take(jobs);
    }
    Ok(listing.page())
}

fn listed_job(row: &Row<'_>) -> Result<ListedJob, Failure> {
    let settled_ms: Option<i64> = row.get(6)?;
    let metadata: Option<String> = row.get(7)?;
    Ok(ListedJob {
        id: job_id(row, 0)?,
        model: ModelName::new(row.get::<_, String>(1)?),
        state: JobState::of_number(row.get(2)?),
        end: row.get::<_, Option<i64>>(3)?.and_then(EndKind::of_number),
        accepted_ms: time(row, 4)?,
        deadline_ms: time(row, 5)?,
        settled_ms: settled_ms.map(|_| time(row, 6)).transpose()?,
        metadata: metadata_of(metadata.as_deref())?,
        kept: kept(row.get(8)?, row.get(9)?),
    })
}

fn ends(connection: &Connection, question: &EndsQuestion) -> Result<Vec<NumberedEnd>, Failure> {
    let mut statement = connection.numbered(
        "SELECT number, ends.job_id, COALESCE(octet_length(settlement), 0),
             substr(CAST(settlement AS BLOB), 1, 11)
         FROM ends LEFT JOIN settlements ON settlements.job_id = ends.job_id
         WHERE account = $1 AND number > $2 ORDER BY number LIMIT $3",
    )?;
    let limit = question.limit.min(MANY_MAX);
    let mut rows = statement.query(params![Word(question.account.as_str()), whole(question.after), limit])?;
    let (mut ends, mut bytes) = (Vec::new(), 0_u64);
    while let Some(row) = rows.next()? {
        // What is read is as large as what was packed.
        let unpacked = row.get::<_, Option<Vec<u8>>>(3)?.and_then(|first| content_bytes(&first));
        bytes = bytes.saturating_add(count(row, 2)?.max(unpacked.unwrap_or(0)));
        if bytes > question.bytes_max && !ends.is_empty() {
            break;
        }
        let (number, job) = (count(row, 0)?, job_id(row, 1)?);
        let read = view(connection, &question.account, job).map_err(|error| of_job(job, error.into()));
        ends.push(NumberedEnd { number, job, view: readable([read])?.pop().flatten() });
    }
    Ok(ends)
}

fn ready(connection: &Connection, cursor: &EndsCursor) -> Result<EndsReady, Failure> {
    let account = Word(cursor.account.as_str());
    let counted = connection
        .numbered("SELECT COUNT(*) FROM (SELECT 1 FROM ends WHERE account = $1 AND number > $2 LIMIT $3)")?
        .query_row(params![&account, whole(cursor.after), MANY_MAX], |row| small(row, 0))?;
    let latest: Option<i64> = connection
        .numbered("SELECT MAX(number) FROM ends WHERE account = $1")?
        .query_row([&account], |row| row.get(0))?;
    let live = connection
        .numbered("SELECT jobs FROM waiting WHERE account = $1")?
        .query_row([&account], |row| small(row, 0))
        .optional()?;
    Ok(EndsReady {
        ends: counted,
        latest: latest.and_then(|number| u64::try_from(number).ok()).unwrap_or(0),
        live: live.unwrap_or(0),
    })
}
