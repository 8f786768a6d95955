//! The archive's index: which settled records a segment claims, and their places in it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteLedger;
use super::failure::Failure;
use super::postings::{POSTING_COLUMNS, posting};
use super::segments::write_places;
use super::settling::{Groups, read};
use super::values::{
    Blob, Numbered as _, Word, count, digest, job_id, millis, optional_digest, optional_time, small, time,
};
use infera_ledger::statements::{
    CHOOSE_RETENTION, FORGET_EMPTY_SEGMENT, LOCATE_RECORD, REMOVED_RECORD, UNFINISHED_SEGMENTS,
};
use infera_ledger::stored::{
    Gathering, SEGMENT_BYTES, SET_ASIDE, days_ms, latest, request_json, request_of, sound_records,
};
use infera_ledger::{
    ArchiveIndex, ArchivedRecord, ErasedText, LedgerError, Posting, RecordPlace, RemovedRecord, SettledRecord,
};
use infera_types::ids::{JobId, SegmentId};
use infera_types::service::ServiceTier;
use infera_types::time::Timestamp;

#[async_trait]
impl ArchiveIndex for SqliteLedger {
    async fn claim(
        &self,
        segment: SegmentId,
        limit: u32,
        ripe: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<SettledRecord>, LedgerError> {
        self.write(move |connection| claim(connection, segment, limit, (ripe, now))).await?;
        let (records, damaged) = self.read(move |connection| settled_records(connection, segment)).await?;
        if !damaged.is_empty() {
            self.write(move |connection| set_aside(connection, segment, &damaged)).await?;
        }
        Ok(records)
    }

    async fn unfinished(&self, older_than: Timestamp, now: Timestamp) -> Result<Vec<SegmentId>, LedgerError> {
        self.read(move |connection| {
            let mut statement = connection.numbered(UNFINISHED_SEGMENTS)?;
            let times = [millis(older_than), millis(latest(now))];
            let found = statement.query_map(times, |row| row.get(0).map(SegmentId::from_bytes))?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Requires the places of exactly the records that the segment claimed: a record that is left out would never be
    /// archived.
    async fn record(&self, segment: SegmentId, key: &str, places: &[RecordPlace]) -> Result<(), LedgerError> {
        let key = key.to_owned();
        let places = places.to_vec();
        self.write(move |connection| record(connection, segment, &key, &places)).await
    }

    async fn locate(&self, job: JobId) -> Result<Option<ArchivedRecord>, LedgerError> {
        self.read(move |connection| {
            let found = connection
                .numbered(LOCATE_RECORD)?
                .query_row([job.blob()], |row| {
                    let place = RecordPlace {
                        job,
                        frame_offset: count(row, 2)?,
                        frame_length: count(row, 3)?,
                        index: small(row, 4)?,
                        hash: digest(row, 5)?,
                    };
                    Ok(ArchivedRecord {
                        segment: SegmentId::from_bytes(row.get(0)?),
                        key: row.get(1)?,
                        place,
                    })
                })
                .optional()?;
            Ok(found)
        })
        .await
    }

    async fn removed(&self, job: JobId) -> Result<Option<RemovedRecord>, LedgerError> {
        self.read(move |connection| {
            let removed = connection
                .numbered(REMOVED_RECORD)?
                .query_row([job.blob()], |row| {
                    Ok(RemovedRecord { hash: digest(row, 0)?, removed_ms: time(row, 1)? })
                })
                .optional()?;
            Ok(removed)
        })
        .await
    }
}

fn claim(
    connection: &Connection,
    segment: SegmentId,
    limit: u32,
    (ripe, now): (Timestamp, Timestamp),
) -> Result<(), Failure> {
    let is_known = connection.numbered("SELECT 1 FROM segments WHERE id = $1")?.exists([segment.blob()])?;
    if is_known {
        return Ok(());
    }
    let latest = millis(latest(now));
    let (kept, retained) = (Gathering::kept(ripe), Gathering::retained(ripe, now));
    let retention = connection
        .numbered(CHOOSE_RETENTION)?
        .query_row(params![kept.ripe_ms, latest, limit, retained.ripe_ms], |row| row.get::<_, i64>(0))
        .optional()?;
    let Some(retention) = retention else { return Ok(()) };
    let span_ms = if retention > 0 { retained.span_ms } else { kept.span_ms };
    let claimed = connection
        .numbered(
            "UPDATE records SET segment = $1 WHERE job_id IN (
                 SELECT job_id FROM (
                     SELECT job_id, sum(bytes) OVER (ORDER BY settled_ms, job_id) - bytes AS bytes_before FROM (
                         SELECT records.job_id, records.settled_ms,
                             coalesce(length(request), 0) + coalesce(length(record), 0) AS bytes
                         FROM records JOIN jobs ON jobs.id = records.job_id
                             LEFT JOIN groups ON groups.job_id = records.job_id
                         WHERE segment IS NULL AND records.retention_days = $3
                             AND (records.settled_ms > $6 OR records.settled_ms <= $5 + (
                                 SELECT MIN(settled_ms) FROM records AS oldest
                                 WHERE oldest.segment IS NULL AND oldest.retention_days = $3))
                         ORDER BY records.settled_ms, records.job_id LIMIT $2))
                 WHERE bytes_before < $4)",
        )?
        .execute(params![segment.blob(), limit, retention, SEGMENT_BYTES, span_ms, latest])?;
    // An empty segment would stay unfinished for ever.
    if claimed > 0 {
        connection
            .numbered(
                "INSERT INTO segments (id, claimed_ms, retention_days, expires_ms)
                 SELECT $1, $2, $3, CASE WHEN $3 > 0 THEN MIN(MAX(settled_ms), $2) + $4 END
                 FROM records WHERE segment = $1",
            )?
            .execute(params![segment.blob(), millis(now), retention, days_ms(retention)])?;
    }
    Ok(())
}

fn claimed(connection: &Connection, segment: SegmentId) -> Result<Vec<JobId>, Failure> {
    let mut statement =
        connection.numbered("SELECT job_id FROM records WHERE segment = $1 ORDER BY settled_ms, job_id")?;
    let jobs = statement.query_map([segment.blob()], |row| job_id(row, 0))?;
    Ok(jobs.collect::<rusqlite::Result<_>>()?)
}

/// Returns the records that a segment claimed, and the jobs of those that cannot be read.
fn settled_records(
    connection: &Connection,
    segment: SegmentId,
) -> Result<(Vec<SettledRecord>, Vec<JobId>), Failure> {
    let jobs = claimed(connection, segment)?.into_iter();
    Ok(sound_records(jobs.map(|job| (job, settled_record(connection, job).map_err(LedgerError::from))))?)
}

/// Moves records that cannot be archived out of their segment, so that they don't keep the others from the archive.
fn set_aside(connection: &Connection, segment: SegmentId, damaged: &[JobId]) -> Result<(), Failure> {
    let mut statement =
        connection.numbered("UPDATE records SET segment = $3 WHERE job_id = $1 AND segment = $2")?;
    for job in damaged {
        statement.execute(params![job.blob(), segment.blob(), SET_ASIDE.blob()])?;
    }
    connection.numbered(FORGET_EMPTY_SEGMENT)?.execute([segment.blob()])?;
    Ok(())
}

fn settled_record(connection: &Connection, job: JobId) -> Result<SettledRecord, Failure> {
    let (accepted_ms, tier, request, hash, erased) = connection
        .numbered(
            "SELECT accepted_ms, tier, request, jobs.request_hash, erased_ms, erasures.request_hash,
                 erasures.answer_hash
             FROM jobs LEFT JOIN erasures ON erasures.job_id = jobs.id WHERE jobs.id = $1",
        )?
        .query_row([job.blob()], |row| {
            let (accepted_ms, tier) = (time(row, 0)?, ServiceTier::of_number(row.get(1)?));
            let [request, answer] = [optional_digest(row, 5)?, optional_digest(row, 6)?];
            let erased = optional_time(row, 4)?.map(|erased_ms| ErasedText {
                erased_ms,
                request,
                answer,
                record: None,
            });
            Ok((accepted_ms, tier, row.get::<_, Option<Vec<u8>>>(2)?, optional_digest(row, 3)?, erased))
        })?;
    let request = request_of(request, hash)?.map(|body| request_json(&body));
    let settlement = read(connection, job, Groups::Included)?
        .ok_or_else(|| LedgerError::Row(format!("the settlement of {job} is missing")))?;
    let postings = postings(connection, job)?;
    Ok(SettledRecord { job_id: job, accepted_ms, tier, request, settlement, postings, erased })
}

fn postings(connection: &Connection, job: JobId) -> Result<Vec<Posting>, Failure> {
    let sql = format!("SELECT {POSTING_COLUMNS} FROM postings WHERE job_id = $1 ORDER BY sequence");
    let mut statement = connection.numbered_once(&sql)?;
    let mut rows = statement.query([job.blob()])?;
    let mut postings = Vec::new();
    while let Some(row) = rows.next()? {
        postings.push(posting(row)?.1);
    }
    Ok(postings)
}

fn record(
    connection: &Connection,
    segment: SegmentId,
    key: &str,
    places: &[RecordPlace],
) -> Result<(), Failure> {
    let claimed: BTreeSet<JobId> = claimed(connection, segment)?.into_iter().collect();
    let placed: BTreeSet<JobId> = places.iter().map(|place| place.job).collect();
    if claimed.is_empty() || claimed != placed || placed.len() != places.len() {
        return Err(Failure::row(format!(
            "{segment} claimed {} records, but {} places were given, or places of other jobs",
            claimed.len(),
            places.len()
        )));
    }
    write_places(connection, places)?;
    connection
        .numbered("UPDATE segments SET object_key = $2 WHERE id = $1")?
        .execute(params![segment.blob(), Word(key)])?;
    Ok(())
}
