//! The stored form of what a ledger holds, the same for every implementation with tables: ends and their groups (`ends`, and
//! `packing` as their bytes), places, times and names. Also checks that what is read is what was stored. No SQL.

pub mod charging;
mod columns;
mod ends;
mod gathering;
mod keeping;
mod keys;
mod mail;
pub mod packing;
mod replicas;
mod usage;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use columns::{millis, whole};
pub use ends::{EndForms, Form, GroupRow, SettlementRow, StoredSettlement, group_of, settlement_of};
pub use gathering::Gathering;
pub use keeping::{Due, days_ms, due, erase_after, keeping, kept, retention, retention_of};
pub use keys::{day, scopes, used_key};
pub use mail::{before, mail_word};
pub use replicas::{replicas_number, replicas_of};
pub use usage::Usage;

use super::{Accepted, JobState, LedgerError, NewJob, PoisonedJob, SettledRecord};
use infera_types::ids::{Digest, JobId, SegmentId};
use infera_types::job::Settlement;
use infera_types::time::Timestamp;
use infera_types::unreadable::unreadable;

/// Requests and groups of this many bytes together fill a segment, however few records that is, because all are in
/// memory several times over while it is built.
pub const SEGMENT_BYTES: i64 = 32 * 1024 * 1024;

/// The most by which one of our clocks is ahead of another: synchronized clocks differ by milliseconds, and a minute
/// leaves room for poorly kept ones.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// The longest admission of a node: a gateway refuses to make tokens that live longer.
const ADMISSION_MAX: Duration = Duration::from_secs(60 * 60);

/// Returns the latest credible time. A stored time beyond it was written by a wrong clock and counts as over.
#[must_use]
pub fn latest(now: Timestamp) -> Timestamp {
    now.after(CLOCKS_DIFFER)
}

/// Returns the latest credible end of an admission.
#[must_use]
pub fn latest_admission(now: Timestamp) -> Timestamp {
    latest(now).after(ADMISSION_MAX)
}

/// The segment of records that cannot be read, which is never written. Once a row is mended and its record's segment
/// is set to null, it is archived like any other.
pub const SET_ASIDE: SegmentId = SegmentId::from_bytes([0; 16]);

/// What is stored when a job is about to be accepted.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// How many jobs of its account wait.
    pub waiting: u32,
    /// Bytes of its account's bodies.
    pub account_bytes: u64,
    /// Bytes of all bodies.
    pub all_bytes: u64,
}

/// Returns the size of a job's body, in bytes.
#[must_use]
pub fn body_bytes(job: &NewJob) -> u64 {
    u64::try_from(job.request.len()).unwrap_or(u64::MAX)
}

/// Returns the refusal of a new job for which there is no place; none if there is one.
#[must_use]
pub fn no_place(job: &NewJob, stored: Stored) -> Option<Accepted> {
    let Stored { waiting, account_bytes, all_bytes } = stored;
    let fits = |stored: u64, max: u64| stored.saturating_add(body_bytes(job)) <= max;
    if waiting >= job.waiting_max {
        Some(Accepted::Full { waiting })
    } else if !fits(account_bytes, job.room.account_max_bytes) {
        Some(Accepted::NoRoomForAccount { stored: account_bytes })
    } else if !fits(all_bytes, job.room.all_max_bytes) {
        Some(Accepted::NoRoom { stored: all_bytes })
    } else {
        None
    }
}

/// Serialises a value as JSON text.
///
/// # Errors
/// [`LedgerError::Row`]: JSON cannot express it.
pub fn to_json<T: Serialize>(value: &T) -> Result<String, LedgerError> {
    serde_json::to_string(value)
        .map_err(|error| LedgerError::Row(format!("can't be written as JSON: {error}")))
}

/// Parses a value from JSON that we wrote; `what` names it for the operator. The error says where it can't be read and quotes nothing
/// of it.
///
/// # Errors
/// [`LedgerError::Row`]: the JSON is not such a value.
pub fn from_json<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, LedgerError> {
    serde_json::from_slice(json)
        .map_err(|error| LedgerError::Row(format!("stored {what} can't be read: {}", unreadable(&error))))
}

/// Returns the bytes that were stored with this hash, if they are unchanged. A disk may return other bytes than were
/// written, and a wrong answer is worse than none. Rows from before hashes were stored have none.
///
/// # Errors
/// [`LedgerError::Row`] if they were changed.
pub fn unchanged<'a>(what: &str, bytes: &'a [u8], hash: Option<Digest>) -> Result<&'a [u8], LedgerError> {
    match hash {
        Some(hash) if hash != Digest::of(bytes) => Err(LedgerError::Row(format!(
            "the stored {what} is damaged: its hash differs from the one that was stored with it"
        ))),
        _ => Ok(bytes),
    }
}

/// Returns a job's request, unless its body was pruned.
///
/// # Errors
/// [`LedgerError::Row`] if it was changed.
pub fn request_of(request: Option<Vec<u8>>, hash: Option<Digest>) -> Result<Option<Vec<u8>>, LedgerError> {
    if let Some(request) = &request {
        unchanged("request", request, hash)?;
    }
    Ok(request)
}

/// Returns a request as its record shows it. A body that is not JSON failed its job as unprocessable; it is shown as
/// text.
#[must_use]
pub fn request_json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body).into_owned()))
}

/// Returns the records that can be archived, and the jobs of those that cannot be read, which are logged.
///
/// # Errors
/// The first error that does not concern one row alone.
pub fn sound_records(
    records: impl IntoIterator<Item = (JobId, Result<SettledRecord, LedgerError>)>,
) -> Result<(Vec<SettledRecord>, Vec<JobId>), LedgerError> {
    let (mut sound, mut damaged) = (Vec::new(), Vec::new());
    for (job, record) in records {
        match record {
            Ok(record) => sound.push(record),
            Err(LedgerError::Row(problem)) => {
                tracing::error!(%job, problem, "a job's record cannot be archived and is set aside; its row stays");
                damaged.push(job);
            }
            Err(error) => return Err(error),
        }
    }
    Ok((sound, damaged))
}

/// Returns the end of a job in this state, which must exist if the state says that the job has ended.
///
/// # Errors
/// [`LedgerError::Row`] if it is missing.
pub fn ended_with(
    job: JobId,
    state: JobState,
    settlement: Option<Settlement>,
) -> Result<Option<Settlement>, LedgerError> {
    if settlement.is_none() && state == JobState::Ended {
        return Err(LedgerError::Row(format!("job {job}: it has ended, but its settlement is missing")));
    }
    Ok(settlement)
}

/// Checks poison jobs against their requests' hashes. A job with a damaged request is skipped in a list; asking for
/// that job alone is an error.
///
/// # Errors
/// [`LedgerError::Row`] if the job that was asked for is damaged.
pub fn poisoned_of(
    only: Option<JobId>,
    found: Vec<(PoisonedJob, Option<Digest>)>,
) -> Result<Vec<PoisonedJob>, LedgerError> {
    let checked = found.into_iter().map(|(job, hash)| {
        let request = request_of(job.request, hash).map_err(|error| of_job(job.id, error))?;
        Ok(PoisonedJob { request, ..job })
    });
    if only.is_some() { checked.collect() } else { readable(checked) }
}

/// Returns those of the rows that can be read, and logs what is wrong with the others: a row that this version
/// doesn't understand must not keep its neighbours from being processed.
///
/// # Errors
/// The first error that does not concern one row alone.
pub fn readable<T>(rows: impl IntoIterator<Item = Result<T, LedgerError>>) -> Result<Vec<T>, LedgerError> {
    let mut read = Vec::new();
    for row in rows {
        match row {
            Ok(row) => read.push(row),
            Err(LedgerError::Row(problem)) => {
                tracing::error!(
                    problem,
                    "a row cannot be read and is skipped; an operator must look at the ledger"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Returns the same error, naming the row's job.
#[must_use]
pub fn of_job(job: JobId, error: LedgerError) -> LedgerError {
    match error {
        LedgerError::Row(problem) => LedgerError::Row(format!("job {job}: {problem}")),
        other => other,
    }
}
