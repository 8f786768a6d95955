//! The archive's segments once they are written: which are to be rewritten without text, which objects are to be removed, and
//! which are past their retention.

use tokio_postgres::Row;

use super::pool::{Parameters, Pool};
use super::values::{count, digest, get, job_id, millis, ordered, segment_id, small, time, whole, word};
use infera_ledger::statements::{ERASED_IN_SEGMENT, EXPIRED, POSTPONE, RECORD_PLACES, REPLACED, REWRITABLE};
use infera_ledger::{
    ErasedJob, ExpiredSegment, LedgerError, RecordPlace, ReplacedObject, Replacement, RewritableSegment,
    Salt, erasure_step,
};
use infera_types::ids::{JobId, SegmentId};
use infera_types::time::Timestamp;

/// Makes a new object the one of its segment, in one statement, if the old one still is. The texts that it lacks were due before they
/// were erased, also if they were put off since.
const REPLACE: &str = concat!(
    "WITH switched AS (
        UPDATE segments SET object_key = $3, old_key = $2, rewrites = rewrites + 1
        WHERE id = $1 AND object_key = $2 AND old_key IS NULL AND removed_ms IS NULL RETURNING id),
    placed AS (
        UPDATE records SET frame_offset = places.frame_offset, frame_length = places.frame_length,
            line = places.line, hash = places.hash
        FROM switched, unnest($4::bytea[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bytea[])
            AS places (job_id, frame_offset, frame_length, line, hash)
        WHERE records.job_id = places.job_id),
    marked AS (
        UPDATE erasures SET due_ms = LEAST(due_ms, jobs.erased_ms), step = ",
    erasure_step!(replaced),
    "
        FROM switched, jobs WHERE job_id = ANY($9) AND jobs.id = erasures.job_id AND step = ",
    erasure_step!(bare),
    ")
    SELECT 1 FROM switched"
);

const FORGET_REPLACED: &str = concat!(
    "WITH forgotten AS (UPDATE segments SET old_key = NULL WHERE id = $1)
    UPDATE erasures SET done_ms = $2, step = ",
    erasure_step!(done),
    " WHERE step = ",
    erasure_step!(replaced),
    " AND job_id IN (SELECT job_id FROM records WHERE segment = $1) RETURNING 1"
);

const REMOVED: &str = concat!(
    "WITH gone AS (
        UPDATE segments SET removed_ms = $2, old_key = NULL WHERE id = $1 AND removed_ms IS NULL)
    UPDATE erasures SET done_ms = $2, step = ",
    erasure_step!(done),
    " WHERE step IN (",
    erasure_step!(bare),
    ", ",
    erasure_step!(replaced),
    ") AND job_id IN (SELECT job_id FROM records WHERE segment = $1) RETURNING 1"
);

/// Reads a salt from column `index`.
pub(super) fn salt(row: &Row, index: usize) -> Result<Salt, LedgerError> {
    let bytes: &[u8] = get(row, index)?;
    let bytes =
        bytes.try_into().map_err(|_| LedgerError::Row(format!("a salt has {} bytes", bytes.len())))?;
    Ok(Salt::from_bytes(bytes))
}

/// Returns the places of a segment's records.
pub(super) async fn places(pool: &Pool, segment: SegmentId) -> Result<Vec<RecordPlace>, LedgerError> {
    let rows = pool.query(RECORD_PLACES, &[&&segment.as_bytes()[..]]).await?;
    let place = |row| {
        Ok(RecordPlace {
            job: job_id(row, 0)?,
            frame_offset: count(row, 1)?,
            frame_length: count(row, 2)?,
            index: small(row, 3)?,
            hash: digest(row, 4)?,
        })
    };
    rows.iter().map(place).collect()
}

pub(super) async fn rewritable(
    pool: &Pool,
    limit: u32,
    (erased_by, now): (Timestamp, Timestamp),
) -> Result<Vec<RewritableSegment>, LedgerError> {
    let mut found = Vec::new();
    let values: Parameters<'_> = &[&millis(now), &i64::from(limit), &millis(erased_by)];
    for row in &pool.query(REWRITABLE, values).await? {
        let (segment, key, rewrites) = (segment_id(row, 0)?, get(row, 1)?, small(row, 2)?);
        let (places, erased) = (places(pool, segment).await?, erased_in(pool, segment).await?);
        found.push(RewritableSegment { segment, key, rewrites, places, erased });
    }
    Ok(found)
}

async fn erased_in(pool: &Pool, segment: SegmentId) -> Result<Vec<ErasedJob>, LedgerError> {
    let rows = pool.query(ERASED_IN_SEGMENT, &[&&segment.as_bytes()[..]]).await?;
    let job = |row| Ok(ErasedJob { job: job_id(row, 0)?, salt: salt(row, 1)?, erased_ms: time(row, 2)? });
    rows.iter().map(job).collect()
}

/// The columns of places.
pub(super) struct PlaceColumns<'a> {
    pub(super) jobs: Vec<&'a [u8]>,
    pub(super) offsets: Vec<i64>,
    pub(super) lengths: Vec<i64>,
    pub(super) lines: Vec<i64>,
    pub(super) hashes: Vec<&'a [u8]>,
}

impl<'a> PlaceColumns<'a> {
    pub(super) fn of(places: &'a [RecordPlace]) -> Self {
        Self {
            jobs: places.iter().map(|place| &place.job.as_bytes()[..]).collect(),
            offsets: places.iter().map(|place| whole(place.frame_offset)).collect(),
            lengths: places.iter().map(|place| whole(place.frame_length)).collect(),
            lines: places.iter().map(|place| i64::from(place.index)).collect(),
            hashes: places.iter().map(|place| &place.hash.as_bytes()[..]).collect(),
        }
    }
}

pub(super) async fn replace(pool: &Pool, replacement: &Replacement) -> Result<bool, LedgerError> {
    let Replacement { segment, old_key, key, places, erased } = replacement;
    let PlaceColumns { jobs, offsets, lengths, lines, hashes } = PlaceColumns::of(places);
    let (id, old_key, key, erased) = (&segment.as_bytes()[..], word(old_key)?, word(key)?, ordered(erased));
    let values: Parameters<'_> = &[&id, &old_key, &key, &jobs, &offsets, &lengths, &lines, &hashes, &erased];
    Ok(!pool.put(REPLACE, values).await?.is_empty())
}

pub(super) async fn replaced(pool: &Pool, limit: u32) -> Result<Vec<ReplacedObject>, LedgerError> {
    let rows = pool.query(REPLACED, &[&i64::from(limit)]).await?;
    let object = |row| {
        let (key, present): (String, String) = (get(row, 1)?, get(row, 2)?);
        Ok(ReplacedObject { segment: segment_id(row, 0)?, is_in_use: key == present, key })
    };
    rows.iter().map(object).collect()
}

pub(super) async fn forget_replaced(
    pool: &Pool,
    segment: SegmentId,
    now: Timestamp,
) -> Result<(), LedgerError> {
    pool.put(FORGET_REPLACED, &[&&segment.as_bytes()[..], &millis(now)]).await?;
    Ok(())
}

pub(super) async fn end_erasures(pool: &Pool, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
    let sql = concat!(
        "UPDATE erasures SET done_ms = $2, step = ",
        erasure_step!(done),
        " WHERE job_id = ANY($1) AND step = ",
        erasure_step!(bare),
        " RETURNING 1"
    );
    pool.put(sql, &[&ordered(jobs), &millis(now)]).await?;
    Ok(())
}

pub(super) async fn postpone(pool: &Pool, segment: SegmentId, until: Timestamp) -> Result<(), LedgerError> {
    pool.put(POSTPONE, &[&&segment.as_bytes()[..], &millis(until)]).await?;
    Ok(())
}

pub(super) async fn expired(
    pool: &Pool,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<ExpiredSegment>, LedgerError> {
    let rows = pool.query(EXPIRED, &[&millis(now), &i64::from(limit)]).await?;
    let segment = |row| {
        Ok(ExpiredSegment {
            segment: segment_id(row, 0)?,
            key: get(row, 1)?,
            old_key: get(row, 2)?,
            rewrites: small(row, 3)?,
        })
    };
    rows.iter().map(segment).collect()
}

pub(super) async fn removed(pool: &Pool, segment: SegmentId, now: Timestamp) -> Result<(), LedgerError> {
    pool.put(REMOVED, &[&&segment.as_bytes()[..], &millis(now)]).await?;
    Ok(())
}
