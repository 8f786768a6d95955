//! The verifier's half of a job's life: takes, releases, records misses, settles and posts.

use std::collections::HashMap;

use super::PostgresLedger;
use super::posting::Lines;
use super::settling::readable_ends;
use super::taking::Taking;
use super::values::{choice, from_json, get, millis, ordered, to_json, word};
use async_trait::async_trait;
use infera_ledger::stored::SettlementRow;
use infera_ledger::{
    JobBatches as _, JobOwner, LedgerError, Miss, Notice, Posting, Settled, Take, job_state,
};
use infera_types::ids::{JobId, VerifierId};
use infera_types::job::Settlement;
use infera_types::service::Lane;
use infera_types::time::Timestamp;

const RELEASE: &str = concat!(
    "WITH locked AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE)
    UPDATE jobs SET state = ",
    job_state!(queued),
    ", owner = NULL, handouts = handouts - 1, is_handed_out = 0,
        held = CASE WHEN lane = $4::smallint THEN 1 ELSE 0 END,
        unconfirmed_ms = CASE WHEN lane <> $4::smallint THEN $3::bigint END
    FROM locked WHERE jobs.id = locked.id AND owner = $2 AND state + 0 = ",
    job_state!(running)
);

/// How often recording a miss is tried. A job has one owner, with a handful of open assignments: more misses than
/// this never come in between.
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
            // If the caller were told that nothing was taken, the taken jobs would not be done.
            let found = found.map_err(|error| if taken.is_empty() { error } else { half_told(&error) })?;
            ended.extend(found.into_iter().map(|end| (end.job_id, end)));
        }
        // The same job twice in a batch counts as one handout.
        let outcome = |notice: &Notice| match taken.remove(&notice.job) {
            Some(job) => Take::Taken(job),
            None => ended.remove(&notice.job).map_or(Take::Nothing(notice.job), Take::Settled),
        };
        Ok(notices.iter().map(outcome).collect())
    }

    async fn release(&self, owner: &VerifierId, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        let own = Lane::Own as i16;
        self.pool.put(RELEASE, &[&ordered(jobs), &owner.as_str(), &millis(now), &own]).await?;
        Ok(())
    }

    async fn record_miss(&self, job: JobId, miss: &Miss) -> Result<(), LedgerError> {
        let id = &job.as_bytes()[..];
        for _ in 0..MISS_TRIES {
            let row = self.pool.query_opt("SELECT misses FROM jobs WHERE id = $1", &[&id]).await?;
            let row = row.ok_or_else(|| LedgerError::Row(format!("{job} was never accepted")))?;
            let stored: &str = get(&row, 0)?;
            let mut misses: Vec<Miss> = from_json("misses", stored.as_bytes())?;
            // A miss that is written again after an unknown outcome is the same miss.
            if misses.iter().any(|known| known.assignment == miss.assignment) {
                return Ok(());
            }
            misses.push(miss.clone());
            // If another miss came in between, the row is read again.
            let sql = "UPDATE jobs SET misses = $3 WHERE id = $1 AND misses = $2 RETURNING 1";
            if !self.pool.change(sql, &[&id, &stored, &to_json(&misses)?]).await?.is_empty() {
                return Ok(());
            }
        }
        Err(LedgerError::Unavailable(format!("{job} gets misses faster than they can be stored; try again")))
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, LedgerError> {
        let row = SettlementRow::of(settlement, self.packing.end_forms())?;
        word(row.account.as_str())?;
        let settled = self.settling.run(row).await?;
        // A second try of what did commit calls off again: the first may have died between its two commits.
        let ended = if let Settled::Before(winner) = &settled { winner } else { settlement };
        if ended.end.owed().is_none() {
            self.call_off_others(ended).await;
        }
        Ok(settled)
    }

    async fn post(&self, job: JobId, postings: &[Posting], closes: bool) -> Result<(), LedgerError> {
        self.posting.run(Lines::of(job, postings, closes)?).await
    }
}

impl PostgresLedger {
    /// Cancels the other jobs of a request one of whose answers failed, in a commit of its own: theirs are other rows, which other
    /// verifiers may be ending at that moment. What the failure is stays true if that doesn't come through; the others then go on to
    /// ends of their own.
    pub(super) async fn call_off_others(&self, failed: &Settlement) {
        let (job, account) = (failed.job_id, &failed.account);
        let others = match self.pool.query_opt(CHOICE, &[&&job.as_bytes()[..]]).await {
            Ok(row) => row.map_or(Ok(Vec::new()), |row| Ok(choice(&row, 0)?.others(job))),
            Err(error) => Err(error),
        };
        let called_off = match others {
            Ok(others) if others.is_empty() => return,
            Ok(others) => self.cancel_all(account, &others, failed.settled_ms).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = called_off {
            tracing::warn!(%job, %error, "a request's answer failed, and the others can't be called off");
        }
    }
}

const CHOICE: &str = "SELECT choice, choices FROM jobs WHERE id = $1";

fn half_told(error: &LedgerError) -> LedgerError {
    LedgerError::Unknown(format!(
        "some jobs were taken, but the outcome of the others cannot be read: {error}"
    ))
}
