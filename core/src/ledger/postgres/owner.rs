//! The verifier's half of a job's life: take, release, misses, settle, post.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::failure::Failure;
use super::lane::Work;
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

/// Alive is who asks, and who has the lease named by its own id. The ids are named once more for the rows to be changed: by the
/// join alone the planner may look through all jobs for them.
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

/// What a job's body is reckoned at before it is read, by which takes that share a statement are bounded.
const BODY_BYTES: usize = 4 * 1024;

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
        let taking = Taking { owner: owner.clone(), notices: notices.to_vec(), now };
        word(owner.as_str())?;
        let mut taken = self.taking.run(taking).await?;
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
        // Whoever names a job first has it, if it is to be had: it is taken once.
        let mut first: HashMap<JobId, usize> = HashMap::new();
        let (mut jobs, mut redelivered, mut owners, mut times) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, taking) in takings.iter().enumerate() {
            for notice in &taking.notices {
                if let Entry::Vacant(place) = first.entry(notice.job) {
                    place.insert(index);
                    jobs.push(&notice.job.as_bytes()[..]);
                    redelivered.push(i16::from(notice.redelivered));
                    owners.push(taking.owner.as_str());
                    times.push(millis(taking.now));
                }
            }
        }
        let take = client.prepare_cached(TAKE).await?;
        let rows = client.query(&take, &[&jobs, &redelivered, &owners, &times]).await;
        let mut outcomes: Vec<Result<HashMap<JobId, TakenJob>, LedgerError>> =
            takings.iter().map(|_| Ok(HashMap::new())).collect();
        for row in &rows.map_err(Failure::of_commit)? {
            let id = job_id(row, 0)?;
            let Some(outcome) = first.get(&id).and_then(|index| outcomes.get_mut(*index)) else { continue };
            // It is taken by now, and so are its neighbours: one that can't be read is its own caller's trouble alone.
            match (taken(row), &mut *outcome) {
                (Ok(job), Ok(jobs)) => drop(jobs.insert(id, job)),
                (Err(error), _) => *outcome = Err(error),
                (Ok(_), Err(_)) => {}
            }
        }
        Ok(outcomes)
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
