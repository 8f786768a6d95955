//! Reads jobs, for both roles.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::accepting::used_again;
use super::charging::optional_price;
use super::settling::{read, settlement};
use super::values::{choice, count, digest, flag, get, job_id, optional_digest, policy, time};
use infera_ledger::listing::metadata_of;
use infera_ledger::statements::EARLIER_USE;
use infera_ledger::stored::{ended_with, keeping, kept, poisoned_of};
use infera_ledger::{
    Accepted, Idempotency, JobReader, JobState, JobView, LedgerError, NodePool, PoisonedJob, Statistics,
    job_state, totals,
};
use infera_types::ids::{AccountId, Digest, JobId, ModelName};
use infera_types::job::{Settlement, VerificationStatus};
use infera_types::service::ServiceTier;
use infera_types::time::Timestamp;

/// The columns that [`view`] reads; a settlement is read from the first ones.
pub(super) const VIEWS: &str =
    "SELECT jobs.id, settlements.settlement, settlements.hash, jobs.model, jobs.accepted_ms, jobs.deadline_ms,
        disputes.status, jobs.state, job_lists.metadata, jobs.tier, jobs.erase_after_ms, jobs.erased_ms,
        charges.prompt_price, charges.completion_price, jobs.choice, jobs.choices, jobs.shows_tokens
    FROM jobs LEFT JOIN settlements ON settlements.job_id = jobs.id
        LEFT JOIN disputes ON disputes.job_id = jobs.id
        LEFT JOIN charges ON charges.job_id = jobs.id
        LEFT JOIN job_lists ON job_lists.account = jobs.account AND job_lists.job_id = jobs.id
    WHERE jobs.id = ANY($1) AND jobs.account = $2";

const POISONED: &str =
    "SELECT jobs.id, jobs.account, jobs.model, jobs.request, jobs.quorum, jobs.replicas, settled_ms,
        jobs.request_hash, jobs.share, jobs.erase_after_ms, jobs.retention_days
    FROM settlements JOIN jobs ON jobs.id = settlements.job_id
    WHERE reason = 'poison' AND (settlements.job_id = $1 OR $1::bytea IS NULL)
    ORDER BY settled_ms DESC, settlements.job_id DESC LIMIT $2";

const STATISTICS: &str = concat!(
    "SELECT name, SUM(value)::bigint FROM totals GROUP BY name
    UNION ALL SELECT 'queued', COUNT(*) FROM jobs WHERE state = ",
    job_state!(queued),
    "
    UNION ALL SELECT 'running', COUNT(*) FROM jobs WHERE state = ",
    job_state!(running),
    "
    UNION ALL SELECT 'nodes', COUNT(*) FROM nodes WHERE revoked_ms IS NULL
    UNION ALL SELECT 'disputed', COUNT(*) FROM disputes WHERE status = 'disputed'"
);

#[async_trait]
impl JobReader for PostgresLedger {
    /// Leaves the group out of the view's settlement: it is large and does not concern the account.
    async fn job(&self, account: &AccountId, job: JobId) -> Result<Option<JobView>, LedgerError> {
        let jobs = [&job.as_bytes()[..]];
        let found = self.pool.query_opt(VIEWS, &[&&jobs[..], &account.as_str()]).await?;
        found.map(|row| view(&row)).transpose()
    }

    async fn settlements(&self, jobs: &[JobId]) -> Result<Vec<Settlement>, LedgerError> {
        read(&self.pool, jobs).await
    }

    async fn earlier_use(
        &self,
        account: &AccountId,
        idempotency: &Idempotency,
    ) -> Result<Option<Accepted>, LedgerError> {
        let key = &idempotency.key.as_bytes()[..];
        let found = self.pool.query_opt(EARLIER_USE, &[&account.as_str(), &key]).await?;
        found.map(|row| Ok(used_again(idempotency, digest(&row, 0)?, job_id(&row, 1)?))).transpose()
    }

    async fn poisoned(&self, asked: Option<JobId>, limit: u32) -> Result<Vec<PoisonedJob>, LedgerError> {
        let only = asked.as_ref().map(|job| &job.as_bytes()[..]);
        let rows = self.pool.query(POISONED, &[&only, &i64::from(limit)]).await?;
        let found = rows.iter().map(poisoned_job).collect::<Result<_, _>>()?;
        poisoned_of(asked, found)
    }

    async fn statistics(&self, _now: Timestamp) -> Result<Statistics, LedgerError> {
        let mut statistics = Statistics::default();
        for row in &self.pool.query(STATISTICS, &[]).await? {
            let value = count(row, 1)?;
            match get::<&str>(row, 0)? {
                "queued" => statistics.queued = value,
                "running" => statistics.running = value,
                "nodes" => statistics.nodes = value,
                "disputed" => statistics.disputed = value,
                total => totals::enter(&mut statistics, total, value),
            }
        }
        Ok(statistics)
    }
}

/// Reads a row of [`VIEWS`].
pub(super) fn view(row: &Row) -> Result<JobView, LedgerError> {
    let job = job_id(row, 0)?;
    let has_ended = get::<Option<&str>>(row, 1)?.is_some();
    let dispute: Option<String> = get(row, 6)?;
    let state = JobState::of_number(get::<i16>(row, 7)?.into());
    let settlement = has_ended.then(|| settlement(row)).transpose()?;
    Ok(JobView {
        id: job,
        choice: choice(row, 14)?,
        shows_tokens: flag(row, 16)?,
        model: ModelName::new(get::<String>(row, 3)?),
        tier: ServiceTier::of_number(get::<i16>(row, 9)?.into()),
        state,
        accepted_ms: time(row, 4)?,
        deadline_ms: time(row, 5)?,
        settlement: ended_with(job, state, settlement)?,
        dispute: dispute.map(|word| dispute_of(&word)).transpose()?,
        metadata: metadata_of(get(row, 8)?)?,
        kept: kept(get(row, 10)?, get(row, 11)?),
        price: optional_price(row, 12)?,
    })
}

/// Reads a poisoned job and its request's hash.
fn poisoned_job(row: &Row) -> Result<(PoisonedJob, Option<Digest>), LedgerError> {
    let job = PoisonedJob {
        id: job_id(row, 0)?,
        account: AccountId::new(get::<String>(row, 1)?),
        model: ModelName::new(get::<String>(row, 2)?),
        request: get(row, 3)?,
        policy: policy(row, 4)?,
        pool: NodePool::of_share(get(row, 8)?),
        settled_ms: time(row, 6)?,
        keeping: keeping(get(row, 9)?, get(row, 10)?),
    };
    Ok((job, optional_digest(row, 7)?))
}

fn dispute_of(word: &str) -> Result<VerificationStatus, LedgerError> {
    serde_json::from_value(serde_json::Value::from(word))
        .map_err(|error| LedgerError::Row(format!("stored dispute cannot be read: {error}")))
}
