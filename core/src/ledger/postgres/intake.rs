//! The gateway's writing half: accept, confirm, cancel.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;

use super::PostgresLedger;
use super::accepting;
use super::failure::Failure;
use super::lane::Work;
use super::settling::read_one;
use super::values::{get, ordered};
use crate::ids::{AccountId, GatewayId, JobId, ModelName};
use crate::job::{End, Settlement};
use crate::ledger::stored::SettlementRow;
use crate::ledger::{Accepted, Cancelled, JobIntake, LedgerError, NewJob, Settled};
use crate::time::Timestamp;

#[async_trait]
impl JobIntake for PostgresLedger {
    /// A job whose id the account used before is [`Accepted::Existing`] too: sending it again after an unknown
    /// outcome is safe.
    async fn accept(&self, job: NewJob) -> Result<Accepted, LedgerError> {
        accepting::check(&job)?;
        self.accepting.run(job).await
    }

    async fn confirm(&self, jobs: &[JobId], _now: Timestamp) -> Result<(), LedgerError> {
        if jobs.is_empty() {
            return Ok(());
        }
        self.confirming.run(jobs.to_vec()).await
    }

    /// A settlement that was there before comes without its group, as in a job's view.
    async fn cancel(
        &self,
        account: &AccountId,
        job: JobId,
        now: Timestamp,
    ) -> Result<Cancelled, LedgerError> {
        let sql = "SELECT model, gateway FROM jobs WHERE id = $1 AND account = $2";
        let found = self.pool.query_opt(sql, &[&&job.as_bytes()[..], &account.as_str()]).await?;
        let Some(row) = found else { return Ok(Cancelled::Unknown) };
        if let Some(winner) = read_one(&self.pool, job).await? {
            return Ok(Cancelled::Before(winner));
        }
        let settlement = Settlement {
            job_id: job,
            account: account.clone(),
            model: ModelName::new(get::<String>(&row, 0)?),
            gateway: GatewayId::new(get::<String>(&row, 1)?),
            end: End::Cancelled,
            group: None,
            settled_ms: now,
        };
        Ok(match self.settling.run(SettlementRow::of(&settlement)?).await? {
            Settled::Now => Cancelled::Now(settlement),
            Settled::Before(winner) => Cancelled::Before(Settlement { group: None, ..winner }),
        })
    }
}

/// Only what is still unconfirmed since it was accepted: a mark that comes late must not hide a job that was released
/// or swept meanwhile.
const CONFIRM: &str = "WITH locked AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY($1) AND state + 0 = 0 AND unconfirmed_ms = accepted_ms
        ORDER BY id FOR UPDATE)
    UPDATE jobs SET unconfirmed_ms = NULL FROM locked WHERE jobs.id = locked.id";

/// The lane of [`JobIntake::confirm`].
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
