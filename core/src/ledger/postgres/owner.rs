//! The verifier's half of a job's life: take, release, misses, settle, post.

use std::collections::HashMap;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::failure::Failure;
use super::lane::Work;
use super::posting::Lines;
use super::settling::readable_ends;
use super::values::{
    count, flag, from_json, get, job_id, millis, named, ordered, policy, small, time, to_json, word,
};
use crate::ids::{AccountId, GatewayId, JobId, ModelName, VerifierId};
use crate::job::Settlement;
use crate::ledger::stored::{SettlementRow, readable};
use crate::ledger::{JobOwner, LedgerError, Miss, Notice, Posting, Settled, Take, TakenJob};
use crate::time::Timestamp;

/// Alive is who asks, and who has the lease named by its own id. The ids are named once more for the rows to be changed: by the
/// join of three alone the planner may look through all jobs for them.
const TAKE: &str = "WITH locked AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE)
    UPDATE jobs SET state = 1, owner = notices.owner, handouts = handouts + 1,
        lost_handouts = lost_handouts + is_handed_out, is_handed_out = 1, unconfirmed_ms = NULL
    FROM locked JOIN unnest($1::bytea[], $2::smallint[], $3::text[], $4::bigint[])
        AS notices (id, redelivered, owner, now_ms) USING (id)
    WHERE jobs.id = locked.id AND jobs.id = ANY($1) AND state + 0 < 2 AND (jobs.owner IS NULL OR redelivered = 1
        OR (jobs.owner <> notices.owner AND NOT EXISTS (
            SELECT 1 FROM leases WHERE leases.name = jobs.owner AND leases.holder = jobs.owner
                AND leases.until_ms > now_ms)))
    RETURNING jobs.id, account, model, request, quorum, replicas, gateway, synchronous, accepted_ms, deadline_ms, \
        epoch, lost_handouts, misses";

const RELEASE: &str = "WITH locked AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE)
    UPDATE jobs SET state = 0, owner = NULL, handouts = handouts - 1, is_handed_out = 0, unconfirmed_ms = $3
    FROM locked WHERE jobs.id = locked.id AND owner = $2 AND state + 0 = 1";

/// What a job's body is reckoned at before it is read: some hundred jobs share a statement. Few are as long, but all that come
/// back are in memory together, and if the answer is lost all are handed out once more.
const BODY_BYTES: usize = 32 * 1024;

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
        word(owner.as_str())?;
        let taking = Taking { owner: owner.clone(), notices: notices.to_vec(), now };
        let mut taken = self.taking.run(taking).await?;
        let others: Vec<JobId> =
            notices.iter().map(|notice| notice.job).filter(|job| !taken.contains_key(job)).collect();
        let mut ended = HashMap::new();
        if !others.is_empty() {
            let found = readable_ends(&self.pool, &others).await;
            // Told that nothing was taken, the caller would leave what was to nobody.
            let found = found.map_err(|error| if taken.is_empty() { error } else { half_told(&error) })?;
            ended.extend(found.into_iter().map(|end| (end.job_id, end)));
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

fn half_told(error: &LedgerError) -> LedgerError {
    LedgerError::Unknown(format!("some jobs are taken, but what became of the others can't be read: {error}"))
}

/// What one caller takes.
pub(super) struct Taking {
    owner: VerifierId,
    notices: Vec<Notice>,
    now: Timestamp,
}

/// The lane of [`JobOwner::take`].
pub(super) struct Takings;

#[async_trait]
impl Work for Takings {
    type Item = Taking;
    type Outcome = HashMap<JobId, TakenJob>;

    /// Nobody would do the jobs, and the next owner would count a handout as lost.
    const OUTLIVES_CALLER: bool = false;

    fn key(&self, _taking: &Taking) -> Option<[u8; 16]> {
        None
    }

    /// A body comes back for each.
    fn weight(&self, taking: &Taking) -> usize {
        taking.notices.len() * BODY_BYTES
    }

    /// One statement, which commits by itself.
    async fn commit(
        &self,
        client: &ClientWrapper,
        takings: &[&Taking],
    ) -> Result<Vec<Result<HashMap<JobId, TakenJob>, LedgerError>>, Failure> {
        // A job that several name is taken once, for the first of them, or the first who may take it from whoever has it.
        let mut takers: HashMap<JobId, (usize, bool)> = HashMap::new();
        for (index, taking) in takings.iter().enumerate() {
            for notice in &taking.notices {
                let by = takers.entry(notice.job).or_insert((index, notice.redelivered));
                if notice.redelivered && !by.1 {
                    *by = (index, true);
                }
            }
        }
        let (mut jobs, mut redelivered, mut owners, mut times) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (job, (index, is_redelivered)) in &takers {
            if let Some(taking) = takings.get(*index) {
                jobs.push(&job.as_bytes()[..]);
                redelivered.push(i16::from(*is_redelivered));
                owners.push(taking.owner.as_str());
                times.push(millis(taking.now));
            }
        }
        let take = client.prepare_cached(TAKE).await?;
        let rows = client.query(&take, &[&jobs, &redelivered, &owners, &times]).await;
        let rows = rows.map_err(Failure::of_commit)?;
        let mut outcomes: Vec<HashMap<JobId, TakenJob>> = takings.iter().map(|_| HashMap::new()).collect();
        // All are taken by now. One that can't be read is passed by, and is overdue some day; its neighbours are told.
        for job in readable(rows.iter().map(|row| named(row, taken)))? {
            let outcome = takers.get(&job.id).and_then(|(index, _)| outcomes.get_mut(*index));
            if let Some(outcome) = outcome {
                outcome.insert(job.id, job);
            }
        }
        Ok(outcomes.into_iter().map(Ok).collect())
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
