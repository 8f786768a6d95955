//! Takes orders to erase text and carries them out, some jobs at a time, so that no statement waits long for their rows. What
//! the database keeps of old rows until it vacuums, and in its own log, is its operator's.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::scheduling::queue_again;
use super::segments;
use super::settling::with_group;
use super::values::{count, flag, get, job_id, millis, optional_time, small, time, word};
use infera_ledger::statements::{ACCOUNT_ERASURE, JOB_ERASURE, OPEN_ORDER};
use infera_ledger::stored::EndForms;
use infera_ledger::without_text::BareRows;
use infera_ledger::{
    AccountErasure, Erasing, ErasureOrdered, ErasureOrders, ErasureStage, ExpiredSegment, JobErasure,
    JobState, LedgerError, PENDING_MAX, ReplacedObject, Replacement, RewritableSegment, SegmentChanges,
    erasure_reason, erasure_step, job_state, order_account,
};
use infera_types::ids::{AccountId, JobId, SegmentId};
use infera_types::time::Timestamp;

/// How many jobs one statement erases. Each is read whole: a request of half a megabyte at most, and a group whose replicas came in
/// messages of a megabyte at most each.
const JOBS_AT_ONCE: u32 = 32;

/// Orders the erasure of a job (`$1`) of an account (`$2`, or any if it is null) at `$3`, and returns the job's state.
const ORDER_JOB: &str = concat!(
    "WITH found AS MATERIALIZED (
        SELECT id, account, state FROM jobs WHERE id = $1 AND ($2::text IS NULL OR account = $2)),
    queued AS (
        INSERT INTO erasures (job_id, account, salt, asked_ms, due_ms, reason, step)
        SELECT id, account, uuid_send(gen_random_uuid()), $3::bigint, $3::bigint, ",
    erasure_reason!(ordered),
    ", ",
    erasure_step!(set),
    " FROM found WHERE state = ",
    job_state!(ended),
    queue_again!(),
    ")
    SELECT state FROM found"
);

/// Creates an account's count, so that there is a row to lock.
const MAKE_WAITING: &str = "INSERT INTO waiting (account, jobs) SELECT id, 0 FROM accounts WHERE id = $1
    ON CONFLICT (account) DO NOTHING";

/// Orders the erasure of an account's jobs. Accepting holds the lock of the account's count until its commit: jobs that are being
/// accepted are committed before the order is, so that looking for jobs finds them, and later ones see the order by themselves.
const ORDER_ACCOUNT: &str = concat!(
    "WITH locked AS MATERIALIZED (SELECT account FROM waiting WHERE account = $1 FOR UPDATE) ",
    order_account!("accounts JOIN locked ON locked.account = accounts.id")
);

/// Looks at some of an account's jobs behind `$2`: queues the erasure of those that have ended, and has the end of the others
/// do so. The rows are locked, so that no job ends in between.
const FIND_ORDERED: &str = concat!(
    "WITH listed AS MATERIALIZED (
        SELECT job_id FROM job_lists WHERE account = $1 AND job_id > $2 ORDER BY job_id LIMIT $3),
    locked AS MATERIALIZED (
        SELECT id, state FROM jobs WHERE id IN (SELECT job_id FROM listed) AND accepted_ms <= $4
        ORDER BY id FOR UPDATE),
    queued AS (
        INSERT INTO erasures (job_id, account, salt, asked_ms, due_ms, reason, step)
        SELECT id, $1::text, uuid_send(gen_random_uuid()), $5::bigint, $5::bigint, ",
    erasure_reason!(ordered),
    ", ",
    erasure_step!(set),
    " FROM locked WHERE state = ",
    job_state!(ended),
    queue_again!(),
    "),
    flagged AS (
        UPDATE jobs SET erase_after_ms = 0 FROM locked WHERE jobs.id = locked.id AND locked.state < ",
    job_state!(ended),
    "),
    counted AS (
        SELECT (SELECT COUNT(*) FROM listed) AS looked_at,
            (SELECT COUNT(*) FROM locked WHERE state = ",
    job_state!(ended),
    ") AS found,
            (SELECT COUNT(*) FROM locked WHERE state < ",
    job_state!(ended),
    ") AS live,
            (SELECT job_id FROM listed ORDER BY job_id DESC LIMIT 1) AS last)
    UPDATE account_erasures SET behind = COALESCE(counted.last, behind), found = account_erasures.found + counted.found,
        live = account_erasures.live + counted.live,
        is_walked = CASE WHEN counted.looked_at < $3 THEN 1 ELSE 0 END
    FROM counted WHERE account = $1 AND behind = $2 RETURNING counted.looked_at"
);

/// Finds jobs whose time has come, with their texts; a settlement and its group are read from the first columns. Nothing may be
/// compared with the answer any more: no replica that is late, and, once there are audits, none of those.
const DUE: &str = concat!(
    "SELECT erasures.job_id, settlement, settlements.hash, record, groups.hash, salt, request
    FROM erasures JOIN settlements ON settlements.job_id = erasures.job_id JOIN jobs ON jobs.id = erasures.job_id
        LEFT JOIN groups ON groups.job_id = erasures.job_id AND length(groups.record) > 0
    WHERE step = ",
    erasure_step!(set),
    " AND due_ms <= $1 AND NOT EXISTS (
        SELECT 1 FROM groups AS open WHERE open.job_id = erasures.job_id AND open.is_closed + 0 = 0)
    ORDER BY due_ms, erasures.job_id LIMIT $2"
);

/// Erases texts. Rows are locked in the order in which a settlement locks them: jobs, then accounts' counts, then totals. What
/// no segment claimed with its text needs no rewriting.
const ERASE: &str = concat!(
    "WITH given AS MATERIALIZED (
        SELECT * FROM unnest($1::bytea[], $2::text[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[])
            AS given (job_id, settlement, hash, record, record_hash, request_hash, answer_hash)),
    chosen AS MATERIALIZED (
        SELECT id AS job_id, account, retention_days, COALESCE(octet_length(request), 0)::bigint AS bytes
        FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE),
    freed AS MATERIALIZED (SELECT account, SUM(bytes)::bigint AS bytes FROM chosen GROUP BY account),
    locked AS MATERIALIZED (
        SELECT account FROM waiting WHERE account IN (SELECT account FROM freed) ORDER BY account FOR UPDATE),
    counted AS (
        UPDATE waiting SET bytes = waiting.bytes - freed.bytes FROM locked JOIN freed USING (account)
        WHERE waiting.account = locked.account),
    totalled AS (
        INSERT INTO totals (name, share, value)
        SELECT 'body_bytes', $9::smallint, -SUM(bytes)::bigint FROM locked JOIN freed USING (account) HAVING COUNT(*) > 0
        ON CONFLICT (name, share) DO UPDATE SET value = totals.value + excluded.value),
    emptied AS (
        UPDATE jobs SET request = NULL, request_hash = NULL, erased_ms = $8 FROM chosen WHERE jobs.id = chosen.job_id),
    ended AS (
        UPDATE settlements SET settlement = given.settlement, hash = given.hash FROM given
        WHERE settlements.job_id = given.job_id),
    bared AS (
        UPDATE groups SET record = given.record, hash = given.record_hash FROM given
        WHERE groups.job_id = given.job_id AND given.record IS NOT NULL),
    ungrouped AS (DELETE FROM groups USING given WHERE groups.job_id = given.job_id AND given.hash IS NULL),
    unkeyed AS (DELETE FROM idempotency USING given WHERE idempotency.job_id = given.job_id),
    unlabelled AS (
        UPDATE job_lists SET metadata = NULL FROM chosen
        WHERE job_lists.account = chosen.account AND job_lists.job_id = chosen.job_id),
    claimable AS (
        UPDATE records SET retention_days = chosen.retention_days FROM chosen
        WHERE records.job_id = chosen.job_id AND records.retention_days < 0),
    archived AS MATERIALIZED (
        SELECT records.job_id FROM records JOIN segments ON segments.id = records.segment
        WHERE records.job_id = ANY($1) AND segments.removed_ms IS NULL)
    UPDATE erasures SET request_hash = given.request_hash, answer_hash = given.answer_hash,
        step = CASE WHEN given.job_id IN (SELECT job_id FROM archived) THEN ",
    erasure_step!(bare),
    " ELSE ",
    erasure_step!(done),
    " END,
        done_ms = CASE WHEN given.job_id IN (SELECT job_id FROM archived) THEN NULL ELSE $8 END
    FROM given WHERE erasures.job_id = given.job_id AND erasures.step = ",
    erasure_step!(set),
    " RETURNING 1"
);

#[async_trait]
impl ErasureOrders for PostgresLedger {
    async fn erase_job(
        &self,
        account: Option<&AccountId>,
        job: JobId,
        now: Timestamp,
    ) -> Result<ErasureOrdered, LedgerError> {
        let owner = account.map(|account| word(account.as_str())).transpose()?;
        let rows = self.pool.put(ORDER_JOB, &[&&job.as_bytes()[..], &owner, &millis(now)]).await?;
        let Some(row) = rows.first() else { return Ok(ErasureOrdered::Unknown) };
        if JobState::of_number(get::<i16>(row, 0)?.into()) != JobState::Ended {
            return Ok(ErasureOrdered::NotEnded);
        }
        let found = self.job_erasure(account, job, now).await?;
        Ok(found.map_or(ErasureOrdered::Unknown, ErasureOrdered::Ordered))
    }

    async fn job_erasure(
        &self,
        account: Option<&AccountId>,
        job: JobId,
        now: Timestamp,
    ) -> Result<Option<JobErasure>, LedgerError> {
        let account = account.map(|account| word(account.as_str())).transpose()?;
        let row = self.pool.query_opt(JOB_ERASURE, &[&&job.as_bytes()[..], &account]).await?;
        let Some(row) = row else { return Ok(None) };
        let (due_ms, done_ms) = (optional_time(&row, 2)?, optional_time(&row, 3)?);
        let stage = match (get::<Option<i16>>(&row, 1)?, due_ms) {
            (Some(step), Some(due_ms)) => ErasureStage::of(step.into(), due_ms, now),
            _ => ErasureStage::Kept,
        };
        Ok(Some(JobErasure { job, stage, due_ms, done_ms }))
    }

    async fn erase_account(
        &self,
        account: &AccountId,
        now: Timestamp,
    ) -> Result<Option<AccountErasure>, LedgerError> {
        let name = word(account.as_str())?;
        self.pool.put(MAKE_WAITING, &[&name]).await?;
        self.pool.put(ORDER_ACCOUNT, &[&name, &millis(now)]).await?;
        self.account_erasure(account, now).await
    }

    async fn account_erasure(
        &self,
        account: &AccountId,
        now: Timestamp,
    ) -> Result<Option<AccountErasure>, LedgerError> {
        let (name, max) = (word(account.as_str())?, i64::from(PENDING_MAX));
        let row = self.pool.query_opt(ACCOUNT_ERASURE, &[&name, &millis(now), &max]).await?;
        let erasure = |row| {
            Ok(AccountErasure {
                account: account.clone(),
                asked_ms: time(&row, 0)?,
                is_walked: flag(&row, 1)?,
                found: count(&row, 2)?,
                live: count(&row, 3)?,
                pending: small(&row, 4)?.min(PENDING_MAX),
            })
        };
        row.map(erasure).transpose()
    }
}

#[async_trait]
impl Erasing for PostgresLedger {
    async fn find_ordered(&self, limit: u32, now: Timestamp) -> Result<u32, LedgerError> {
        let Some(order) = self.pool.query_opt(OPEN_ORDER, &[]).await? else { return Ok(0) };
        let (account, behind): (String, Vec<u8>) = (get(&order, 0)?, get(&order, 2)?);
        let asked_ms: i64 = get(&order, 1)?;
        let rows = self
            .pool
            .put(FIND_ORDERED, &[&account, &behind, &i64::from(limit), &asked_ms, &millis(now)])
            .await?;
        // No row: the outcome of a first try was unknown, and it had been done.
        let looked_at = rows.first().map_or(Ok(1), |row| small(row, 0))?;
        Ok(looked_at.max(1))
    }

    async fn erase_text(&self, limit: u32, now: Timestamp) -> Result<u32, LedgerError> {
        let mut erased = 0;
        while erased < limit {
            let jobs = self.erase_some(JOBS_AT_ONCE.min(limit - erased), now).await?;
            if jobs == 0 {
                break;
            }
            erased += jobs;
        }
        Ok(erased)
    }

    async fn rewritable(
        &self,
        limit: u32,
        erased_by: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<RewritableSegment>, LedgerError> {
        segments::rewritable(&self.pool, limit, (erased_by, now)).await
    }

    async fn end_erasures(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        segments::end_erasures(&self.pool, jobs, now).await
    }

    async fn postpone(&self, segment: SegmentId, until: Timestamp) -> Result<(), LedgerError> {
        segments::postpone(&self.pool, segment, until).await
    }
}

#[async_trait]
impl SegmentChanges for PostgresLedger {
    async fn replace(&self, replacement: &Replacement) -> Result<bool, LedgerError> {
        segments::replace(&self.pool, replacement).await
    }

    async fn replaced(&self, limit: u32) -> Result<Vec<ReplacedObject>, LedgerError> {
        segments::replaced(&self.pool, limit).await
    }

    async fn forget_replaced(&self, segment: SegmentId, now: Timestamp) -> Result<(), LedgerError> {
        segments::forget_replaced(&self.pool, segment, now).await
    }

    async fn expired(&self, limit: u32, now: Timestamp) -> Result<Vec<ExpiredSegment>, LedgerError> {
        segments::expired(&self.pool, limit, now).await
    }

    async fn segment_removed(&self, segment: SegmentId, now: Timestamp) -> Result<(), LedgerError> {
        segments::removed(&self.pool, segment, now).await
    }
}

/// A job that is to be erased, as it is stored without text.
struct Bare {
    job: JobId,
    rows: BareRows,
}

impl PostgresLedger {
    async fn erase_some(&self, limit: u32, now: Timestamp) -> Result<u32, LedgerError> {
        let rows = self.pool.query(DUE, &[&millis(now), &i64::from(limit)]).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let bare =
            rows.iter().map(|row| bare(row, self.packing.end_forms())).collect::<Result<Vec<_>, _>>()?;
        let settlement = |bare: &Bare| {
            bare.rows.settlement.as_ref().and_then(|row| row.settlement.plain().map(str::to_owned))
        };
        let jobs: Vec<&[u8]> = bare.iter().map(|bare| &bare.job.as_bytes()[..]).collect();
        let settlements: Vec<String> =
            bare.iter().map(|bare| settlement(bare).unwrap_or_else(|| "{}".to_owned())).collect();
        let hashes: Vec<Option<&[u8]>> = bare
            .iter()
            .map(|bare| bare.rows.settlement.as_ref().map(|row| &row.hash.as_bytes()[..]))
            .collect();
        let records: Vec<Option<&[u8]>> =
            bare.iter().map(|bare| group_of(bare).map(|group| &group.record[..])).collect();
        let record_hashes: Vec<Option<&[u8]>> =
            bare.iter().map(|bare| group_of(bare).map(|group| &group.hash.as_bytes()[..])).collect();
        let requests: Vec<Option<&[u8]>> =
            bare.iter().map(|bare| bare.rows.request.as_ref().map(|hash| &hash.as_bytes()[..])).collect();
        let answers: Vec<Option<&[u8]>> =
            bare.iter().map(|bare| bare.rows.answer.as_ref().map(|hash| &hash.as_bytes()[..])).collect();
        let values: super::pool::Parameters<'_> = &[
            &jobs,
            &settlements,
            &hashes,
            &records,
            &record_hashes,
            &requests,
            &answers,
            &millis(now),
            &self.share,
        ];
        self.pool.put(ERASE, values).await?;
        Ok(u32::try_from(bare.len()).unwrap_or(u32::MAX))
    }
}

fn group_of(bare: &Bare) -> Option<&infera_ledger::stored::GroupRow> {
    bare.rows.settlement.as_ref()?.group.as_ref()
}

/// Reads a row of [`DUE`] and takes the text out of it.
fn bare(row: &Row, forms: EndForms) -> Result<Bare, LedgerError> {
    let job = job_id(row, 0)?;
    let settlement = match with_group(row) {
        Ok(settlement) => Some(settlement),
        Err(LedgerError::Row(problem)) => {
            tracing::error!(%job, problem, "a job's end can't be read; it is overwritten, because its text is to be erased");
            None
        }
        Err(error) => return Err(error),
    };
    let request: Option<&[u8]> = get(row, 6)?;
    let rows = BareRows::of(request, settlement.as_ref(), (segments::salt(row, 5)?, forms))?;
    Ok(Bare { job, rows })
}
