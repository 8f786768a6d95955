//! Accepts and cancels several jobs in one operation of the writer, and so in one commit.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteLedger;
use super::failure::Failure;
use super::intake::{accept, cancel};
use super::values::{Blob, Numbered as _, Word};
use infera_ledger::{
    BatchAccepted, BatchCancelled, Cancelled, EndKind, JobBatches, LedgerError, NewJob, decided_together,
};
use infera_types::ids::{AccountId, Digest, JobId};
use infera_types::time::Timestamp;

#[async_trait]
impl JobBatches for SqliteLedger {
    async fn accept_all(&self, jobs: Vec<NewJob>) -> Result<BatchAccepted, LedgerError> {
        // Hashed here, because the writing thread has enough to do.
        let hashed = |job: NewJob| {
            let hash = Digest::of(&job.request);
            (job, hash)
        };
        let jobs: Vec<(NewJob, Digest)> = jobs.into_iter().map(hashed).collect();
        self.write(move |connection| accept_all(connection, &jobs)).await
    }

    async fn cancel_all(
        &self,
        account: &AccountId,
        jobs: &[JobId],
        now: Timestamp,
    ) -> Result<Vec<BatchCancelled>, LedgerError> {
        let (account, jobs) = (account.clone(), jobs.to_vec());
        self.write(move |connection| {
            jobs.iter().map(|job| cancel_one(connection, &account, *job, now)).collect()
        })
        .await
    }
}

/// Accepts all jobs, or undoes what was written for the first ones. The savepoint is within that of the operation.
fn accept_all(connection: &Connection, jobs: &[(NewJob, Digest)]) -> Result<BatchAccepted, Failure> {
    connection.prepare_cached("SAVEPOINT jobs")?.execute([])?;
    let outcome = decided_together(jobs.iter().map(|(job, hash)| (job, *hash)), |job, hash| {
        accept(connection, job, hash)
    })?;
    if !matches!(outcome, BatchAccepted::Stored(_)) {
        connection.prepare_cached("ROLLBACK TO jobs")?.execute([])?;
    }
    connection.prepare_cached("RELEASE jobs")?.execute([])?;
    Ok(outcome)
}

/// Cancels a job. The end of one that had ended before is told without reading its answer.
fn cancel_one(
    connection: &Connection,
    account: &AccountId,
    job: JobId,
    now: Timestamp,
) -> Result<BatchCancelled, Failure> {
    let ended_as: Option<Option<i64>> = connection
        .numbered("SELECT ended_as FROM jobs WHERE id = $1 AND account = $2")?
        .query_row(params![job.blob(), Word(account.as_str())], |row| row.get(0))
        .optional()?;
    if let Some(kind) = ended_as.flatten().and_then(EndKind::of_number) {
        return Ok(BatchCancelled::Before(kind));
    }
    Ok(match cancel(connection, account.clone(), job, now)? {
        Cancelled::Now(settlement) => BatchCancelled::Now(settlement),
        Cancelled::Before(winner) => BatchCancelled::Before(EndKind::of(&winner.end)),
        Cancelled::Unknown => BatchCancelled::Unknown,
    })
}
