//! Reads jobs, for both roles.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteLedger;
use super::charging::optional_price;
use super::failure::Failure;
use super::intake::earlier_use;
use super::settling::{Groups, read};
use super::values::{Blob, Numbered as _, Word, choice, count, job_id, optional_digest, time};
use infera_ledger::listing::metadata_of;
use infera_ledger::stored::{ended_with, keeping, kept, poisoned_of, replicas_of};
use infera_ledger::{
    Accepted, Idempotency, JobReader, JobState, JobView, LedgerError, NodePool, PoisonedJob, Statistics,
    job_state, totals,
};
use infera_types::ids::{AccountId, Digest, JobId, ModelName};
use infera_types::job::{Settlement, VerificationPolicy, VerificationStatus};
use infera_types::service::ServiceTier;
use infera_types::time::Timestamp;

#[async_trait]
impl JobReader for SqliteLedger {
    /// Leaves the group out of the view's settlement: it is large and does not concern the account.
    async fn job(&self, account: &AccountId, job: JobId) -> Result<Option<JobView>, LedgerError> {
        let account = account.clone();
        self.read(move |connection| view(connection, &account, job)).await
    }

    async fn settlements(&self, jobs: &[JobId]) -> Result<Vec<Settlement>, LedgerError> {
        let jobs = jobs.to_vec();
        self.read(move |connection| {
            let found = jobs.iter().map(|job| read(connection, *job, Groups::Included));
            found.filter_map(Result::transpose).collect()
        })
        .await
    }

    async fn earlier_use(
        &self,
        account: &AccountId,
        idempotency: &Idempotency,
    ) -> Result<Option<Accepted>, LedgerError> {
        let (account, idempotency) = (account.clone(), *idempotency);
        self.read(move |connection| earlier_use(connection, &account, &idempotency)).await
    }

    async fn poisoned(&self, only: Option<JobId>, limit: u32) -> Result<Vec<PoisonedJob>, LedgerError> {
        self.read(move |connection| poisoned(connection, only, limit)).await
    }

    async fn statistics(&self, _now: Timestamp) -> Result<Statistics, LedgerError> {
        self.read(statistics).await
    }
}

/// Returns a job as its account may see it.
pub(super) fn view(
    connection: &Connection,
    account: &AccountId,
    job: JobId,
) -> Result<Option<JobView>, Failure> {
    let row = connection
        .numbered(
            "SELECT jobs.model, jobs.state, jobs.accepted_ms, jobs.deadline_ms, disputes.status, metadata, jobs.tier,
                 jobs.erase_after_ms, jobs.erased_ms, charges.prompt_price, charges.completion_price,
                 jobs.choice, jobs.choices, jobs.shows_tokens
             FROM jobs LEFT JOIN disputes ON disputes.job_id = jobs.id
                 LEFT JOIN charges ON charges.job_id = jobs.id
                 LEFT JOIN job_lists ON job_lists.account = jobs.account AND job_lists.job_id = jobs.id
             WHERE jobs.id = $1 AND jobs.account = $2",
        )?
        .query_row(params![job.blob(), Word(account.as_str())], |row| {
            let model: String = row.get(0)?;
            let state: i64 = row.get(1)?;
            let dispute: Option<String> = row.get(4)?;
            let (metadata, tier): (Option<String>, _) = (row.get(5)?, ServiceTier::of_number(row.get(6)?));
            let times = (time(row, 2)?, time(row, 3)?);
            let kept = (kept(row.get(7)?, row.get(8)?), optional_price(row, 9)?);
            let told = (choice(row, 11)?, row.get::<_, i64>(13)? != 0);
            Ok((model, tier, state, times, dispute, metadata, kept, told))
        })
        .optional()?;
    let Some((model, tier, state, (accepted_ms, deadline_ms), dispute, metadata, (kept, price), told)) = row
    else {
        return Ok(None);
    };
    let (state, settlement) = (JobState::of_number(state), read(connection, job, Groups::LeftOut)?);
    Ok(Some(JobView {
        id: job,
        choice: told.0,
        shows_tokens: told.1,
        model: ModelName::new(model),
        tier,
        state,
        accepted_ms,
        deadline_ms,
        settlement: ended_with(job, state, settlement)?,
        dispute: dispute.map(|word| dispute_of(&word)).transpose()?,
        metadata: metadata_of(metadata.as_deref())?,
        kept,
        price,
    }))
}

fn poisoned(connection: &Connection, only: Option<JobId>, limit: u32) -> Result<Vec<PoisonedJob>, Failure> {
    let mut statement = connection.numbered(
        "SELECT jobs.id, jobs.account, jobs.model, jobs.request, jobs.quorum, jobs.replicas, settled_ms,
             jobs.request_hash, jobs.share, jobs.erase_after_ms, jobs.retention_days
         FROM settlements JOIN jobs ON jobs.id = settlements.job_id
         WHERE reason = 'poison' AND (settlements.job_id = $1 OR $1 IS NULL)
         ORDER BY settled_ms DESC, settlements.job_id DESC LIMIT $2",
    )?;
    let found = statement.query_map(params![only.as_ref().map(Blob::blob), limit], |row| {
        let job = PoisonedJob {
            id: job_id(row, 0)?,
            account: AccountId::new(row.get::<_, String>(1)?),
            model: ModelName::new(row.get::<_, String>(2)?),
            request: row.get(3)?,
            policy: VerificationPolicy { quorum: row.get(4)?, replicas: replicas_of(row.get(5)?) },
            pool: NodePool::of_share(&row.get::<_, String>(8)?),
            settled_ms: time(row, 6)?,
            keeping: keeping(row.get(9)?, row.get(10)?),
        };
        Ok((job, optional_digest(row, 7)?))
    })?;
    let found: Vec<(PoisonedJob, Option<Digest>)> = found.collect::<rusqlite::Result<_>>()?;
    Ok(poisoned_of(only, found)?)
}

fn dispute_of(word: &str) -> Result<VerificationStatus, Failure> {
    serde_json::from_value(serde_json::Value::from(word))
        .map_err(|error| Failure::row(format!("stored dispute cannot be read: {error}")))
}

fn statistics(connection: &Connection) -> Result<Statistics, Failure> {
    let mut statistics = Statistics::default();
    let mut statement = connection.numbered("SELECT name, value FROM totals")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let value = count(row, 1)?;
        let name = row.get_ref(0)?.as_str().map_err(|error| LedgerError::Row(error.to_string()))?;
        totals::enter(&mut statistics, name, value);
    }
    let counted = |sql: &'static str| connection.numbered(sql)?.query_row([], |row| count(row, 0));
    statistics.queued = counted(concat!("SELECT COUNT(*) FROM jobs WHERE state = ", job_state!(queued)))?;
    statistics.running = counted(concat!("SELECT COUNT(*) FROM jobs WHERE state = ", job_state!(running)))?;
    statistics.nodes = counted("SELECT COUNT(*) FROM nodes WHERE revoked_ms IS NULL")?;
    statistics.disputed = counted("SELECT COUNT(*) FROM disputes WHERE status = 'disputed'")?;
    Ok(statistics)
}
