//! Committing a new job, and making sure of what became of it. A job has its id before it is committed, so the same job
//! sent again is the same job: whatever the first try came to, it is there once.

use infera_ledger::{Accepted, JobIntake, JobReader, LedgerError, NewJob};
use infera_types::ids::JobId;

/// Says what became of a job, in what a caller may answer: one that an earlier try of ours committed is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committed {
    /// The job is there.
    New,
    /// Nothing was stored: the idempotency key belongs to this earlier job.
    Earlier(JobId),
    /// Nothing was stored: the key was used for another request.
    KeyReused,
    /// Nothing was stored: the account has this many waiting jobs.
    Full(u32),
    /// Nothing was stored: the account's requests take up this many bytes.
    NoRoomForAccount(u64),
    /// Nothing was stored: all requests together take up this many bytes.
    NoRoom(u64),
}

/// Commits `new`; where the outcome is unknown the same is sent again, and read back if that doesn't tell either.
///
/// # Errors
/// [`LedgerError::Unknown`]: the job may be there, now or when the first try's commit comes through late. After every
/// other error it is not, and never will be.
pub(super) async fn commit(
    intake: &(impl JobIntake + ?Sized),
    reader: &(impl JobReader + ?Sized),
    new: NewJob,
) -> Result<Committed, LedgerError> {
    let (job, account) = (new.id, new.account.clone());
    let unknown = match intake.accept(new.clone()).await {
        Err(LedgerError::Unknown(unknown)) => unknown,
        accepted => return accepted.map(|accepted| read(accepted, job)),
    };
    tracing::warn!(%job, unknown, "whether a job was accepted is unknown; it is sent again");
    let again = match intake.accept(new).await {
        Ok(accepted) => return Ok(read(accepted, job)),
        Err(error) => error,
    };
    match reader.job(&account, job).await {
        Ok(Some(_)) => Ok(Committed::New),
        // It isn't there yet, which doesn't say that it won't be.
        Ok(None) => Err(LedgerError::Unknown(format!("{unknown}; sent again: {again}"))),
        Err(error) => {
            Err(LedgerError::Unknown(format!("{unknown}; sent again: {again}; read back: {error}")))
        }
    }
}

fn read(accepted: Accepted, job: JobId) -> Committed {
    match accepted {
        Accepted::New => Committed::New,
        Accepted::Existing(existing) if existing == job => Committed::New,
        Accepted::Existing(earlier) => Committed::Earlier(earlier),
        Accepted::KeyReused => Committed::KeyReused,
        Accepted::Full { waiting } => Committed::Full(waiting),
        Accepted::NoRoomForAccount { stored } => Committed::NoRoomForAccount(stored),
        Accepted::NoRoom { stored } => Committed::NoRoom(stored),
    }
}
