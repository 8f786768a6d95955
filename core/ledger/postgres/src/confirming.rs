//! Records that the broker confirmed jobs' notices: the marks of several callers share one statement.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;

use super::failure::Failure;
use super::lane::Work;
use super::values::ordered;
use infera_ledger::{LedgerError, job_state};
use infera_types::ids::JobId;

/// Marks only jobs that have been unconfirmed since they were accepted: a late mark must not hide a job that was
/// released or swept meanwhile.
const CONFIRM: &str = concat!(
    "WITH locked AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY($1) AND state + 0 = ",
    job_state!(queued),
    " AND unconfirmed_ms = accepted_ms
        ORDER BY id FOR UPDATE)
    UPDATE jobs SET unconfirmed_ms = NULL FROM locked WHERE jobs.id = locked.id"
);

/// The lane of [`infera_ledger::JobIntake::confirm`].
pub(super) struct Confirming;

#[async_trait]
impl Work for Confirming {
    type Item = Vec<JobId>;
    type Outcome = ();

    fn key(&self, _jobs: &Vec<JobId>) -> Option<[u8; 16]> {
        None
    }

    fn weight(&self, jobs: &Vec<JobId>) -> usize {
        jobs.len() * size_of::<JobId>()
    }

    async fn commit(
        &self,
        client: &ClientWrapper,
        items: &[&Vec<JobId>],
    ) -> Result<Vec<Result<(), LedgerError>>, Failure> {
        let jobs: Vec<JobId> = items.iter().flat_map(|jobs| jobs.iter().copied()).collect();
        let statement = client.prepare_cached(CONFIRM).await?;
        client
            .execute(&statement, &[&ordered(&jobs)])
            .await
            .map_err(|error| Failure::of_commit(error).repeatable())?;
        Ok(items.iter().map(|_| Ok(())).collect())
    }
}
