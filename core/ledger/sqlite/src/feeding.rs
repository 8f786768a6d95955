//! Counts what waits, finds held jobs by their flows, and offers them. The flows of a model are found by jumping from one
//! key to the next in the index `jobs_queued`, so that a flow with many jobs costs no more than one with few.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteLedger;
use super::failure::Failure;
use super::values::{Blob, Numbered as _, Word, count, job_id, millis, small, whole};
use infera_ledger::stored::replicas_of;
use infera_ledger::{
    Feeding, Flow, FlowKey, HeldJob, HeldQuestion, LedgerError, Share, Turn, WaitingJobs, job_state,
};
use infera_types::ids::{AccountId, JobId, ModelName};
use infera_types::service::{Lane, ServiceTier};
use infera_types::time::Timestamp;

/// Finds the next model, in the order of names, for which jobs wait.
const NEXT_MODEL: &str = concat!(
    "SELECT model FROM jobs WHERE state = ",
    job_state!(queued),
    " AND model > $1 ORDER BY model LIMIT 1"
);

/// Counts the waiting jobs of a model and lane that are held or not.
const WAITING: &str = concat!(
    "SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE state = ",
    job_state!(queued),
    " AND model = $1 AND held = $2 AND lane = $3 LIMIT $4)"
);

/// Finds the next flow with held jobs, in the order of keys.
const NEXT_FLOW: &str = concat!(
    "SELECT share, tier, account FROM jobs WHERE state = ",
    job_state!(queued),
    " AND model = $1 AND held = 1 AND lane = $2 AND (share, tier, account) > ($3, $4, $5)
    ORDER BY share, tier, account LIMIT 1"
);

/// Finds the oldest held jobs of a flow.
const OLDEST: &str = concat!(
    "SELECT id, prompt_estimate, share_weight, replicas, synchronous FROM jobs WHERE state = ",
    job_state!(queued),
    " AND model = $1 AND held = 1 AND lane = $2 AND share = $3 AND tier = $4 AND account = $5 AND deadline_ms > $6
    ORDER BY accepted_ms LIMIT $7"
);

const USUAL: &str = "SELECT usual_tokens, excess_tokens FROM waiting WHERE account = $1";

const OFFER: &str = concat!(
    "UPDATE jobs SET held = 0, charged = $2, unconfirmed_ms = $3 WHERE id = $1 AND state = ",
    job_state!(queued),
    " AND held = 1"
);

#[async_trait]
impl Feeding for SqliteLedger {
    async fn waiting(&self, count_max: u32) -> Result<Vec<WaitingJobs>, LedgerError> {
        self.read(move |connection| waiting(connection, count_max)).await
    }

    async fn held(&self, question: &HeldQuestion, now: Timestamp) -> Result<Vec<Flow>, LedgerError> {
        let question = question.clone();
        self.read(move |connection| held(connection, &question, now)).await
    }

    async fn offer(&self, turns: &[Turn], now: Timestamp) -> Result<Vec<JobId>, LedgerError> {
        let turns = turns.to_vec();
        self.write(move |connection| {
            let mut statement = connection.numbered(OFFER)?;
            let mut offered = Vec::with_capacity(turns.len());
            for turn in &turns {
                let values = params![turn.id.blob(), whole(turn.charged_tokens), millis(now)];
                if statement.execute(values)? == 1 {
                    offered.push(turn.id);
                }
            }
            Ok(offered)
        })
        .await
    }
}

fn waiting(connection: &Connection, count_max: u32) -> Result<Vec<WaitingJobs>, Failure> {
    let mut next = connection.numbered(NEXT_MODEL)?;
    let mut counted = connection.numbered(WAITING)?;
    let mut found = Vec::new();
    let mut last = String::new();
    while let Some(model) = next.query_row([&last], |row| row.get::<_, String>(0)).optional()? {
        for lane in Lane::ALL {
            let mut jobs = |held: i64| {
                counted.query_row(params![model, held, *lane as i64, count_max], |row| count(row, 0))
            };
            let (offered, held) = (jobs(0)?, jobs(1)?);
            if offered + held > 0 {
                found.push(WaitingJobs { model: ModelName::new(model.clone()), lane: *lane, offered, held });
            }
        }
        last = model;
    }
    Ok(found)
}

fn held(connection: &Connection, question: &HeldQuestion, now: Timestamp) -> Result<Vec<Flow>, Failure> {
    let HeldQuestion { model, lane, after, flows_max, .. } = question;
    let (model, lane) = (Word(model.as_str()), *lane as i64);
    let mut next = connection.numbered(NEXT_FLOW)?;
    // Before the first flow: no tier has a negative number.
    let mut last = after.clone().map_or_else(
        || (String::new(), -1, String::new()),
        |key| (key.share.as_str().to_owned(), key.tier as i64, key.account.as_str().to_owned()),
    );
    let mut flows = Vec::new();
    while flows.len() < usize::try_from(*flows_max).unwrap_or(usize::MAX) {
        let values = params![model, lane, Word(&last.0), last.1, Word(&last.2)];
        let found = next.query_row(values, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
        let Some(found) = found else { break };
        last = found;
        let key = FlowKey {
            share: Share::new(last.0.clone()),
            tier: ServiceTier::of_number(last.1),
            account: AccountId::new(last.2.clone()),
        };
        flows.extend(flow(connection, question, key, now)?);
    }
    Ok(flows)
}

/// Returns a flow with its oldest jobs; none if all of them are about to expire.
fn flow(
    connection: &Connection,
    question: &HeldQuestion,
    key: FlowKey,
    now: Timestamp,
) -> Result<Option<Flow>, Failure> {
    let mut statement = connection.numbered(OLDEST)?;
    let mut rows = statement.query(params![
        Word(question.model.as_str()),
        question.lane as i64,
        Word(key.share.as_str()),
        key.tier as i64,
        Word(key.account.as_str()),
        millis(now),
        question.jobs_max
    ])?;
    let (mut jobs, mut weight) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        weight = weight.or(Some(small(row, 2)?));
        jobs.push(HeldJob {
            id: job_id(row, 0)?,
            prompt_tokens: count(row, 1)?,
            replicas: replicas_of(row.get(3)?),
            is_awaited: row.get::<_, i64>(4)? != 0,
        });
    }
    let Some(weight) = weight else { return Ok(None) };
    let (usual_answer_tokens, excess_tokens) = connection
        .numbered(USUAL)?
        .query_row([Word(key.account.as_str())], |row| {
            let usual = row.get::<_, Option<i64>>(0)?.map(|tokens| u64::try_from(tokens).unwrap_or(0));
            Ok((usual, row.get(1)?))
        })
        .optional()?
        .unwrap_or((None, 0));
    Ok(Some(Flow { key, weight: weight.max(1), usual_answer_tokens, excess_tokens, jobs }))
}
