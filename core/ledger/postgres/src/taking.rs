//! Takes jobs: what several callers take shares one statement, which commits by itself.

use std::collections::HashMap;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;

use super::failure::Failure;
use super::lane::Work;
use super::pool::Parameters;
use super::values::{
    choice, count, flag, from_json, get, job_id, millis, named, optional_digest, policy, small, time,
};
use infera_ledger::stored::{latest, readable, request_of};
use infera_ledger::{LedgerError, NodePool, Notice, TakenJob, job_state};
use infera_types::ids::{AccountId, GatewayId, JobId, ModelName, VerifierId};
use infera_types::money::Payment;
use infera_types::service::{Lane, ServiceTier};
use infera_types::time::Timestamp;

/// Takes jobs, also held ones: a program of the version before may have published them. The taker counts as alive, and so does an owner with a live lease named by its own id. The ids are
/// repeated for the rows to be changed: given only the join of three, the planner may scan all jobs for them.
const TAKE: &str = concat!(
    "WITH locked AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE)
    UPDATE jobs SET state = ",
    job_state!(running),
    ", owner = notices.owner, held = 0, handouts = handouts + is_new,
        lost_handouts = lost_handouts + is_new * is_handed_out, is_handed_out = weight, unconfirmed_ms = NULL
    FROM locked JOIN unnest($1::bytea[], $2::smallint[], $3::text[], $4::bigint[], $5::bigint[],
            $6::smallint[], $7::smallint[])
        AS notices (id, redelivered, owner, now_ms, latest_ms, weight, is_new) USING (id)
    WHERE jobs.id = locked.id AND jobs.id = ANY($1) AND state + 0 < ",
    job_state!(ended),
    "
        AND CASE WHEN is_new = 0 THEN jobs.owner = notices.owner ELSE jobs.owner IS NULL OR redelivered = 1
            OR (jobs.owner <> notices.owner AND NOT EXISTS (
                SELECT 1 FROM leases WHERE leases.name = jobs.owner AND leases.holder = jobs.owner
                    AND leases.until_ms > now_ms AND leases.taken_ms <= latest_ms)) END
    RETURNING jobs.id, account, model, request, quorum, replicas, gateway, synchronous, accepted_ms,
        deadline_ms, epoch, lost_handouts, misses, request_hash, lane, tier, share,
        (SELECT is_paid FROM charges WHERE charges.job_id = jobs.id), choice, choices"
);

/// The assumed size of a job's body before it is read: some hundred jobs share a statement. Most bodies are shorter,
/// but all that are returned are in memory together, and if the answer is lost, all of them are handed out once more.
const BODY_BYTES: usize = 32 * 1024;

/// The jobs that one caller takes.
pub(super) struct Taking {
    pub(super) owner: VerifierId,
    pub(super) notices: Vec<Notice>,
    pub(super) now: Timestamp,
}

/// The lane of [`infera_ledger::JobOwner::take`].
pub(super) struct Takings;

#[async_trait]
impl Work for Takings {
    type Item = Taking;
    type Outcome = HashMap<JobId, TakenJob>;

    /// Without the caller the taken jobs would not be done, and the next owner would count a handout as lost.
    const OUTLIVES_CALLER: bool = false;

    fn key(&self, _taking: &Taking) -> Option<[u8; 16]> {
        None
    }

    /// Counts a body for each job, because it is returned.
    fn weight(&self, taking: &Taking) -> usize {
        taking.notices.len() * BODY_BYTES
    }

    /// Runs one statement, which commits by itself.
    async fn commit(
        &self,
        client: &ClientWrapper,
        takings: &[&Taking],
    ) -> Result<Vec<Result<HashMap<JobId, TakenJob>, LedgerError>>, Failure> {
        // A job that several callers name is taken once: for the first of them, or for the first that may take it
        // from its present owner.
        let mut takers: HashMap<JobId, (usize, Notice)> = HashMap::new();
        for (index, taking) in takings.iter().enumerate() {
            for notice in &taking.notices {
                let by = takers.entry(notice.job).or_insert((index, *notice));
                if notice.redelivered && !by.1.redelivered {
                    *by = (index, *notice);
                }
            }
        }
        let (mut jobs, mut redelivered, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        let (mut times, mut latest_times) = (Vec::new(), Vec::new());
        let (mut weights, mut new) = (Vec::new(), Vec::new());
        for (job, (index, notice)) in &takers {
            if let Some(taking) = takings.get(*index) {
                jobs.push(&job.as_bytes()[..]);
                redelivered.push(i16::from(notice.redelivered));
                owners.push(taking.owner.as_str());
                times.push(millis(taking.now));
                latest_times.push(millis(latest(taking.now)));
                weights.push(notice.handout.weight());
                new.push(i16::from(notice.handout.is_new()));
            }
        }
        let take = client.prepare_cached(TAKE).await?;
        let arguments: Parameters<'_> =
            &[&jobs, &redelivered, &owners, &times, &latest_times, &weights, &new];
        let rows = client.query(&take, arguments).await;
        let rows = rows.map_err(Failure::of_commit)?;
        let mut outcomes: Vec<HashMap<JobId, TakenJob>> = takings.iter().map(|_| HashMap::new()).collect();
        // All jobs are taken by now. One that cannot be read is skipped, and becomes overdue some day; the others are
        // returned.
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
    // Bodies are nulled only after the end.
    let request = request_of(get(row, 3)?, optional_digest(row, 13)?)?.unwrap_or_default();
    Ok(TakenJob {
        id: job_id(row, 0)?,
        choice: choice(row, 18)?,
        account: AccountId::new(get::<String>(row, 1)?),
        model: ModelName::new(get::<String>(row, 2)?),
        request,
        policy: policy(row, 4)?,
        gateway: GatewayId::new(get::<String>(row, 6)?),
        synchronous: flag(row, 7)?,
        accepted_ms: time(row, 8)?,
        deadline_ms: time(row, 9)?,
        epoch: count(row, 10)?,
        lane: Lane::of_number(get::<i16>(row, 14)?.into()),
        tier: ServiceTier::of_number(get::<i16>(row, 15)?.into()),
        pool: NodePool::of_share(get(row, 16)?),
        payment: Payment::of_charge(get::<Option<i16>>(row, 17)?.map(|paid| paid != 0)),
        lost_handouts: small(row, 11)?,
        misses: from_json("misses", get::<&str>(row, 12)?.as_bytes())?,
    })
}
