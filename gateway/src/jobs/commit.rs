//! Commits a new job and finds out whether the commit succeeded. A job has its id before it is committed, so the same
//! job can be sent again: it is stored once, whatever happened to the first try.

use infera_ledger::{
    Accepted, BatchAccepted, JobBatches, JobIntake, JobLists, JobReader, LedgerError, NewJob, OverLimit,
};
use infera_types::ids::{AccountId, JobId};

use crate::api::error::ApiError;
use crate::api::too_many_requests::{Limit, STORED_WAIT, WAITING_WAIT};

/// The result of committing a job, as its caller reports it. A job that an earlier try committed counts as new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committed {
    /// The job is stored.
    New {
        /// Whether it is held in the ledger until its turn. If that isn't known, because an earlier try committed the
        /// job, it is told as not held: a notice too many only has the job answered before its turn.
        is_held: bool,
    },
    /// Nothing was stored: the idempotency key belongs to this earlier job.
    Earlier(JobId),
    /// Nothing was stored: the key was used for another request.
    KeyReused,
    /// Nothing was stored: the account has this number of waiting jobs.
    Full(u32),
    /// Nothing was stored: the account's requests take up this number of bytes.
    NoRoomForAccount(u64),
    /// Nothing was stored: all requests together take up this number of bytes.
    NoRoom(u64),
    /// Nothing was stored: the job may cost more than is left of a limit.
    OverLimit(OverLimit),
}

impl Committed {
    /// Returns the earlier job that a commit found in place of a new one.
    ///
    /// # Errors
    /// The reason why nothing was stored.
    pub(super) fn earlier(self) -> Result<JobId, ApiError> {
        match self {
            Self::Earlier(job) => Ok(job),
            Self::KeyReused => Err(ApiError::KeyReused),
            Self::Full(_) => Err(ApiError::Limited(Limit::Waiting, WAITING_WAIT)),
            Self::NoRoomForAccount(_) => Err(ApiError::Limited(Limit::Stored, STORED_WAIT)),
            Self::NoRoom(stored) => {
                tracing::warn!(
                    stored,
                    "a job was refused: requests take up all the room that they may (stored_max_bytes)"
                );
                Err(ApiError::StorageFull)
            }
            Self::OverLimit(over) => Err(ApiError::OverSpend { over, of_batch: None }),
            Self::New { .. } => Err(ApiError::Internal),
        }
    }
}

/// Commits `new`. If the outcome is unknown, the same job is sent again, and read back if that leaves the outcome
/// unknown too.
///
/// # Errors
/// [`LedgerError::Unknown`]: the job may be stored already, or be stored later, when the commit of a try comes
/// through. After every other error the job is not stored and never will be.
pub(super) async fn commit(
    intake: &(impl JobIntake + ?Sized),
    reader: &(impl JobReader + ?Sized),
    new: NewJob,
) -> Result<Committed, LedgerError> {
    let (job, account, is_always_held) = (new.id, new.account.clone(), new.standby.is_always_held());
    let read = |accepted| match accepted {
        Accepted::Existing(existing) if existing == job => Committed::New { is_held: is_always_held },
        accepted => read(accepted),
    };
    let unknown = match intake.accept(new.clone()).await {
        Err(LedgerError::Unknown(unknown)) => unknown,
        accepted => return accepted.map(read),
    };
    tracing::warn!(%job, unknown, "whether a job was accepted is unknown; it is sent again");
    let again = match intake.accept(new).await {
        Ok(accepted) => return Ok(read(accepted)),
        Err(error) => error,
    };
    match reader.job(&account, job).await {
        Ok(Some(_)) => Ok(Committed::New { is_held: is_always_held }),
        // The job isn't stored yet, but may still be stored later.
        Ok(None) => Err(LedgerError::Unknown(format!("{unknown}; sent again: {again}"))),
        Err(error) => {
            Err(LedgerError::Unknown(format!("{unknown}; sent again: {again}; read back: {error}")))
        }
    }
}

/// Commits the jobs of one request, all or none, and returns for each whether it is held, or else why they aren't new.
///
/// # Errors
/// As [`commit`].
pub(super) async fn commit_together(
    batches: &dyn JobBatches,
    lists: &dyn JobLists,
    new: Vec<NewJob>,
) -> Result<Result<Vec<bool>, Committed>, LedgerError> {
    let Some(first) = new.first() else { return Ok(Ok(Vec::new())) };
    let account = first.account.clone();
    Ok(match commit_all(batches, lists, &account, new).await? {
        BatchAccepted::Stored(outcomes) => {
            let held = |outcome| match read(outcome) {
                Committed::New { is_held } => Ok(is_held),
                other => Err(other),
            };
            outcomes.into_iter().map(held).collect()
        }
        BatchAccepted::KeysReused(_) => Err(Committed::KeyReused),
        BatchAccepted::NoPlace { refusal, .. } => Err(read(refusal)),
    })
}

/// Commits all jobs. If the outcome is unknown, the same jobs are sent again, and read back if that leaves the outcome
/// unknown too. A job that an earlier try committed counts as new.
///
/// # Errors
/// [`LedgerError::Unknown`]: the jobs may be stored already, or be stored later. After every other error none is stored
/// and none ever will be.
pub(super) async fn commit_all(
    batches: &dyn JobBatches,
    lists: &dyn JobLists,
    account: &AccountId,
    new: Vec<NewJob>,
) -> Result<BatchAccepted, LedgerError> {
    let ids: Vec<JobId> = new.iter().map(|job| job.id).collect();
    // As of a single job, what isn't known to be held counts as not held.
    let own: Vec<Accepted> =
        new.iter().map(|job| Accepted::New { is_held: job.standby.is_always_held() }).collect();
    let unknown = match batches.accept_all(new.clone()).await {
        Err(LedgerError::Unknown(unknown)) => unknown,
        accepted => return accepted,
    };
    tracing::warn!(jobs = ids.len(), unknown, "whether a batch was accepted is unknown; it is sent again");
    let again = match batches.accept_all(new).await {
        Ok(BatchAccepted::Stored(outcomes)) => {
            let read = |((id, own), outcome)| if outcome == Accepted::Existing(id) { own } else { outcome };
            return Ok(BatchAccepted::Stored(ids.into_iter().zip(own).zip(outcomes).map(read).collect()));
        }
        Ok(refused) => return Ok(refused),
        Err(error) => error,
    };
    let found = lists.listed(account, &ids).await;
    match found {
        Ok(found) if found.len() == ids.len() => Ok(BatchAccepted::Stored(own)),
        _ => Err(LedgerError::Unknown(format!("{unknown}; sent again: {again}"))),
    }
}

fn read(accepted: Accepted) -> Committed {
    match accepted {
        Accepted::New { is_held } => Committed::New { is_held },
        Accepted::Existing(earlier) => Committed::Earlier(earlier),
        Accepted::KeyReused => Committed::KeyReused,
        Accepted::Full { waiting } => Committed::Full(waiting),
        Accepted::NoRoomForAccount { stored } => Committed::NoRoomForAccount(stored),
        Accepted::NoRoom { stored } => Committed::NoRoom(stored),
        Accepted::OverLimit(over) => Committed::OverLimit(over),
    }
}
