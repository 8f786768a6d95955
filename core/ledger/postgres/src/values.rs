//! Converts values to parameters and columns to values. No SQL.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

pub(super) use infera_ledger::stored::{from_json, millis, to_json, whole};
use infera_ledger::stored::{of_job, replicas_of, retention_of};
use infera_ledger::{KeyPrivacy, LedgerError};
use infera_types::choice::Choice;
use infera_types::ids::{Digest, JobId, SegmentId};
use infera_types::job::VerificationPolicy;
use infera_types::time::Timestamp;

/// Checks a text for a column. A text with U+0000 is refused here, before it can spoil a batch: the server cannot
/// store it.
pub(super) fn word(text: &str) -> Result<&str, LedgerError> {
    if text.contains('\0') {
        return Err(LedgerError::Row("a text contains U+0000, which cannot be stored".to_owned()));
    }
    Ok(text)
}

/// Returns the ids' bytes in the order in which rows are locked everywhere, so that two transactions cannot deadlock.
pub(super) fn ordered(jobs: &[JobId]) -> Vec<&[u8]> {
    let mut ids: Vec<&[u8]> = jobs.iter().map(|job| &job.as_bytes()[..]).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Reads column `index`.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, LedgerError> {
    row.try_get(index).map_err(|error| LedgerError::Row(format!("column {index} cannot be read: {error}")))
}

/// Reads a count from column `index`; negative counts are never written.
pub(super) fn count(row: &Row, index: usize) -> Result<u64, LedgerError> {
    Ok(u64::try_from(get::<i64>(row, index)?).unwrap_or(0))
}

/// Reads a small count from column `index`, cut at the type's limit.
pub(super) fn small(row: &Row, index: usize) -> Result<u32, LedgerError> {
    Ok(u32::try_from(count(row, index)?).unwrap_or(u32::MAX))
}

/// Reads which of its request's answers a job is from column `index` (its number) and the next one (how many there are).
pub(super) fn choice(row: &Row, index: usize) -> Result<Choice, LedgerError> {
    let small = |index| Ok(u32::try_from(get::<i16>(row, index)?).unwrap_or(0));
    Ok(Choice { index: small(index)?, count: small(index + 1)? })
}

/// Reads a flag from column `index`.
pub(super) fn flag(row: &Row, index: usize) -> Result<bool, LedgerError> {
    Ok(get::<i16>(row, index)? != 0)
}

/// Reads a time from column `index`.
pub(super) fn time(row: &Row, index: usize) -> Result<Timestamp, LedgerError> {
    Ok(Timestamp::from_millis(count(row, index)?))
}

/// Reads a time from column `index`, if the row has one.
pub(super) fn optional_time(row: &Row, index: usize) -> Result<Option<Timestamp>, LedgerError> {
    let stored = get::<Option<i64>>(row, index)?;
    Ok(stored.map(|millis| Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))))
}

/// Reads a policy from column `index` (its quorum) and the next one (its replicas).
pub(super) fn policy(row: &Row, index: usize) -> Result<VerificationPolicy, LedgerError> {
    let quorum = u8::try_from(get::<i16>(row, index)?).unwrap_or(u8::MAX);
    Ok(VerificationPolicy { quorum, replicas: replicas_of(get::<i16>(row, index + 1)?.into()) })
}

/// Reads an array of bytes from column `index`.
pub(super) fn bytes<const N: usize>(row: &Row, index: usize) -> Result<[u8; N], LedgerError> {
    let found = get::<&[u8]>(row, index)?;
    found
        .try_into()
        .map_err(|_| LedgerError::Row(format!("column {index} has {} bytes and not {N}", found.len())))
}

/// Reads a job's id from column `index`.
pub(super) fn job_id(row: &Row, index: usize) -> Result<JobId, LedgerError> {
    bytes(row, index).map(JobId::from_bytes)
}

/// Runs `read` on a row whose first column is its job's id, and names the job in an error.
pub(super) fn named<T>(row: &Row, read: impl Fn(&Row) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
    read(row).map_err(|error| job_id(row, 0).map_or_else(|worse| worse, |job| of_job(job, error)))
}

/// Reads a segment's id from column `index`.
pub(super) fn segment_id(row: &Row, index: usize) -> Result<SegmentId, LedgerError> {
    bytes(row, index).map(SegmentId::from_bytes)
}

/// Reads a hash from column `index`, if the row has one.
pub(super) fn optional_digest(row: &Row, index: usize) -> Result<Option<Digest>, LedgerError> {
    let is_there = get::<Option<&[u8]>>(row, index)?.is_some();
    is_there.then(|| digest(row, index)).transpose()
}

/// Reads a hash from column `index`.
pub(super) fn digest(row: &Row, index: usize) -> Result<Digest, LedgerError> {
    bytes(row, index).map(Digest::from_bytes)
}

/// Reads what a key says of its jobs' text, from column `first` and the next.
pub(super) fn privacy(row: &Row, first: usize) -> Result<KeyPrivacy, LedgerError> {
    Ok(KeyPrivacy { stores: flag(row, first)?, retention_days: retention_of(get(row, first + 1)?) })
}
