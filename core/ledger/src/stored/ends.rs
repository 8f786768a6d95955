//! The stored form of a settlement: itself without the group, the group, and what the account owes.

use std::time::Duration;

use serde::Serialize;

use super::packing::group::{pack_group, unpack_group};
use super::packing::settlement::{pack_settlement, unpack_settlement};
use super::usage::{Usage, usage};
use super::{from_json, of_job, to_json, unchanged};
use crate::{EndKind, LedgerError};
use infera_types::ids::{AccountId, Digest, GatewayId, JobId, ModelName};
use infera_types::job::{End, GroupRecord, Settlement};
use infera_types::time::Timestamp;

/// How long the record of a job that was cancelled or expired while a verifier owned it waits for that verifier to
/// report which nodes it had asked. The verifier checks once a second; one that cannot write for twice its lease is
/// gone.
const GROUP_WAIT: Duration = Duration::from_secs(30);

/// How rows are written. Both forms are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As JSON, which programs of before read too.
    Plain,
    /// Packed ([`super::packing`]).
    Packed,
}

/// A settlement as its column has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredSettlement {
    /// JSON.
    Plain(String),
    /// Packed.
    Packed(Vec<u8>),
}

impl StoredSettlement {
    /// Returns the JSON, if it is JSON.
    #[must_use]
    pub fn plain(&self) -> Option<&str> {
        match self {
            Self::Plain(json) => Some(json),
            Self::Packed(_) => None,
        }
    }

    /// Returns the bytes that are hashed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Plain(json) => json.as_bytes(),
            Self::Packed(bytes) => bytes,
        }
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
    /// The settlement, without its group.
    pub settlement: StoredSettlement,
    /// The hash of the settlement's bytes.
    pub hash: Digest,
    /// Its group, if nodes were asked.
    pub group: Option<GroupRow>,
    /// What the account owes for it, if its client had an answer or a part of one.
    pub usage: Option<Usage>,
}

/// The forms in which a settlement and its group are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndForms {
    /// The settlement's.
    pub settlement: Form,
    /// The group's.
    pub group: Form,
}

/// A group in the form of its table.
pub struct GroupRow {
    /// The verifier that closes it while that verifier is alive.
    pub verifier: String,
    /// When its last open assignment's time is up.
    pub deadline_ms: Timestamp,
    /// The group's bytes: packed, or JSON.
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
    /// [`LedgerError::Row`]: it cannot be written in these forms.
    pub fn of(settlement: &Settlement, forms: EndForms) -> Result<Self, LedgerError> {
        let Settlement { job_id, account, model, gateway, end, group, settled_ms } = settlement;
        let row = WithoutGroup { job_id: *job_id, account, model, gateway, end, settled_ms: *settled_ms };
        let group = group.as_ref().map(|group| GroupRow::of(group, forms.group)).transpose()?;
        let stored = match forms.settlement {
            Form::Plain => StoredSettlement::Plain(to_json(&row)?),
            Form::Packed => StoredSettlement::Packed(pack_settlement(settlement)?),
        };
        Ok(Self {
            job: *job_id,
            account: account.clone(),
            settled_ms: *settled_ms,
            status: end.word(),
            kind: EndKind::of(end),
            reason: reason(end),
            is_called_off: group.is_none() && matches!(end, End::Cancelled { .. } | End::Expired),
            frees_key: end.frees_key(),
            hash: Digest::of(stored.as_bytes()),
            settlement: stored,
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

    fn of(group: &GroupRecord, form: Form) -> Result<Self, LedgerError> {
        let record = match form {
            Form::Plain => serde_json::to_vec(group)
                .map_err(|error| LedgerError::Row(format!("a group can't be written as JSON: {error}")))?,
            Form::Packed => pack_group(group)?,
        };
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

/// Returns the settlement of `job` that was stored as these bytes, without its group.
///
/// # Errors
/// [`LedgerError::Row`] if it was changed, cannot be read, or belongs to another job.
pub fn settlement_of(job: JobId, stored: &[u8], hash: Option<Digest>) -> Result<Settlement, LedgerError> {
    let read = unchanged("settlement", stored, hash).and_then(|stored| {
        if is_json(stored) { from_json("settlement", stored) } else { unpack_settlement(stored) }
    });
    let settlement: Settlement = read.map_err(|error| of_job(job, error))?;
    if settlement.job_id != job {
        return Err(LedgerError::Row(format!(
            "job {job}: the stored settlement is that of {}",
            settlement.job_id
        )));
    }
    Ok(settlement)
}

/// Returns the group that was stored as `record`.
///
/// # Errors
/// [`LedgerError::Row`] if it was changed or cannot be read.
pub fn group_of(record: &[u8], hash: Option<Digest>) -> Result<GroupRecord, LedgerError> {
    let record = unchanged("group", record, hash)?;
    if is_json(record) { from_json("group", record) } else { unpack_group(record) }
}

/// Returns whether bytes can only be JSON. Packed bytes begin with their version.
fn is_json(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(b'{' | b'['))
}
