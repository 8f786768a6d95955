//! The gateway's writing half: accepts, confirms and cancels.

use async_trait::async_trait;

use super::PostgresLedger;
use super::accepting;
use super::settling::read_one;
use super::values::get;
use infera_ledger::last_commit::filler;
use infera_ledger::stored::SettlementRow;
use infera_ledger::{Accepted, BatchAccepted, Cancelled, JobIntake, LedgerError, NewJob, Settled};
use infera_types::ids::{AccountId, GatewayId, JobId, ModelName};
use infera_types::job::{End, Settlement};
use infera_types::time::Timestamp;

#[async_trait]
impl JobIntake for PostgresLedger {
    /// Returns [`Accepted::Existing`] too for a job whose id the account used before, so that sending it again after
    /// an unknown outcome is safe.
    async fn accept(&self, job: NewJob) -> Result<Accepted, LedgerError> {
        accepting::check(&job)?;
        match self.accepting.run(vec![job]).await? {
            BatchAccepted::Stored(mut outcomes) => outcomes
                .pop()
                .ok_or_else(|| LedgerError::Row("the outcome of accepting a job is missing".to_owned())),
            BatchAccepted::KeysReused(_) => Ok(Accepted::KeyReused),
            BatchAccepted::NoPlace { refusal, .. } => Ok(refusal),
        }
    }

    async fn confirm(&self, jobs: &[JobId], _now: Timestamp) -> Result<(), LedgerError> {
        if jobs.is_empty() {
            return Ok(());
        }
        self.confirming.run(jobs.to_vec()).await
    }

    /// Returns an earlier settlement without its group, as in a job's view.
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
            end: End::cancelled(),
            group: None,
            settled_ms: now,
        };
        Ok(match self.settling.run(SettlementRow::of(&settlement, self.packing.end_forms())?).await? {
            Settled::Now => {
                self.call_off_others(&settlement).await;
                Cancelled::Now(settlement)
            }
            Settled::Before(winner) => Cancelled::Before(Settlement { group: None, ..winner }),
        })
    }

    async fn commits_come_through(&self) -> Result<(), LedgerError> {
        if self.pool.last_commit().failure().is_none() {
            return Ok(());
        }
        self.pool.put(PROBE, &[&filler()?]).await?;
        Ok(())
    }
}

/// Writes a meaningless row, to find out whether commits succeed.
const PROBE: &str = "INSERT INTO probe (id, filler) VALUES (1, $1)
    ON CONFLICT (id) DO UPDATE SET filler = excluded.filler RETURNING 1";
