//! Reads lists of jobs, and their ends in order. Rows are named by their ids, found in an index of their account first,
//! so that no plan reads a whole table.

use std::collections::HashMap;

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::reader::{VIEWS, view};
use super::values::{count, get, job_id, named, ordered, small, time, whole, word};
use infera_ledger::listing::{Listing, edge, metadata_of};
use infera_ledger::stored::{kept, readable};
use infera_ledger::{
    EndKind, EndsCursor, EndsQuestion, EndsReady, JobLists, JobPage, JobState, JobsQuestion, LedgerError,
    ListedJob, MANY_MAX, NumberedEnd,
};
use infera_types::ids::{AccountId, JobId, ModelName};

/// The columns that [`listed_job`] reads.
const LISTED: &str =
    "SELECT jobs.id, jobs.model, jobs.state, jobs.ended_as, jobs.accepted_ms, jobs.deadline_ms,
        settlements.settled_ms, job_lists.metadata, jobs.erase_after_ms, jobs.erased_ms
    FROM jobs JOIN job_lists ON job_lists.account = jobs.account AND job_lists.job_id = jobs.id
        LEFT JOIN settlements ON settlements.job_id = jobs.id
    WHERE jobs.id = ANY($1) AND jobs.account = $2";

/// The number up to which every end is committed, as the projector found.
macro_rules! shown {
    () => {
        "(SELECT sequence FROM projected WHERE name = 'ends')"
    };
}

const ENDS: &str = concat!(
    "SELECT job_id, number FROM ends WHERE account = $1 AND number > $2 AND number <= ",
    shown!(),
    " ORDER BY number LIMIT $3"
);

/// The sizes of stored ends, which the server knows without reading them.
const SIZES: &str = "SELECT job_id, octet_length(settlement)::bigint FROM settlements WHERE job_id = ANY($1)";

/// A thousand are counted at most: [`MANY_MAX`].
const READY: &str = concat!(
    "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM ends
            WHERE ends.account = asked.account AND number > asked.after AND number <= ",
    shown!(),
    " LIMIT 1000) AS behind),
        COALESCE((SELECT MAX(number) FROM ends WHERE ends.account = asked.account AND number <= ",
    shown!(),
    "), 0),
        COALESCE((SELECT jobs FROM waiting WHERE waiting.account = asked.account), 0)
            + (SELECT COUNT(*) FROM ends WHERE ends.account = asked.account AND number > ",
    shown!(),
    ")
    FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS asked (account, after, place) ORDER BY place"
);

#[async_trait]
impl JobLists for PostgresLedger {
    async fn list(&self, question: &JobsQuestion) -> Result<JobPage, LedgerError> {
        let (comparison, order) = if question.newest_first { ("<", "DESC") } else { (">", "ASC") };
        let sql = format!(
            "SELECT job_id FROM job_lists WHERE account = $1 AND job_id {comparison} $2
             ORDER BY job_id {order} LIMIT $3"
        );
        let account = word(question.account.as_str())?;
        let mut listing = Listing::begin(&question.filter, question.after, question.limit);
        while let Some((wanted, after)) = listing.wants() {
            let after = after.as_ref().map_or(edge(question.newest_first), |after| &after.as_bytes()[..]);
            let rows = self.pool.query(&sql, &[&account, &after, &i64::from(wanted)]).await?;
            let ids = rows.iter().map(|row| job_id(row, 0)).collect::<Result<Vec<_>, _>>()?;
            let mut jobs = self.listed(&question.account, &ids).await?;
            jobs.sort_unstable_by_key(|job| job.id);
            if question.newest_first {
                jobs.reverse();
            }
            listing.take(jobs);
        }
        Ok(listing.page())
    }

    async fn listed(&self, account: &AccountId, jobs: &[JobId]) -> Result<Vec<ListedJob>, LedgerError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.pool.query(LISTED, &[&ordered(jobs), &word(account.as_str())?]).await?;
        rows.iter().map(|row| named(row, listed_job)).collect()
    }

    async fn ends(&self, question: &EndsQuestion) -> Result<Vec<NumberedEnd>, LedgerError> {
        let account = word(question.account.as_str())?;
        let limit = i64::from(question.limit.min(MANY_MAX));
        let rows = self.pool.query(ENDS, &[&account, &whole(question.after), &limit]).await?;
        let mut ends = Vec::with_capacity(rows.len());
        for row in &rows {
            ends.push(NumberedEnd { number: count(row, 1)?, job: job_id(row, 0)?, view: None });
        }
        let ids: Vec<JobId> = ends.iter().map(|end| end.job).collect();
        let sizes = self.sizes(&ids).await?;
        let mut bytes = 0_u64;
        let fitting = ids.iter().take_while(|job| {
            let is_first = bytes == 0;
            bytes = bytes.saturating_add(sizes.get(*job).copied().unwrap_or(0).max(1));
            is_first || bytes <= question.bytes_max
        });
        let fitting = fitting.count();
        ends.truncate(fitting);
        let rows = self.pool.query(VIEWS, &[&ordered(&ids[..fitting]), &account]).await?;
        let views = readable(rows.iter().map(|row| named(row, view)))?;
        let mut views: HashMap<JobId, _> = views.into_iter().map(|view| (view.id, view)).collect();
        for end in &mut ends {
            end.view = views.remove(&end.job);
        }
        Ok(ends)
    }

    async fn ends_ready(&self, cursors: &[EndsCursor]) -> Result<Vec<EndsReady>, LedgerError> {
        let accounts: Vec<&str> =
            cursors.iter().map(|cursor| word(cursor.account.as_str())).collect::<Result<_, _>>()?;
        let after: Vec<i64> = cursors.iter().map(|cursor| whole(cursor.after)).collect();
        let rows = self.pool.query(READY, &[&accounts, &after]).await?;
        let ready =
            |row| Ok(EndsReady { ends: small(row, 0)?, latest: count(row, 1)?, live: small(row, 2)? });
        rows.iter().map(ready).collect()
    }
}

impl PostgresLedger {
    async fn sizes(&self, jobs: &[JobId]) -> Result<HashMap<JobId, u64>, LedgerError> {
        if jobs.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = self.pool.query(SIZES, &[&ordered(jobs)]).await?;
        rows.iter().map(|row| Ok((job_id(row, 0)?, count(row, 1)?))).collect()
    }
}

fn listed_job(row: &Row) -> Result<ListedJob, LedgerError> {
    let settled_ms: Option<i64> = get(row, 6)?;
    Ok(ListedJob {
        id: job_id(row, 0)?,
        model: ModelName::new(get::<String>(row, 1)?),
        state: JobState::of_number(get::<i16>(row, 2)?.into()),
        end: get::<Option<i16>>(row, 3)?.and_then(|number| EndKind::of_number(number.into())),
        accepted_ms: time(row, 4)?,
        deadline_ms: time(row, 5)?,
        settled_ms: settled_ms.map(|_| time(row, 6)).transpose()?,
        metadata: metadata_of(get(row, 7)?)?,
        kept: kept(get(row, 8)?, get(row, 9)?),
    })
}
