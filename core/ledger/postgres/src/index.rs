//! The archive's index: which settled records a segment claims, and their places in it.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::pool::Parameters;
use super::posting::{posting, posting_columns};
use super::segments::PlaceColumns;
use super::settling::with_group;
use super::values::{
    count, digest, get, job_id, millis, optional_digest, optional_time, ordered, segment_id, small, time,
    word,
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

/// A known segment claims nothing more. An empty one is not stored, because it would stay unfinished for ever.
const CLAIM: &str = "WITH chosen AS MATERIALIZED (
        SELECT job_id FROM records WHERE segment IS NULL AND retention_days = $7
            AND (settled_ms > $5 OR settled_ms <= $9::bigint + (
                SELECT MIN(settled_ms) FROM records AS oldest WHERE oldest.segment IS NULL AND oldest.retention_days = $7))
        ORDER BY settled_ms, job_id LIMIT $2 FOR UPDATE SKIP LOCKED),
    fresh AS (
        INSERT INTO segments (id, claimed_ms, retention_days, expires_ms)
        SELECT $1::bytea, $3::bigint, $7::bigint, CASE WHEN $7 > 0 THEN LEAST(newest_ms, $3) + $8::bigint END
        FROM (SELECT count(*) AS waiting, min(settled_ms) AS oldest_ms, max(settled_ms) AS newest_ms FROM chosen JOIN records USING (job_id)) AS found
        WHERE waiting > 0 AND (waiting >= $2 OR oldest_ms <= $4 OR newest_ms > $5)
        ON CONFLICT (id) DO NOTHING RETURNING id),
    fitting AS (
        SELECT job_id FROM (
            SELECT chosen.job_id, sum(bytes) OVER (ORDER BY settled_ms, chosen.job_id) - bytes AS bytes_before
            FROM chosen JOIN records USING (job_id) JOIN jobs ON jobs.id = chosen.job_id
                LEFT JOIN groups ON groups.job_id = chosen.job_id
                CROSS JOIN LATERAL (SELECT coalesce(octet_length(request), 0) + coalesce(octet_length(record), 0) AS bytes)
                    AS size) AS sized
        WHERE bytes_before < $6)
    UPDATE records SET segment = fresh.id FROM fitting, fresh WHERE records.job_id = fitting.job_id";

/// Reads what a segment claimed; a settlement and its group are read from the first columns.
const CLAIMED: &str =
    "SELECT records.job_id, settlement, settlements.hash, record, groups.hash, accepted_ms, request,
        jobs.request_hash, tier, erased_ms, erasures.request_hash, erasures.answer_hash
    FROM records
        JOIN settlements ON settlements.job_id = records.job_id JOIN jobs ON jobs.id = records.job_id
        LEFT JOIN groups ON groups.job_id = records.job_id AND length(groups.record) > 0
        LEFT JOIN erasures ON erasures.job_id = records.job_id
    WHERE records.segment = $1 ORDER BY records.settled_ms, records.job_id";

/// Moves records that cannot be archived out of their segment, so that they don't keep the others from the archive.
const SET_ASIDE_RECORDS: &str = "UPDATE records SET segment = $3 WHERE job_id = ANY($2) AND segment = $1";

const RECORD: &str = "WITH placed AS (
        UPDATE records SET frame_offset = places.frame_offset, frame_length = places.frame_length,
            line = places.line, hash = places.hash
        FROM unnest($3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[])
            AS places (job_id, frame_offset, frame_length, line, hash)
        WHERE records.job_id = places.job_id)
    UPDATE segments SET object_key = $2 WHERE id = $1";

#[async_trait]
impl ArchiveIndex for PostgresLedger {
    async fn claim(
        &self,
        segment: SegmentId,
        limit: u32,
        ripe: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<SettledRecord>, LedgerError> {
        let id = &segment.as_bytes()[..];
        let latest = millis(latest(now));
        let (kept, retained) = (Gathering::kept(ripe), Gathering::retained(ripe, now));
        let asked: Parameters<'_> = &[&kept.ripe_ms, &latest, &i64::from(limit), &retained.ripe_ms];
        if let Some(row) = self.pool.query_opt(CHOOSE_RETENTION, asked).await? {
            let days: i64 = get(&row, 0)?;
            let Gathering { ripe_ms, span_ms } = if days > 0 { retained } else { kept };
            let (limit, now, lasts) = (i64::from(limit), millis(now), days_ms(days));
            let values: Parameters<'_> =
                &[&id, &limit, &now, &ripe_ms, &latest, &SEGMENT_BYTES, &days, &lasts, &span_ms];
            self.pool.put(CLAIM, values).await?;
        }
        let rows = self.pool.query(CLAIMED, &[&id]).await?;
        let jobs = rows.iter().map(|row| job_id(row, 0)).collect::<Result<Vec<_>, _>>()?;
        let mut postings = self.postings(&jobs).await?;
        let mut record = |row: &Row| {
            let job = job_id(row, 0)?;
            let request = request_of(get(row, 6)?, optional_digest(row, 7)?)?.map(|body| request_json(&body));
            let (settlement, postings) = (with_group(row)?, postings.remove(&job).unwrap_or_default());
            let (accepted_ms, tier) = (time(row, 5)?, ServiceTier::of_number(get::<i16>(row, 8)?.into()));
            let [request_hash, answer_hash] = [optional_digest(row, 10)?, optional_digest(row, 11)?];
            let erased = optional_time(row, 9)?.map(|erased_ms| ErasedText {
                erased_ms,
                request: request_hash,
                answer: answer_hash,
                record: None,
            });
            Ok(SettledRecord { job_id: job, accepted_ms, tier, request, settlement, postings, erased })
        };
        let (records, damaged) = sound_records(jobs.iter().zip(&rows).map(|(job, row)| (*job, record(row))))?;
        if !damaged.is_empty() {
            let aside = &SET_ASIDE.as_bytes()[..];
            self.pool.put(SET_ASIDE_RECORDS, &[&id, &ordered(&damaged), &aside]).await?;
            self.pool.put(FORGET_EMPTY_SEGMENT, &[&id]).await?;
        }
        Ok(records)
    }

    async fn unfinished(&self, older_than: Timestamp, now: Timestamp) -> Result<Vec<SegmentId>, LedgerError> {
        let rows = self.pool.query(UNFINISHED_SEGMENTS, &[&millis(older_than), &millis(latest(now))]).await?;
        rows.iter().map(|row| segment_id(row, 0)).collect()
    }

    /// Requires the places of exactly the records that the segment claimed: a record that is left out would never be
    /// archived.
    async fn record(&self, segment: SegmentId, key: &str, places: &[RecordPlace]) -> Result<(), LedgerError> {
        let id = &segment.as_bytes()[..];
        // A segment's claims never change, so they may be compared before the statement.
        let rows = self.pool.query("SELECT job_id FROM records WHERE segment = $1", &[&id]).await?;
        let claimed = rows.iter().map(|row| job_id(row, 0)).collect::<Result<BTreeSet<_>, _>>()?;
        let placed: BTreeSet<JobId> = places.iter().map(|place| place.job).collect();
        if claimed.is_empty() || claimed != placed || placed.len() != places.len() {
            return Err(LedgerError::Row(format!(
                "{segment} claimed {} records, but {} places were given, or places of other jobs",
                claimed.len(),
                places.len()
            )));
        }
        let PlaceColumns { jobs, offsets, lengths, lines, hashes } = PlaceColumns::of(places);
        self.pool.put(RECORD, &[&id, &word(key)?, &jobs, &offsets, &lengths, &lines, &hashes]).await?;
        Ok(())
    }

    async fn locate(&self, job: JobId) -> Result<Option<ArchivedRecord>, LedgerError> {
        let found = self.pool.query_opt(LOCATE_RECORD, &[&&job.as_bytes()[..]]).await?;
        let Some(row) = found else { return Ok(None) };
        let place = RecordPlace {
            job,
            frame_offset: count(&row, 2)?,
            frame_length: count(&row, 3)?,
            index: small(&row, 4)?,
            hash: digest(&row, 5)?,
        };
        Ok(Some(ArchivedRecord { segment: segment_id(&row, 0)?, key: get(&row, 1)?, place }))
    }

    async fn removed(&self, job: JobId) -> Result<Option<RemovedRecord>, LedgerError> {
        let found = self.pool.query_opt(REMOVED_RECORD, &[&&job.as_bytes()[..]]).await?;
        found.map(|row| Ok(RemovedRecord { hash: digest(&row, 0)?, removed_ms: time(&row, 1)? })).transpose()
    }
}

impl PostgresLedger {
    /// Returns the postings of some jobs, each job's in the order of their sequence.
    async fn postings(&self, jobs: &[JobId]) -> Result<HashMap<JobId, Vec<Posting>>, LedgerError> {
        let sql =
            concat!("SELECT ", posting_columns!(), " FROM postings WHERE job_id = ANY($1) ORDER BY sequence");
        let mut postings = HashMap::<JobId, Vec<Posting>>::new();
        for row in &self.pool.query(sql, &[&ordered(jobs)]).await? {
            let posting = posting(row, 0)?;
            postings.entry(posting.job_id).or_default().push(posting);
        }
        Ok(postings)
    }
}
