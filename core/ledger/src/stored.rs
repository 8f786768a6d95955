//! The stored form of a settlement, the same for every implementation with tables: JSON without the group, the group,
//! and what the account owes. Also checks that what is read is what was stored. No SQL.

pub mod charging;
mod columns;
mod gathering;
mod keeping;
mod keys;
mod mail;
mod replicas;
mod usage;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use columns::{millis, whole};
pub use gathering::Gathering;
pub use keeping::{Due, days_ms, due, erase_after, keeping, kept, retention, retention_of};
pub use keys::{day, scopes, used_key};
pub use mail::{before, mail_word};
pub use replicas::{replicas_number, replicas_of};
pub use usage::Usage;
use usage::usage;

use super::{Accepted, EndKind, JobState, LedgerError, NewJob, PoisonedJob, SettledRecord};
use infera_types::ids::{AccountId, Digest, GatewayId, JobId, ModelName, SegmentId};
use infera_types::job::{End, GroupRecord, Settlement};
use infera_types::time::Timestamp;
use infera_types::unreadable::unreadable;

/// How long the record of a job that was cancelled or expired while a verifier owned it waits for that verifier to
/// report which nodes it had asked. The verifier checks once a second; one that cannot write for twice its lease is
/// gone.
const GROUP_WAIT: Duration = Duration::from_secs(30);

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

/// A settlement in the form of the tables, serialised before it reaches the writer.
pub struct SettlementRow {
    /// The job.
    pub job: JobId,
    /// The account that asked.
    pub account: AccountId,
    /// When it ended.
    pub settled_ms: Timestamp,
    /// How it ended, in the tables' word.
    pub status: &'static str,
    /// The same as a kind.
    pub kind: EndKind,
    /// Why it failed, if it did.
    pub reason: Option<&'static str>,
    /// Whether it may have ended without its verifier's doing while a verifier owned it.
    pub is_called_off: bool,
    /// Whether its idempotency key may be used again.
    pub frees_key: bool,
    /// The settlement's JSON, without its group.
    pub settlement: String,
    /// The hash of the settlement's JSON.
    pub hash: Digest,
    /// Its group, if nodes were asked.
    pub group: Option<GroupRow>,
    /// What the account owes for it, if it has an answer.
    pub usage: Option<Usage>,
}

/// A group in the form of its table.
pub struct GroupRow {
    /// The verifier that closes it while that verifier is alive.
    pub verifier: String,
    /// When its last open assignment's time is up.
    pub deadline_ms: Timestamp,
    /// The group's JSON.
    pub record: Vec<u8>,
    /// The hash of the record.
    pub hash: Digest,
}

/// The settlement's JSON as it is stored: all fields but the group, which has a table of its own.
#[derive(Serialize)]
struct WithoutGroup<'a> {
    job_id: JobId,
    account: &'a AccountId,
    model: &'a ModelName,
    gateway: &'a GatewayId,
    end: &'a End,
    settled_ms: Timestamp,
}

impl SettlementRow {
    /// Makes the rows of a settlement.
    ///
    /// # Errors
    /// [`LedgerError::Row`]: it cannot be written as JSON.
    pub fn of(settlement: &Settlement) -> Result<Self, LedgerError> {
        let Settlement { job_id, account, model, gateway, end, group, settled_ms } = settlement;
        let row = WithoutGroup { job_id: *job_id, account, model, gateway, end, settled_ms: *settled_ms };
        let group = group.as_ref().map(GroupRow::of).transpose()?;
        let settlement_json = to_json(&row)?;
        Ok(Self {
            job: *job_id,
            account: account.clone(),
            settled_ms: *settled_ms,
            status: end.word(),
            kind: EndKind::of(end),
            reason: reason(end),
            is_called_off: group.is_none() && matches!(end, End::Cancelled | End::Expired),
            frees_key: end.frees_key(),
            hash: Digest::of(settlement_json.as_bytes()),
            settlement: settlement_json,
            group,
            usage: usage(settlement),
        })
    }
}

impl GroupRow {
    /// Returns the placeholder of a group that only the job's verifier knows: without an owner and without content,
    /// and given up after a while.
    #[must_use]
    pub fn awaited(settled_ms: Timestamp) -> Self {
        Self {
            verifier: String::new(),
            deadline_ms: settled_ms.after(GROUP_WAIT),
            record: Vec::new(),
            hash: Digest::of(&[]),
        }
    }

    fn of(group: &GroupRecord) -> Result<Self, LedgerError> {
        let record = serde_json::to_vec(group)
            .map_err(|error| LedgerError::Row(format!("a group can't be written as JSON: {error}")))?;
        let hash = Digest::of(&record);
        Ok(Self {
            verifier: group.verifier.as_str().to_owned(),
            deadline_ms: group.deadline_ms,
            record,
            hash,
        })
    }
}

fn reason(end: &End) -> Option<&'static str> {
    if let End::Failed { reason, .. } = end { Some(reason.word()) } else { None }
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

/// Returns the settlement of `job` that was stored as `json`, without its group.
///
/// # Errors
/// [`LedgerError::Row`] if it was changed, cannot be parsed, or belongs to another job.
pub fn settlement_of(job: JobId, json: &str, hash: Option<Digest>) -> Result<Settlement, LedgerError> {
    let read = unchanged("settlement", json.as_bytes(), hash).and_then(|json| from_json("settlement", json));
    let settlement: Settlement = read.map_err(|error| of_job(job, error))?;
    if settlement.job_id != job {
        return Err(LedgerError::Row(format!(
            "job {job}: the stored settlement is that of {}",
            settlement.job_id
        )));
    }
    Ok(settlement)
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

/// Returns the group that was stored as `record`.
///
/// # Errors
/// [`LedgerError::Row`] if it was changed or cannot be parsed.
pub fn group_of(record: &[u8], hash: Option<Digest>) -> Result<GroupRecord, LedgerError> {
    from_json("group", unchanged("group", record, hash)?)
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
