//! What a settlement becomes before it is stored, the same for every implementation with tables: JSON without the
//! group, the group, and what the account owes. No SQL.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{LedgerError, Posting, PostingEntry};
use infera_types::ids::{AccountId, GatewayId, JobId, ModelName};
use infera_types::job::{End, GroupRecord, Settlement};
use infera_types::time::Timestamp;

/// So long the record of a job that was called off in its verifier's hands waits for that verifier to say whom it had
/// asked. It looks once a second; one that can't write for twice the lease that it lives by won't any more.
const GROUP_WAIT: Duration = Duration::from_secs(30);

/// A settlement ready for the tables: serialised before it reaches whoever writes.
pub struct SettlementRow {
    /// The job.
    pub job: JobId,
    /// Who asked.
    pub account: AccountId,
    /// When it ended.
    pub settled_ms: Timestamp,
    /// How it ended, in the tables' word.
    pub status: &'static str,
    /// Why it failed, if it did.
    pub reason: Option<&'static str>,
    /// It may have ended in a verifier's hands without that verifier's doing.
    pub is_called_off: bool,
    /// The settlement's JSON, without its group.
    pub settlement: String,
    /// Its group, if nodes were asked.
    pub group: Option<GroupRow>,
    /// What the account owes for it, if it has an answer.
    pub usage: Option<Usage>,
}

/// A group ready for its table.
pub struct GroupRow {
    /// The verifier that closes it while alive.
    pub verifier: String,
    /// When its last open assignment's time is up.
    pub deadline_ms: Timestamp,
    /// The group's JSON.
    pub record: Vec<u8>,
}

/// What an account owes for an answer.
pub struct Usage {
    /// The posting that says so.
    pub posting: Posting,
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
}

/// The settlement's JSON as it is stored: all fields but the group, which has its own table.
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
    /// The rows of a settlement.
    ///
    /// # Errors
    /// [`LedgerError::Row`]: it can't be written as JSON.
    pub fn of(settlement: &Settlement) -> Result<Self, LedgerError> {
        let Settlement { job_id, account, model, gateway, end, group, settled_ms } = settlement;
        let row = WithoutGroup { job_id: *job_id, account, model, gateway, end, settled_ms: *settled_ms };
        let group = group.as_ref().map(GroupRow::of).transpose()?;
        Ok(Self {
            job: *job_id,
            account: account.clone(),
            settled_ms: *settled_ms,
            status: end.word(),
            reason: reason(end),
            is_called_off: group.is_none() && matches!(end, End::Cancelled | End::Expired),
            settlement: to_json(&row)?,
            group,
            usage: usage(settlement),
        })
    }
}

impl GroupRow {
    /// The place of a group that only the job's verifier knows: nobody's, without content, given up after a while.
    #[must_use]
    pub fn awaited(settled_ms: Timestamp) -> Self {
        Self { verifier: String::new(), deadline_ms: settled_ms.after(GROUP_WAIT), record: Vec::new() }
    }

    fn of(group: &GroupRecord) -> Result<Self, LedgerError> {
        let record = serde_json::to_vec(group)
            .map_err(|error| LedgerError::Row(format!("a group can't be written as JSON: {error}")))?;
        Ok(Self { verifier: group.verifier.as_str().to_owned(), deadline_ms: group.deadline_ms, record })
    }
}

fn reason(end: &End) -> Option<&'static str> {
    if let End::Failed { reason, .. } = end { Some(reason.word()) } else { None }
}

/// What an account owes for a settled job: only answers are charged.
fn usage(settlement: &Settlement) -> Option<Usage> {
    let End::Succeeded { answer, .. } = &settlement.end else { return None };
    let prompt_tokens = u64::from(answer.prompt_tokens);
    let completion_tokens = u64::try_from(answer.tokens.len()).unwrap_or(u64::MAX);
    let entry = PostingEntry::Usage { account: settlement.account.clone(), prompt_tokens, completion_tokens };
    let posting = Posting {
        id: format!("usage:{}", settlement.job_id),
        job_id: settlement.job_id,
        posted_ms: settlement.settled_ms,
        entry,
    };
    Some(Usage { posting, prompt_tokens, completion_tokens })
}

/// A value as JSON text.
///
/// # Errors
/// [`LedgerError::Row`]: JSON can't say it.
pub fn to_json<T: Serialize>(value: &T) -> Result<String, LedgerError> {
    serde_json::to_string(value)
        .map_err(|error| LedgerError::Row(format!("can't be written as JSON: {error}")))
}

/// A value from JSON that we wrote; `what` names it for the operator.
///
/// # Errors
/// [`LedgerError::Row`]: it isn't what it should be.
pub fn from_json<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, LedgerError> {
    serde_json::from_slice(json)
        .map_err(|error| LedgerError::Row(format!("stored {what} can't be read: {error}")))
}

/// Those of the rows that can be read. The log says what is wrong with the others: a row that this version doesn't
/// understand must not keep its neighbours from whoever looks after them.
///
/// # Errors
/// The first that isn't about one row alone.
pub fn readable<T>(rows: impl IntoIterator<Item = Result<T, LedgerError>>) -> Result<Vec<T>, LedgerError> {
    let mut read = Vec::new();
    for row in rows {
        match row {
            Ok(row) => read.push(row),
            Err(LedgerError::Row(problem)) => {
                tracing::error!(
                    problem,
                    "a row can't be read and is passed by; an operator must look at the ledger"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// The same error, which says whose row it is about.
#[must_use]
pub fn of_job(job: JobId, error: LedgerError) -> LedgerError {
    match error {
        LedgerError::Row(problem) => LedgerError::Row(format!("job {job}: {problem}")),
        other => other,
    }
}

/// A time for a column.
#[must_use]
pub fn millis(time: Timestamp) -> i64 {
    whole(time.as_millis())
}

/// A count for a column; none of ours comes near the limit that it is cut at.
#[must_use]
pub fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl LedgerError {
    /// The same error for each caller whose work shared a commit.
    #[must_use]
    pub fn copy(&self) -> Self {
        match self {
            Self::Unavailable(text) => Self::Unavailable(text.clone()),
            Self::Refused(text) => Self::Refused(text.clone()),
            Self::Unknown(text) => Self::Unknown(text.clone()),
            Self::Row(text) => Self::Row(text.clone()),
            Self::Damaged(text) => Self::Damaged(text.clone()),
        }
    }
}
