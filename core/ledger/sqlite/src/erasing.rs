//! Takes orders to erase text and carries them out, some jobs at a time, so that settlements never wait long behind it. What
//! is freed in the file is overwritten (`opening`), and the log is cut once it is copied (`commits`).

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteLedger;
use super::commits;
use super::failure::Failure;
use super::pruning::free_body;
use super::scheduling::{Queued, queue};
use super::segments;
use super::settling::{FORMS, Groups, read, stored};
use super::space;
use super::values::{Blob, Numbered as _, Word, count, job_id, millis, optional_time, small, time};
use infera_ledger::statements::{ACCOUNT_ERASURE, JOB_ERASURE, OPEN_ORDER};
use infera_ledger::stored::Due;
use infera_ledger::without_text::BareRows;
use infera_ledger::{
    AccountErasure, Erasing, ErasureOrdered, ErasureOrders, ErasureStage, ExpiredSegment, JobErasure,
    JobState, LedgerError, PENDING_MAX, ReplacedObject, Replacement, RewritableSegment, Salt, SegmentChanges,
    erasure_reason, erasure_step, order_account,
};
use infera_types::ids::{AccountId, JobId, SegmentId};
use infera_types::time::Timestamp;

/// How many jobs one operation of the writer erases. Each is read whole: a request of half a megabyte at most, and a group whose
/// replicas came in messages of a megabyte at most each.
const JOBS_AT_ONCE: u32 = 32;

#[async_trait]
impl ErasureOrders for SqliteLedger {
    async fn erase_job(
        &self,
        account: Option<&AccountId>,
        job: JobId,
        now: Timestamp,
    ) -> Result<ErasureOrdered, LedgerError> {
        let account = account.cloned();
        self.write(move |connection| erase_job(connection, account.as_ref(), job, now)).await
    }

    async fn job_erasure(
        &self,
        account: Option<&AccountId>,
        job: JobId,
        now: Timestamp,
    ) -> Result<Option<JobErasure>, LedgerError> {
        let account = account.cloned();
        self.read(move |connection| {
            Ok(job_erasure(connection, account.as_ref(), job, now)?.map(|(_, erasure)| erasure))
        })
        .await
    }

    async fn erase_account(
        &self,
        account: &AccountId,
        now: Timestamp,
    ) -> Result<Option<AccountErasure>, LedgerError> {
        let account = account.clone();
        self.write(move |connection| {
            let values = params![Word(account.as_str()), millis(now)];
            connection.numbered(order_account!("accounts"))?.execute(values)?;
            account_erasure(connection, &account, now)
        })
        .await
    }

    async fn account_erasure(
        &self,
        account: &AccountId,
        now: Timestamp,
    ) -> Result<Option<AccountErasure>, LedgerError> {
        let account = account.clone();
        self.read(move |connection| account_erasure(connection, &account, now)).await
    }
}

#[async_trait]
impl Erasing for SqliteLedger {
    async fn find_ordered(&self, limit: u32, now: Timestamp) -> Result<u32, LedgerError> {
        self.write(move |connection| find_ordered(connection, limit, now)).await
    }

    async fn erase_text(&self, limit: u32, now: Timestamp) -> Result<u32, LedgerError> {
        let mut erased = 0;
        while erased < limit {
            let at_once = JOBS_AT_ONCE.min(limit - erased);
            let jobs = self.write(move |connection| erase_some(connection, at_once, now)).await?;
            if jobs == 0 {
                break;
            }
            erased += jobs;
        }
        while erased > 0 && self.write(space::give_back).await? {}
        Ok(erased)
    }

    async fn rewritable(
        &self,
        limit: u32,
        erased_by: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<RewritableSegment>, LedgerError> {
        self.read(move |connection| segments::rewritable(connection, limit, (erased_by, now))).await
    }

    async fn end_erasures(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        let jobs = jobs.to_vec();
        self.write(move |connection| segments::end_erasures(connection, &jobs, now)).await
    }

    async fn postpone(&self, segment: SegmentId, until: Timestamp) -> Result<(), LedgerError> {
        self.write(move |connection| segments::postpone(connection, segment, until)).await
    }
}

#[async_trait]
impl SegmentChanges for SqliteLedger {
    async fn replace(&self, replacement: &Replacement) -> Result<bool, LedgerError> {
        let replacement = replacement.clone();
        self.write(move |connection| segments::replace(connection, &replacement)).await
    }

    async fn replaced(&self, limit: u32) -> Result<Vec<ReplacedObject>, LedgerError> {
        self.read(move |connection| segments::replaced(connection, limit)).await
    }

    async fn forget_replaced(&self, segment: SegmentId, now: Timestamp) -> Result<(), LedgerError> {
        self.write(move |connection| segments::forget_replaced(connection, segment, now)).await
    }

    async fn expired(&self, limit: u32, now: Timestamp) -> Result<Vec<ExpiredSegment>, LedgerError> {
        self.read(move |connection| segments::expired(connection, limit, now)).await
    }

    async fn segment_removed(&self, segment: SegmentId, now: Timestamp) -> Result<(), LedgerError> {
        self.write(move |connection| segments::removed(connection, segment, now)).await
    }
}

fn queue_order(
    connection: &Connection,
    account: &AccountId,
    job: JobId,
    now: Timestamp,
) -> Result<(), Failure> {
    let now = millis(now);
    let due = Due { due_ms: now, reason: erasure_reason!(ordered) };
    queue(connection, &Queued { job, account, due, asked_ms: now })
}

fn erase_job(
    connection: &Connection,
    account: Option<&AccountId>,
    job: JobId,
    now: Timestamp,
) -> Result<ErasureOrdered, Failure> {
    let Some((state, _)) = job_erasure(connection, account, job, now)? else {
        return Ok(ErasureOrdered::Unknown);
    };
    if state != JobState::Ended {
        return Ok(ErasureOrdered::NotEnded);
    }
    let owner: String = connection
        .numbered("SELECT account FROM jobs WHERE id = $1")?
        .query_row([job.blob()], |row| row.get(0))?;
    queue_order(connection, &AccountId::new(owner), job, now)?;
    let found = job_erasure(connection, account, job, now)?;
    Ok(found.map_or(ErasureOrdered::Unknown, |(_, erasure)| ErasureOrdered::Ordered(erasure)))
}

fn job_erasure(
    connection: &Connection,
    account: Option<&AccountId>,
    job: JobId,
    now: Timestamp,
) -> Result<Option<(JobState, JobErasure)>, Failure> {
    let account = account.map(|account| Word(account.as_str()));
    let found = connection
        .numbered(JOB_ERASURE)?
        .query_row(params![job.blob(), account], |row| {
            let (state, step) = (JobState::of_number(row.get(0)?), row.get::<_, Option<i64>>(1)?);
            let (due_ms, done_ms) = (optional_time(row, 2)?, optional_time(row, 3)?);
            let stage = match (step, due_ms) {
                (Some(step), Some(due_ms)) => ErasureStage::of(step, due_ms, now),
                _ => ErasureStage::Kept,
            };
            Ok((state, JobErasure { job, stage, due_ms, done_ms }))
        })
        .optional()?;
    Ok(found)
}

fn account_erasure(
    connection: &Connection,
    account: &AccountId,
    now: Timestamp,
) -> Result<Option<AccountErasure>, Failure> {
    let found = connection
        .numbered(ACCOUNT_ERASURE)?
        .query_row(params![Word(account.as_str()), millis(now), PENDING_MAX], |row| {
            Ok(AccountErasure {
                account: account.clone(),
                asked_ms: time(row, 0)?,
                is_walked: row.get::<_, i64>(1)? != 0,
                found: count(row, 2)?,
                live: count(row, 3)?,
                pending: small(row, 4)?.min(PENDING_MAX),
            })
        })
        .optional()?;
    Ok(found)
}

/// A job of an account whose erasure was ordered.
struct Candidate {
    job: JobId,
    has_ended: bool,
    /// Whether the order came after its acceptance.
    is_meant: bool,
}

fn find_ordered(connection: &Connection, limit: u32, now: Timestamp) -> Result<u32, Failure> {
    let order = connection
        .numbered(OPEN_ORDER)?
        .query_row([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?)))
        .optional()?;
    let Some((account, asked_ms, behind)) = order else { return Ok(0) };
    let account = AccountId::new(account);
    let candidates = candidates(connection, &account, (asked_ms, &behind, limit))?;
    let (mut found, mut live) = (0_i64, 0_i64);
    for candidate in candidates.iter().filter(|candidate| candidate.is_meant) {
        if candidate.has_ended {
            queue_order(connection, &account, candidate.job, now)?;
            found += 1;
        } else {
            // Its end queues it.
            connection
                .numbered("UPDATE jobs SET erase_after_ms = 0 WHERE id = $1")?
                .execute([candidate.job.blob()])?;
            live += 1;
        }
    }
    let looked_at = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
    let behind = candidates.last().map_or(behind, |last| last.job.blob().to_vec());
    connection
        .numbered(
            "UPDATE account_erasures SET behind = $2, found = found + $3, live = live + $4, is_walked = $5
             WHERE account = $1",
        )?
        .execute(params![Word(account.as_str()), behind, found, live, i64::from(looked_at < limit)])?;
    Ok(looked_at.max(1))
}

fn candidates(
    connection: &Connection,
    account: &AccountId,
    (asked_ms, behind, limit): (i64, &[u8], u32),
) -> Result<Vec<Candidate>, Failure> {
    let mut statement = connection.numbered(
        "SELECT job_lists.job_id, jobs.state, jobs.accepted_ms FROM job_lists JOIN jobs ON jobs.id = job_lists.job_id
         WHERE job_lists.account = $1 AND job_lists.job_id > $2 ORDER BY job_lists.job_id LIMIT $3",
    )?;
    let candidate = |row: &Row<'_>| {
        Ok(Candidate {
            job: job_id(row, 0)?,
            has_ended: JobState::of_number(row.get(1)?) == JobState::Ended,
            is_meant: row.get::<_, i64>(2)? <= asked_ms,
        })
    };
    let rows = statement.query_map(params![Word(account.as_str()), behind, limit], candidate)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Erases the text of some jobs, and returns of how many.
fn erase_some(connection: &Connection, limit: u32, now: Timestamp) -> Result<u32, Failure> {
    // Nothing may be compared with the answer any more: no replica that is late, and, once there are audits, none of those.
    let mut statement = connection.numbered(concat!(
        "SELECT job_id, salt FROM erasures WHERE step = ",
        erasure_step!(set),
        " AND due_ms <= $1 AND NOT EXISTS (
             SELECT 1 FROM groups WHERE groups.job_id = erasures.job_id AND is_closed = 0)
         ORDER BY due_ms, job_id LIMIT $2"
    ))?;
    let found = statement
        .query_map(params![millis(now), limit], |row| Ok((job_id(row, 0)?, Salt::from_bytes(row.get(1)?))))?;
    let jobs: Vec<(JobId, Salt)> = found.collect::<rusqlite::Result<_>>()?;
    for (job, salt) in &jobs {
        erase(connection, *job, *salt, now)?;
    }
    if !jobs.is_empty() {
        commits::wipe_soon();
    }
    Ok(u32::try_from(jobs.len()).unwrap_or(u32::MAX))
}

fn erase(connection: &Connection, job: JobId, salt: Salt, now: Timestamp) -> Result<(), Failure> {
    let (account, request) = connection
        .numbered("SELECT account, request FROM jobs WHERE id = $1")?
        .query_row([job.blob()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<Vec<u8>>>(1)?)))?;
    let settlement = match read(connection, job, Groups::Included).map_err(LedgerError::from) {
        Ok(settlement) => settlement,
        Err(LedgerError::Row(problem)) => {
            tracing::error!(%job, problem, "a job's end can't be read; it is overwritten, because its text is to be erased");
            None
        }
        Err(error) => return Err(error.into()),
    };
    let bare = BareRows::of(request.as_deref(), settlement.as_ref(), (salt, FORMS))?;
    free_body(connection, &account, request.map_or(0, |body| u64::try_from(body.len()).unwrap_or(u64::MAX)))?;
    connection
        .numbered("UPDATE jobs SET request = NULL, request_hash = NULL, erased_ms = $2 WHERE id = $1")?
        .execute(params![job.blob(), millis(now)])?;
    write_bare(connection, job, &bare)?;
    for sql in [
        "DELETE FROM idempotency WHERE job_id = $1",
        "UPDATE records SET retention_days = (SELECT retention_days FROM jobs WHERE id = $1)
         WHERE job_id = $1 AND retention_days < 0",
    ] {
        connection.numbered(sql)?.execute([job.blob()])?;
    }
    connection
        .numbered("UPDATE job_lists SET metadata = NULL WHERE account = $2 AND job_id = $1")?
        .execute(params![job.blob(), Word(&account)])?;
    let [request, answer] = [&bare.request, &bare.answer].map(|hash| hash.as_ref().map(Blob::blob));
    // What no segment claimed with its text needs no rewriting.
    connection
        .numbered(concat!(
            "UPDATE erasures SET request_hash = $2, answer_hash = $3,
                 step = CASE WHEN is_archived THEN ",
            erasure_step!(bare),
            " ELSE ",
            erasure_step!(done),
            " END, done_ms = CASE WHEN is_archived THEN NULL ELSE $4 END
             FROM (SELECT EXISTS (
                 SELECT 1 FROM records JOIN segments ON segments.id = records.segment
                 WHERE records.job_id = $1 AND segments.removed_ms IS NULL) AS is_archived)
             WHERE job_id = $1"
        ))?
        .execute(params![job.blob(), request, answer, millis(now)])?;
    Ok(())
}

/// Writes a job's end and group without text.
fn write_bare(connection: &Connection, job: JobId, bare: &BareRows) -> Result<(), Failure> {
    let Some(row) = &bare.settlement else {
        connection
            .numbered("UPDATE settlements SET settlement = '{}', hash = NULL WHERE job_id = $1")?
            .execute([job.blob()])?;
        connection.numbered("DELETE FROM groups WHERE job_id = $1")?.execute([job.blob()])?;
        return Ok(());
    };
    connection
        .numbered("UPDATE settlements SET settlement = $2, hash = $3 WHERE job_id = $1")?
        .execute(params![job.blob(), stored(&row.settlement), row.hash.blob()])?;
    if let Some(group) = &row.group {
        connection
            .numbered("UPDATE groups SET record = $2, hash = $3 WHERE job_id = $1")?
            .execute(params![job.blob(), group.record, group.hash.blob()])?;
    }
    Ok(())
}
