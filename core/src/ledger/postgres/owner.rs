//! The verifier's half of a job's life: take, release, misses, settle, post.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::posting::Lines;
use super::settling::read;
use super::values::{
    count, flag, from_json, get, job_id, millis, ordered, policy, small, time, to_json, word,
};
use crate::ids::{AccountId, GatewayId, JobId, ModelName, VerifierId};
use crate::job::Settlement;
use crate::ledger::stored::SettlementRow;
use crate::ledger::{JobOwner, LedgerError, Miss, Notice, Posting, Settled, Take, TakenJob};
use crate::time::Timestamp;

/// Alive is who asks, and who has the lease named by its own id.
const TAKE: &str = "WITH locked AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE)
    UPDATE jobs SET state = 1, owner = $3, handouts = handouts + 1,
        lost_handouts = lost_handouts + is_handed_out, is_handed_out = 1, unconfirmed_ms = NULL
    FROM locked JOIN unnest($1::bytea[], $2::smallint[]) AS notices (id, redelivered) USING (id)
    WHERE jobs.id = locked.id AND state < 2 AND (owner IS NULL OR redelivered = 1 OR (owner <> $3 AND NOT EXISTS (
        SELECT 1 FROM leases WHERE leases.name = jobs.owner AND leases.holder = jobs.owner
            AND leases.until_ms > $4)))
    RETURNING jobs.id, account, model, request, quorum, replicas, gateway, synchronous, accepted_ms, deadline_ms, \
        epoch, lost_handouts, misses";

const RELEASE: &str = "WITH locked AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE)
    UPDATE jobs SET state = 0, owner = NULL, handouts = handouts - 1, is_handed_out = 0, unconfirmed_ms = $3
    FROM locked WHERE jobs.id = locked.id AND owner = $2 AND state = 1";

/// A job has one owner, which has a handful of assignments open: more misses than this never come between.
const MISS_TRIES: u32 = 16;

#[async_trait]
impl JobOwner for PostgresLedger {
    async fn take(
        &self,
        owner: &VerifierId,
        notices: &[Notice],
        now: Timestamp,
    ) -> Result<Vec<Take>, LedgerError> {
        if notices.is_empty() {
            return Ok(Vec::new());
        }
        let mut taken = self.take_those_free(owner, notices, now).await?;
        let others: Vec<JobId> =
            notices.iter().map(|notice| notice.job).filter(|job| !taken.contains_key(job)).collect();
        let mut ended = HashMap::new();
        if !others.is_empty() {
            ended.extend(read(&self.pool, &others).await?.into_iter().map(|end| (end.job_id, end)));
        }
        // The same job twice in a batch is one handout.
        let outcome = |notice: &Notice| match taken.remove(&notice.job) {
            Some(job) => Take::Taken(job),
            None => ended.remove(&notice.job).map_or(Take::Nothing(notice.job), Take::Settled),
        };
        Ok(notices.iter().map(outcome).collect())
    }

    async fn release(&self, owner: &VerifierId, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        self.pool.put(RELEASE, &[&ordered(jobs), &owner.as_str(), &millis(now)]).await?;
        Ok(())
    }

    async fn record_miss(&self, job: JobId, miss: &Miss) -> Result<(), LedgerError> {
        let id = &job.as_bytes()[..];
        for _ in 0..MISS_TRIES {
            let row = self.pool.query_opt("SELECT misses FROM jobs WHERE id = $1", &[&id]).await?;
            let row = row.ok_or_else(|| LedgerError::Row(format!("{job} was never accepted")))?;
            let stored: &str = get(&row, 0)?;
            let mut misses: Vec<Miss> = from_json("misses", stored.as_bytes())?;
            // Written again after an unknown outcome, it is the same miss.
            if misses.iter().any(|known| known.assignment == miss.assignment) {
                return Ok(());
            }
            misses.push(miss.clone());
            // Another miss that came between is read again.
            let sql = "UPDATE jobs SET misses = $3 WHERE id = $1 AND misses = $2 RETURNING 1";
            if !self.pool.change(sql, &[&id, &stored, &to_json(&misses)?]).await?.is_empty() {
                return Ok(());
            }
        }
        Err(LedgerError::Unavailable(format!("{job} misses faster than it can be written down")))
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, LedgerError> {
        let row = SettlementRow::of(settlement)?;
        word(row.account.as_str())?;
        self.settling.run(row).await
    }

    async fn post(&self, job: JobId, postings: &[Posting], closes: bool) -> Result<(), LedgerError> {
        self.posting.run(Lines::of(job, postings, closes)?).await
    }
}

impl PostgresLedger {
    async fn take_those_free(
        &self,
        owner: &VerifierId,
        notices: &[Notice],
        now: Timestamp,
    ) -> Result<HashMap<JobId, TakenJob>, LedgerError> {
        let mut seen = HashSet::with_capacity(notices.len());
        let first: Vec<&Notice> = notices.iter().filter(|notice| seen.insert(notice.job)).collect();
        let jobs: Vec<&[u8]> = first.iter().map(|notice| &notice.job.as_bytes()[..]).collect();
        let redelivered: Vec<i16> = first.iter().map(|notice| i16::from(notice.redelivered)).collect();
        let rows =
            self.pool.change(TAKE, &[&jobs, &redelivered, &word(owner.as_str())?, &millis(now)]).await?;
        rows.iter().map(|row| taken(row).map(|job| (job.id, job))).collect()
    }
}

fn taken(row: &Row) -> Result<TakenJob, LedgerError> {
    Ok(TakenJob {
        id: job_id(row, 0)?,
        account: AccountId::new(get::<String>(row, 1)?),
        model: ModelName::new(get::<String>(row, 2)?),
        // Bodies are only nulled after the end.
        request: get::<Option<Vec<u8>>>(row, 3)?.unwrap_or_default(),
        policy: policy(row, 4)?,
        gateway: GatewayId::new(get::<String>(row, 6)?),
        synchronous: flag(row, 7)?,
        accepted_ms: time(row, 8)?,
        deadline_ms: time(row, 9)?,
        epoch: count(row, 10)?,
        lost_handouts: small(row, 11)?,
        misses: from_json("misses", get::<&str>(row, 12)?.as_bytes())?,
    })
}
