//! Deletes archived groups and bodies, some at a time, so that no statement waits long for their rows.

use async_trait::async_trait;

use super::PostgresLedger;
use super::segments::places;
use super::values::{flag, get, millis, segment_id};
use infera_ledger::stored::latest;
use infera_ledger::{ArchivedSegment, LedgerError, Pruning};
use infera_types::ids::SegmentId;
use infera_types::time::Timestamp;

/// How many jobs one statement prunes.
const JOBS_AT_ONCE: i64 = 128;

/// How many records are searched for prunable segments, per segment asked for. A segment's records lie together, so
/// that a segment of the usual thousand is found by its first record.
const RECORDS_PER_SEGMENT: i64 = 2_048;

/// Finds old records whose `is_pruned` is this, at most `$2`. Each number has an index.
macro_rules! old_records {
    ($state:literal) => {
        concat!(
            "(SELECT segment, settled_ms FROM records WHERE hash IS NOT NULL AND is_pruned = ",
            $state,
            " AND settled_ms < $1 AND segment <> ALL($5) ORDER BY settled_ms LIMIT $2)"
        )
    };
}

/// Finds the segments of old records. A record that was settled by a clock ahead of time does not keep others from being
/// pruned.
macro_rules! old_segments {
    ($($old:expr),+) => {
        concat!(
            "WITH old AS (", $($old),+, ")
    SELECT segments.id, object_key
    FROM (SELECT segment, MIN(settled_ms) AS oldest FROM old GROUP BY segment) AS found
        JOIN segments ON segments.id = found.segment
    WHERE object_key IS NOT NULL AND old_key IS NULL AND removed_ms IS NULL AND NOT EXISTS (
        SELECT 1 FROM records WHERE records.segment = segments.id AND settled_ms BETWEEN $1 AND $4)
    ORDER BY oldest, segments.id LIMIT $3"
        )
    };
}

const WITH_GROUPS: &str = old_segments!(old_records!("0"));
const WITH_BODIES: &str = old_segments!(old_records!("0"), " UNION ALL ", old_records!("3"));

/// Deletes jobs' groups.
const UNGROUP: &str = "WITH chosen AS MATERIALIZED (
        SELECT job_id FROM records WHERE segment = $1 AND hash IS NOT NULL AND is_pruned = 0
        ORDER BY job_id LIMIT $2 FOR UPDATE),
    ungrouped AS (DELETE FROM groups USING chosen WHERE groups.job_id = chosen.job_id AND is_closed = 1)
    UPDATE records SET is_pruned = 3 FROM chosen WHERE records.job_id = chosen.job_id RETURNING 1";

/// Prunes jobs. Rows are locked in the order in which a settlement locks them: jobs, then accounts' counts, then
/// totals.
const PRUNE: &str = "WITH chosen AS MATERIALIZED (
        SELECT records.job_id, account, COALESCE(octet_length(request), 0)::bigint AS bytes
        FROM records JOIN jobs ON jobs.id = records.job_id
        WHERE segment = $1 AND hash IS NOT NULL AND is_pruned IN (0, 3)
        ORDER BY records.job_id LIMIT $2 FOR UPDATE),
    freed AS MATERIALIZED (SELECT account, SUM(bytes)::bigint AS bytes FROM chosen GROUP BY account),
    locked AS MATERIALIZED (
        SELECT account FROM waiting WHERE account IN (SELECT account FROM freed) ORDER BY account FOR UPDATE),
    counted AS (
        UPDATE waiting SET bytes = waiting.bytes - freed.bytes FROM locked JOIN freed USING (account)
        WHERE waiting.account = locked.account),
    totalled AS (
        INSERT INTO totals (name, share, value)
        SELECT 'body_bytes', $3::smallint, -SUM(bytes)::bigint FROM locked JOIN freed USING (account) HAVING COUNT(*) > 0
        ON CONFLICT (name, share) DO UPDATE SET value = totals.value + excluded.value),
    emptied AS (UPDATE jobs SET request = NULL, request_hash = NULL FROM chosen WHERE jobs.id = chosen.job_id),
    ungrouped AS (DELETE FROM groups USING chosen WHERE groups.job_id = chosen.job_id AND is_closed = 1),
    unkeyed AS (DELETE FROM idempotency USING chosen WHERE idempotency.job_id = chosen.job_id)
    UPDATE records SET is_pruned = 1 FROM chosen WHERE records.job_id = chosen.job_id RETURNING 1";

/// Keeps a segment in one statement, so that what it finds is what it changes. A segment that becomes unfinished will be written under
/// its first key, so that an object with another key is to be removed then.
const KEEP: &str = "WITH found AS MATERIALIZED (
        SELECT EXISTS (SELECT 1 FROM records WHERE segment = $1 AND is_pruned IN (1, 3)) AS has_pruned),
    kept AS (UPDATE records SET is_pruned = 2 FROM found WHERE has_pruned AND segment = $1 AND is_pruned IN (0, 3)),
    displaced AS (
        UPDATE records SET frame_offset = NULL, frame_length = NULL, line = NULL, hash = NULL
        FROM found WHERE NOT has_pruned AND segment = $1),
    reopened AS (
        UPDATE segments SET object_key = NULL, old_key = CASE WHEN rewrites > 0 THEN object_key ELSE old_key END
        FROM found WHERE NOT has_pruned AND id = $1 AND object_key IS NOT NULL)
    SELECT has_pruned::int::smallint FROM found";

#[async_trait]
impl Pruning for PostgresLedger {
    async fn ungroupable(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: u32,
        without: &[SegmentId],
    ) -> Result<Vec<ArchivedSegment>, LedgerError> {
        self.old_segments(WITH_GROUPS, (before, now), (limit, without)).await
    }

    async fn ungroup(&self, segment: SegmentId) -> Result<u64, LedgerError> {
        let id = &segment.as_bytes()[..];
        let mut ungrouped = 0;
        loop {
            let jobs = self.pool.change(UNGROUP, &[&id, &JOBS_AT_ONCE]).await?.len();
            if jobs == 0 {
                return Ok(ungrouped);
            }
            ungrouped += u64::try_from(jobs).unwrap_or(u64::MAX);
        }
    }

    async fn prunable(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: u32,
        without: &[SegmentId],
    ) -> Result<Vec<ArchivedSegment>, LedgerError> {
        self.old_segments(WITH_BODIES, (before, now), (limit, without)).await
    }

    async fn prune(&self, segment: SegmentId) -> Result<u64, LedgerError> {
        let id = &segment.as_bytes()[..];
        let mut pruned = 0;
        loop {
            let jobs = self.pool.change(PRUNE, &[&id, &JOBS_AT_ONCE, &self.share]).await?.len();
            if jobs == 0 {
                return Ok(pruned);
            }
            pruned += u64::try_from(jobs).unwrap_or(u64::MAX);
        }
    }

    async fn keep(&self, segment: SegmentId) -> Result<bool, LedgerError> {
        let rows = self.pool.put(KEEP, &[&&segment.as_bytes()[..]]).await?;
        let has_pruned = rows.first().map(|row| flag(row, 0)).transpose()?;
        Ok(!has_pruned.unwrap_or(false))
    }
}

impl PostgresLedger {
    /// Finds segments by one of the statements above.
    async fn old_segments(
        &self,
        sql: &'static str,
        (before, now): (Timestamp, Timestamp),
        (limit, without): (u32, &[SegmentId]),
    ) -> Result<Vec<ArchivedSegment>, LedgerError> {
        let (limit, latest) = (i64::from(limit), millis(latest(now)));
        let records = limit * RECORDS_PER_SEGMENT;
        let without: Vec<&[u8]> = without.iter().map(|segment| &segment.as_bytes()[..]).collect();
        let mut segments = Vec::new();
        for row in &self.pool.query(sql, &[&millis(before), &records, &limit, &latest, &without]).await? {
            let (segment, key) = (segment_id(row, 0)?, get(row, 1)?);
            segments.push(ArchivedSegment { segment, key, places: places(&self.pool, segment).await? });
        }
        Ok(segments)
    }
}
