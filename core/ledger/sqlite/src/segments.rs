//! The archive's segments once they are written: which are to be rewritten without text, which objects are to be removed, and
//! which are past their retention.

use rusqlite::{Connection, params};

use super::failure::Failure;
use super::pruning::places;
use super::values::{Blob, Numbered as _, Word, job_id, millis, small, time, whole};
use infera_ledger::statements::{ERASED_IN_SEGMENT, EXPIRED, POSTPONE, REPLACED, REWRITABLE};
use infera_ledger::{
    ErasedJob, ExpiredSegment, RecordPlace, ReplacedObject, Replacement, RewritableSegment, Salt,
    erasure_step,
};
use infera_types::ids::{JobId, SegmentId};
use infera_types::time::Timestamp;

/// Records that a segment's new object lacks the text of a job (`$1`). It was due before it was erased, also if it was put off since.
const REPLACED_TEXT: &str = concat!(
    "UPDATE erasures SET step = ",
    erasure_step!(replaced),
    ", due_ms = MIN(due_ms, COALESCE((SELECT erased_ms FROM jobs WHERE jobs.id = erasures.job_id), due_ms))
    WHERE job_id = $1 AND step = ",
    erasure_step!(bare)
);

pub(super) fn rewritable(
    connection: &Connection,
    limit: u32,
    (erased_by, now): (Timestamp, Timestamp),
) -> Result<Vec<RewritableSegment>, Failure> {
    let mut statement = connection.numbered(REWRITABLE)?;
    let found = statement.query_map(params![millis(now), limit, millis(erased_by)], |row| {
        Ok((SegmentId::from_bytes(row.get(0)?), row.get::<_, String>(1)?, small(row, 2)?))
    })?;
    let found: Vec<(SegmentId, String, u32)> = found.collect::<rusqlite::Result<_>>()?;
    let whole = |(segment, key, rewrites)| {
        let (places, erased) = (places(connection, segment)?, erased_in(connection, segment)?);
        Ok(RewritableSegment { segment, key, rewrites, places, erased })
    };
    found.into_iter().map(whole).collect()
}

fn erased_in(connection: &Connection, segment: SegmentId) -> Result<Vec<ErasedJob>, Failure> {
    let mut statement = connection.numbered(ERASED_IN_SEGMENT)?;
    let jobs = statement.query_map([segment.blob()], |row| {
        Ok(ErasedJob { job: job_id(row, 0)?, salt: Salt::from_bytes(row.get(1)?), erased_ms: time(row, 2)? })
    })?;
    Ok(jobs.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn replace(connection: &Connection, replacement: &Replacement) -> Result<bool, Failure> {
    let Replacement { segment, old_key, key, places, erased } = replacement;
    let replaced = connection
        .numbered(
            "UPDATE segments SET object_key = $3, old_key = $2, rewrites = rewrites + 1
             WHERE id = $1 AND object_key = $2 AND old_key IS NULL AND removed_ms IS NULL",
        )?
        .execute(params![segment.blob(), Word(old_key), Word(key)])?;
    if replaced == 0 {
        return Ok(false);
    }
    write_places(connection, places)?;
    for job in erased {
        connection.numbered(REPLACED_TEXT)?.execute([job.blob()])?;
    }
    Ok(true)
}

/// Writes where a segment's records are.
pub(super) fn write_places(connection: &Connection, places: &[RecordPlace]) -> Result<(), Failure> {
    let mut statement = connection.numbered(
        "UPDATE records SET frame_offset = $2, frame_length = $3, line = $4, hash = $5 WHERE job_id = $1",
    )?;
    for place in places {
        statement.execute(params![
            place.job.blob(),
            whole(place.frame_offset),
            whole(place.frame_length),
            place.index,
            place.hash.blob()
        ])?;
    }
    Ok(())
}

pub(super) fn replaced(connection: &Connection, limit: u32) -> Result<Vec<ReplacedObject>, Failure> {
    let mut statement = connection.numbered(REPLACED)?;
    let found = statement.query_map([limit], |row| {
        let (key, present): (String, String) = (row.get(1)?, row.get(2)?);
        Ok(ReplacedObject { segment: SegmentId::from_bytes(row.get(0)?), is_in_use: key == present, key })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn forget_replaced(
    connection: &Connection,
    segment: SegmentId,
    now: Timestamp,
) -> Result<(), Failure> {
    connection.numbered("UPDATE segments SET old_key = NULL WHERE id = $1")?.execute([segment.blob()])?;
    connection
        .numbered(concat!(
            "UPDATE erasures SET step = ",
            erasure_step!(done),
            ", done_ms = $2 WHERE step = ",
            erasure_step!(replaced),
            " AND job_id IN (
                 SELECT job_id FROM records WHERE segment = $1)"
        ))?
        .execute(params![segment.blob(), millis(now)])?;
    Ok(())
}

pub(super) fn end_erasures(connection: &Connection, jobs: &[JobId], now: Timestamp) -> Result<(), Failure> {
    let sql = concat!(
        "UPDATE erasures SET step = ",
        erasure_step!(done),
        ", done_ms = $2 WHERE job_id = $1 AND step = ",
        erasure_step!(bare)
    );
    let mut statement = connection.numbered(sql)?;
    for job in jobs {
        statement.execute(params![job.blob(), millis(now)])?;
    }
    Ok(())
}

pub(super) fn postpone(connection: &Connection, segment: SegmentId, until: Timestamp) -> Result<(), Failure> {
    connection.numbered(POSTPONE)?.execute(params![segment.blob(), millis(until)])?;
    Ok(())
}

pub(super) fn expired(
    connection: &Connection,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<ExpiredSegment>, Failure> {
    let mut statement = connection.numbered(EXPIRED)?;
    let found = statement.query_map(params![millis(now), limit], |row| {
        Ok(ExpiredSegment {
            segment: SegmentId::from_bytes(row.get(0)?),
            key: row.get(1)?,
            old_key: row.get(2)?,
            rewrites: small(row, 3)?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn removed(connection: &Connection, segment: SegmentId, now: Timestamp) -> Result<(), Failure> {
    connection
        .numbered("UPDATE segments SET removed_ms = $2, old_key = NULL WHERE id = $1 AND removed_ms IS NULL")?
        .execute(params![segment.blob(), millis(now)])?;
    connection
        .numbered(concat!(
            "UPDATE erasures SET step = ",
            erasure_step!(done),
            ", done_ms = $2 WHERE step IN (",
            erasure_step!(bare),
            ", ",
            erasure_step!(replaced),
            ") AND job_id IN (
                 SELECT job_id FROM records WHERE segment = $1)"
        ))?
        .execute(params![segment.blob(), millis(now)])?;
    Ok(())
}
