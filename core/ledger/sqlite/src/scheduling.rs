//! Sets the times at which the text of jobs goes: when a job ends, and when it is ordered.

use rusqlite::{Connection, params};

use super::failure::Failure;
use super::values::{Blob, Numbered as _, Word, millis};
use infera_ledger::erasure_step;
use infera_ledger::stored::{Due, due};
use infera_types::ids::{AccountId, JobId};
use infera_types::time::Timestamp;

/// Queues the erasure of a job (`$1`) of an account (`$2`) that is due at `$3`, for the reason `$4`. Of two times the earlier
/// counts. An erasure that is done stays done.
const QUEUE: &str = concat!(
    "INSERT INTO erasures (job_id, account, salt, asked_ms, due_ms, reason, step)
    VALUES ($1, $2, randomblob(16), $5, $3, $4, ",
    erasure_step!(set),
    ")
    ON CONFLICT (job_id) DO UPDATE SET due_ms = MIN(erasures.due_ms, excluded.due_ms),
        reason = MAX(erasures.reason, excluded.reason) WHERE erasures.step < ",
    erasure_step!(done)
);

/// An erasure that is to be queued.
pub(super) struct Queued<'a> {
    pub(super) job: JobId,
    pub(super) account: &'a AccountId,
    pub(super) due: Due,
    pub(super) asked_ms: i64,
}

/// Queues an erasure.
pub(super) fn queue(connection: &Connection, queued: &Queued<'_>) -> Result<(), Failure> {
    let Queued { job, account, due: Due { due_ms, reason }, asked_ms } = queued;
    let values = params![job.blob(), Word(account.as_str()), due_ms, reason, asked_ms];
    connection.numbered(QUEUE)?.execute(values)?;
    Ok(())
}

/// Sets the time at which the text of a job that ends now goes, if it has one.
pub(super) fn schedule(
    connection: &Connection,
    (job, account, settled): (JobId, &AccountId, Timestamp),
    (erase_after_ms, retention_days): (Option<i64>, i64),
) -> Result<(), Failure> {
    let Some(due) = due(settled, erase_after_ms, retention_days) else { return Ok(()) };
    queue(connection, &Queued { job, account, due, asked_ms: millis(settled) })
}
