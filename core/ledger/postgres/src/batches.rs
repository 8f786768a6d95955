//! Accepts several jobs as one item of the accepting lane, and cancels several in one transaction of their own.

use std::collections::HashMap;

use async_trait::async_trait;
use tokio::time::timeout;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::accepting;
use super::failure::{Effect, Failure};
use super::lane::Work as _;
use super::pool::{ANSWER_WAIT, TRIES, discard};
use super::settling::Settling;
use super::values::{choice, get, job_id, ordered, word};
use infera_ledger::stored::SettlementRow;
use infera_ledger::{BatchAccepted, BatchCancelled, EndKind, JobBatches, LedgerError, NewJob, Settled};
use infera_types::ids::{AccountId, GatewayId, JobId, ModelName};
use infera_types::job::{End, Settlement};
use infera_types::time::Timestamp;

const JOBS: &str =
    "SELECT id, model, gateway, ended_as, choice, choices FROM jobs WHERE id = ANY($1) AND account = $2";

#[async_trait]
impl JobBatches for PostgresLedger {
    async fn accept_all(&self, jobs: Vec<NewJob>) -> Result<BatchAccepted, LedgerError> {
        jobs.iter().try_for_each(accepting::check)?;
        self.accepting.run(jobs).await
    }

    async fn cancel_all(
        &self,
        account: &AccountId,
        jobs: &[JobId],
        now: Timestamp,
    ) -> Result<Vec<BatchCancelled>, LedgerError> {
        let (mut known, mut others) = (HashMap::new(), Vec::new());
        for row in &self.pool.query(JOBS, &[&ordered(jobs), &word(account.as_str())?]).await? {
            let (job, found) = (job_id(row, 0)?, found(row, account, now)?);
            if matches!(found, BatchCancelled::Now(_)) {
                others.extend(choice(row, 4)?.others(job));
            }
            known.insert(job, found);
        }
        others.retain(|job| !known.contains_key(job));
        if !others.is_empty() {
            for row in &self.pool.query(JOBS, &[&ordered(&others), &account.as_str()]).await? {
                known.insert(job_id(row, 0)?, found(row, account, now)?);
            }
        }
        let live: Vec<&Settlement> = known
            .values()
            .filter_map(
                |found| if let BatchCancelled::Now(settlement) = found { Some(settlement) } else { None },
            )
            .collect();
        for (job, kind) in self.end_all(&live).await? {
            known.insert(job, BatchCancelled::Before(kind));
        }
        Ok(jobs.iter().map(|job| known.get(job).cloned().unwrap_or(BatchCancelled::Unknown)).collect())
    }
}

/// Reads a job that is to be cancelled: its cancellation, or how it ended before.
fn found(row: &Row, account: &AccountId, now: Timestamp) -> Result<BatchCancelled, LedgerError> {
    if let Some(kind) = get::<Option<i16>>(row, 3)?.and_then(|number| EndKind::of_number(number.into())) {
        return Ok(BatchCancelled::Before(kind));
    }
    Ok(BatchCancelled::Now(Settlement {
        job_id: job_id(row, 0)?,
        account: account.clone(),
        model: ModelName::new(get::<String>(row, 1)?),
        gateway: GatewayId::new(get::<String>(row, 2)?),
        end: End::cancelled(),
        group: None,
        settled_ms: now,
    }))
}

impl PostgresLedger {
    /// Ends jobs in one transaction, and returns those that had ended otherwise before.
    async fn end_all(&self, settlements: &[&Settlement]) -> Result<Vec<(JobId, EndKind)>, LedgerError> {
        let rows: Vec<SettlementRow> = settlements
            .iter()
            .map(|settlement| SettlementRow::of(settlement, self.packing.end_forms()))
            .collect::<Result<_, _>>()?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut tried = 1;
        let outcomes = loop {
            match self.end_once(&rows).await {
                Ok(outcomes) => break outcomes,
                Err(failure) if failure.is_transient && tried < TRIES => tried += 1,
                Err(failure) => {
                    self.pool.last_commit().failed(&failure.error);
                    return Err(failure.error);
                }
            }
        };
        self.pool.last_commit().succeeded();
        let mut before = Vec::new();
        for outcome in outcomes {
            if let Settled::Before(winner) = outcome? {
                before.push((winner.job_id, EndKind::of(&winner.end)));
            }
        }
        Ok(before)
    }

    async fn end_once(&self, rows: &[SettlementRow]) -> Result<Vec<Result<Settled, LedgerError>>, Failure> {
        let connection = self.pool.lend().await?;
        let rows: Vec<&SettlementRow> = rows.iter().collect();
        let settling = Settling { share: self.share, packing: self.packing.clone() };
        let Ok(done) = timeout(ANSWER_WAIT, settling.commit(&connection, &rows)).await else {
            discard(connection);
            return Err(Effect::Commits.silence());
        };
        if done.is_err() {
            let rollback = timeout(ANSWER_WAIT, connection.batch_execute("ROLLBACK")).await;
            if !matches!(rollback, Ok(Ok(()))) {
                discard(connection);
            }
        }
        done
    }
}
