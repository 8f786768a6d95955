//! Deletes archived groups and bodies, some at a time, so that settlements never wait long behind it.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::SqliteLedger;
use super::failure::Failure;
use super::space;
use super::values::{Blob, Numbered as _, Word, count, digest, job_id, millis, small, whole};
use infera_ledger::statements::RECORD_PLACES;
use infera_ledger::stored::latest;
use infera_ledger::{ArchivedSegment, LedgerError, Pruning, RecordPlace};
use infera_types::ids::{JobId, SegmentId};
use infera_types::time::Timestamp;

/// How many jobs one operation of the writer prunes.
const JOBS_AT_ONCE: usize = 128;

/// Bytes of bodies and groups that one operation frees, unless one job has more: some milliseconds of reading pages.
const BYTES_AT_ONCE: u64 = 8 * 1024 * 1024;

/// How many records are searched for prunable segments, per segment asked for. A segment's records lie together, so
/// that a segment of the usual thousand is found by its first record.
const RECORDS_PER_SEGMENT: u32 = 2_048;

/// Finds old records whose `is_pruned` is this, at most `$2`. Each number has an index.
macro_rules! old_records {
    ($state:literal) => {
        concat!(
            "SELECT * FROM (SELECT segment, settled_ms FROM records
                 WHERE hash IS NOT NULL AND is_pruned = ",
            $state,
            " AND settled_ms < $1 AND hex(segment) NOT IN (SELECT value FROM json_each($5))
                 ORDER BY settled_ms LIMIT $2)"
        )
    };
}

/// Finds the segments of old records. A record that was settled by a clock ahead of time does not keep others from being pruned.
macro_rules! old_segments {
    ($($old:expr),+) => {
        concat!(
            "WITH old AS (", $($old),+, ")
             SELECT segments.id, object_key FROM (SELECT segment, MIN(settled_ms) AS oldest FROM old GROUP BY segment)
                 JOIN segments ON segments.id = segment
             WHERE object_key IS NOT NULL AND old_key IS NULL AND removed_ms IS NULL AND NOT EXISTS (
                 SELECT 1 FROM records WHERE records.segment = segments.id AND settled_ms BETWEEN $1 AND $4)
             ORDER BY oldest, segments.id LIMIT $3"
        )
    };
}

const WITH_GROUPS: &str = old_segments!(old_records!("0"));
const WITH_BODIES: &str = old_segments!(old_records!("0"), " UNION ALL ", old_records!("3"));

#[async_trait]
impl Pruning for SqliteLedger {
    async fn ungroupable(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: u32,
        without: &[SegmentId],
    ) -> Result<Vec<ArchivedSegment>, LedgerError> {
        let without = json_list(without)?;
        self.read(move |connection| old_segments(connection, WITH_GROUPS, (before, now), (limit, &without)))
            .await
    }

    async fn ungroup(&self, segment: SegmentId) -> Result<u64, LedgerError> {
        self.by_portions(segment, ungroup_some).await
    }

    async fn prunable(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: u32,
        without: &[SegmentId],
    ) -> Result<Vec<ArchivedSegment>, LedgerError> {
        let without = json_list(without)?;
        self.read(move |connection| old_segments(connection, WITH_BODIES, (before, now), (limit, &without)))
            .await
    }

    async fn prune(&self, segment: SegmentId) -> Result<u64, LedgerError> {
        self.by_portions(segment, prune_some).await
    }

    async fn keep(&self, segment: SegmentId) -> Result<bool, LedgerError> {
        self.write(move |connection| keep(connection, segment)).await
    }
}

impl SqliteLedger {
    /// Deletes of a segment's jobs what `some` does, a transaction for each portion so that other writes come between, and gives
    /// the file's free pages back. Returns the number of jobs.
    async fn by_portions(
        &self,
        segment: SegmentId,
        some: fn(&Connection, SegmentId) -> Result<u64, Failure>,
    ) -> Result<u64, LedgerError> {
        let mut all = 0;
        loop {
            let jobs = self.write(move |connection| some(connection, segment)).await?;
            if jobs == 0 {
                break;
            }
            all += jobs;
        }
        while self.write(space::give_back).await? {}
        Ok(all)
    }
}

/// Returns segments' ids as a JSON list of hexadecimal digits, in upper case as SQLite writes them.
fn json_list(segments: &[SegmentId]) -> Result<String, LedgerError> {
    let digits = |segment: &SegmentId| format!("{:032X}", u128::from_be_bytes(*segment.as_bytes()));
    let list: Vec<String> = segments.iter().map(digits).collect();
    serde_json::to_string(&list).map_err(|error| LedgerError::Row(error.to_string()))
}

/// Finds segments by one of the statements above; `without` is the list of those that are passed over.
fn old_segments(
    connection: &Connection,
    sql: &'static str,
    (before, now): (Timestamp, Timestamp),
    (limit, without): (u32, &str),
) -> Result<Vec<ArchivedSegment>, Failure> {
    let mut statement = connection.numbered(sql)?;
    let records = limit.saturating_mul(RECORDS_PER_SEGMENT);
    let values = params![millis(before), records, limit, millis(latest(now)), without];
    let found = statement.query_map(values, |row| Ok((SegmentId::from_bytes(row.get(0)?), row.get(1)?)))?;
    let found: Vec<(SegmentId, String)> = found.collect::<rusqlite::Result<_>>()?;
    let segment = |(segment, key)| Ok(ArchivedSegment { segment, key, places: places(connection, segment)? });
    found.into_iter().map(segment).collect()
}

/// Returns the places of a segment's records.
pub(super) fn places(connection: &Connection, segment: SegmentId) -> Result<Vec<RecordPlace>, Failure> {
    let mut statement = connection.numbered(RECORD_PLACES)?;
    let places = statement.query_map([segment.blob()], |row| {
        Ok(RecordPlace {
            job: job_id(row, 0)?,
            frame_offset: count(row, 1)?,
            frame_length: count(row, 2)?,
            index: small(row, 3)?,
            hash: digest(row, 4)?,
        })
    })?;
    Ok(places.collect::<rusqlite::Result<_>>()?)
}

/// Deletes the groups of some of a segment's jobs, and returns of how many.
fn ungroup_some(connection: &Connection, segment: SegmentId) -> Result<u64, Failure> {
    let jobs = unpruned(connection, segment, "0")?;
    for Unpruned { job, .. } in &jobs {
        connection.numbered(DELETE_GROUP)?.execute([job.blob()])?;
        connection.numbered("UPDATE records SET is_pruned = 3 WHERE job_id = $1")?.execute([job.blob()])?;
    }
    Ok(u64::try_from(jobs.len()).unwrap_or(u64::MAX))
}

/// Prunes some of a segment's jobs, and returns how many.
fn prune_some(connection: &Connection, segment: SegmentId) -> Result<u64, Failure> {
    let jobs = unpruned(connection, segment, "0, 3")?;
    for Unpruned { job, account, body_bytes } in &jobs {
        free_body(connection, account, *body_bytes)?;
        connection
            .numbered("UPDATE jobs SET request = NULL, request_hash = NULL WHERE id = $1")?
            .execute([job.blob()])?;
        connection.numbered(DELETE_GROUP)?.execute([job.blob()])?;
        connection.numbered("DELETE FROM idempotency WHERE job_id = $1")?.execute([job.blob()])?;
        connection.numbered("UPDATE records SET is_pruned = 1 WHERE job_id = $1")?.execute([job.blob()])?;
    }
    Ok(u64::try_from(jobs.len()).unwrap_or(u64::MAX))
}

const DELETE_GROUP: &str = "DELETE FROM groups WHERE job_id = $1 AND is_closed = 1";

/// Counts a body of an account that goes.
pub(super) fn free_body(connection: &Connection, account: &str, body_bytes: u64) -> Result<(), Failure> {
    connection
        .numbered("UPDATE waiting SET bytes = bytes - $2 WHERE account = $1")?
        .execute(params![Word(account), whole(body_bytes)])?;
    connection
        .numbered("UPDATE totals SET value = value - $1 WHERE name = 'body_bytes'")?
        .execute([whole(body_bytes)])?;
    Ok(())
}

/// A job whose group or body may be deleted.
struct Unpruned {
    job: JobId,
    account: String,
    body_bytes: u64,
}

/// Returns as many jobs as one operation prunes, of those whose `is_pruned` is one of `states`; none once all are pruned.
fn unpruned(connection: &Connection, segment: SegmentId, states: &str) -> Result<Vec<Unpruned>, Failure> {
    let sql = format!(
        "SELECT records.job_id, account, COALESCE(length(request), 0), COALESCE(length(record), 0) FROM records
             JOIN jobs ON jobs.id = records.job_id LEFT JOIN groups ON groups.job_id = records.job_id
         WHERE records.segment = $1 AND records.hash IS NOT NULL AND is_pruned IN ({states})"
    );
    let mut statement = connection.numbered_once(&sql)?;
    let mut rows = statement.query([segment.blob()])?;
    let (mut jobs, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let body_bytes = count(row, 2)?;
        bytes += body_bytes + count(row, 3)?;
        if !jobs.is_empty() && bytes > BYTES_AT_ONCE {
            break;
        }
        jobs.push(Unpruned { job: job_id(row, 0)?, account: row.get(1)?, body_bytes });
        if jobs.len() >= JOBS_AT_ONCE {
            break;
        }
    }
    Ok(jobs)
}

/// Makes a segment unfinished. It will be written under its first key, so that an object with another key is to be removed then.
const REOPEN: &str =
    "UPDATE segments SET object_key = NULL, old_key = CASE WHEN rewrites > 0 THEN object_key ELSE old_key END
    WHERE id = $1 AND object_key IS NOT NULL";

fn keep(connection: &Connection, segment: SegmentId) -> Result<bool, Failure> {
    let has_pruned = connection
        .numbered("SELECT 1 FROM records WHERE segment = $1 AND is_pruned IN (1, 3)")?
        .exists([segment.blob()])?;
    let sql = if has_pruned {
        "UPDATE records SET is_pruned = 2 WHERE segment = $1 AND is_pruned IN (0, 3)"
    } else {
        "UPDATE records SET frame_offset = NULL, frame_length = NULL, line = NULL, hash = NULL WHERE segment = $1"
    };
    connection.numbered(sql)?.execute([segment.blob()])?;
    if !has_pruned {
        connection.numbered(REOPEN)?.execute([segment.blob()])?;
    }
    Ok(!has_pruned)
}
