//! Counts what waits, finds held jobs by their flows, and offers them. Models and flows are found by jumping from one key
//! to the next in the index `jobs_queued`, so that a flow with many jobs costs no more than one with few.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::pool::Parameters;
use super::values::{count, get, job_id, millis, small, whole, word};
use infera_ledger::stored::replicas_of;
use infera_ledger::{
    Feeding, Flow, FlowKey, HeldJob, HeldQuestion, LedgerError, Share, Turn, WaitingJobs, job_state,
};
use infera_types::ids::{AccountId, JobId, ModelName};
use infera_types::service::{Lane, ServiceTier};
use infera_types::time::Timestamp;

const WAITING: &str = concat!(
    "WITH RECURSIVE models (model) AS (
        (SELECT model FROM jobs WHERE state = ",
    job_state!(queued),
    " ORDER BY model LIMIT 1)
        UNION ALL
        SELECT next.model FROM models CROSS JOIN LATERAL (
            SELECT model FROM jobs WHERE state = ",
    job_state!(queued),
    " AND jobs.model > models.model ORDER BY jobs.model LIMIT 1) AS next)
    SELECT model, lane,
        (SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE state = ",
    job_state!(queued),
    " AND jobs.model = models.model AND held = 0 AND jobs.lane = lanes.lane LIMIT $1) AS few),
        (SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE state = ",
    job_state!(queued),
    " AND jobs.model = models.model AND held = 1 AND jobs.lane = lanes.lane LIMIT $1) AS few)
    FROM models CROSS JOIN (VALUES (0::smallint), (1::smallint), (2::smallint)) AS lanes (lane)"
);

/// Finds flows behind a key (`$3` to `$5`) with their oldest jobs that don't expire by now (`$6`). Only as many flows are
/// looked for as are returned, because the recursion goes no further than its rows are asked for. A flow's jobs are read in
/// the index's order: sorting those of one millisecond by their ids would read all of the flow's, however many.
const HELD: &str = concat!(
    "WITH RECURSIVE flows (share, tier, account) AS (
        (SELECT share, tier, account FROM jobs WHERE state = ",
    job_state!(queued),
    " AND model = $1 AND held = 1 AND lane = $2 AND (share, tier, account COLLATE \"C\") > ($3, $4, $5)
        ORDER BY share, tier, account COLLATE \"C\" LIMIT 1)
        UNION ALL
        SELECT next.share, next.tier, next.account FROM flows CROSS JOIN LATERAL (
            SELECT share, tier, account FROM jobs WHERE state = ",
    job_state!(queued),
    " AND model = $1 AND held = 1 AND lane = $2
                AND (jobs.share, jobs.tier, jobs.account COLLATE \"C\") > (flows.share, flows.tier, flows.account)
            ORDER BY jobs.share, jobs.tier, jobs.account COLLATE \"C\" LIMIT 1) AS next)
    SELECT flows.share, flows.tier, flows.account, oldest.weight,
        (SELECT usual_tokens FROM waiting WHERE waiting.account = flows.account),
        (SELECT excess_tokens FROM waiting WHERE waiting.account = flows.account), oldest.ids, oldest.prompts,
        oldest.replicas, oldest.awaited
    FROM flows CROSS JOIN LATERAL (
        SELECT (array_agg(share_weight ORDER BY accepted_ms, id))[1] AS weight,
            array_agg(id ORDER BY accepted_ms, id) AS ids,
            array_agg(prompt_estimate ORDER BY accepted_ms, id) AS prompts,
            array_agg(replicas ORDER BY accepted_ms, id) AS replicas,
            array_agg(synchronous ORDER BY accepted_ms, id) AS awaited
        FROM (
            SELECT id, prompt_estimate, share_weight, accepted_ms, replicas, synchronous FROM jobs WHERE state = ",
    job_state!(queued),
    " AND model = $1 AND held = 1 AND lane = $2 AND jobs.share = flows.share AND jobs.tier = flows.tier
                AND jobs.account COLLATE \"C\" = flows.account AND deadline_ms > $6
            ORDER BY accepted_ms LIMIT $7) AS few) AS oldest
    WHERE oldest.ids IS NOT NULL LIMIT $8"
);

/// Offers held jobs. Rows are locked in one order, as everywhere.
const OFFER: &str = concat!(
    "WITH locked AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY($1) AND state + 0 = ",
    job_state!(queued),
    " AND held + 0 = 1 ORDER BY id FOR UPDATE)
    UPDATE jobs SET held = 0, charged = turns.charged, unconfirmed_ms = $3
    FROM locked JOIN unnest($1::bytea[], $2::bigint[]) AS turns (id, charged) USING (id)
    WHERE jobs.id = locked.id AND jobs.id = ANY($1)
    RETURNING jobs.id"
);

#[async_trait]
impl Feeding for PostgresLedger {
    async fn waiting(&self, count_max: u32) -> Result<Vec<WaitingJobs>, LedgerError> {
        let rows = self.pool.query(WAITING, &[&i64::from(count_max)]).await?;
        let kinds = rows.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
        Ok(kinds.into_iter().filter(|kind| kind.offered + kind.held > 0).collect())
    }

    async fn held(&self, question: &HeldQuestion, now: Timestamp) -> Result<Vec<Flow>, LedgerError> {
        let HeldQuestion { model, lane, after, flows_max, jobs_max } = question;
        // Before the first flow: no tier has a negative number.
        let (share, tier, account) = after
            .as_ref()
            .map_or(("", -1, ""), |key| (key.share.as_str(), key.tier as i16, key.account.as_str()));
        let (model, share, account) = (word(model.as_str())?, word(share)?, word(account)?);
        let (lane, now) = (*lane as i16, millis(now));
        let (jobs_max, flows_max) = (i64::from(*jobs_max), i64::from(*flows_max));
        let values: Parameters<'_> = &[&model, &lane, &share, &tier, &account, &now, &jobs_max, &flows_max];
        let rows = self.pool.query(HELD, values).await?;
        let mut flows = rows.iter().map(flow).collect::<Result<Vec<_>, _>>()?;
        flows.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(flows)
    }

    async fn offer(&self, turns: &[Turn], now: Timestamp) -> Result<Vec<JobId>, LedgerError> {
        if turns.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&[u8]> = turns.iter().map(|turn| &turn.id.as_bytes()[..]).collect();
        let charged: Vec<i64> = turns.iter().map(|turn| whole(turn.charged_tokens)).collect();
        let rows = self.pool.change(OFFER, &[&ids, &charged, &millis(now)]).await?;
        let mut offered = rows.iter().map(|row| job_id(row, 0)).collect::<Result<Vec<_>, _>>()?;
        offered.sort_by_key(|job| turns.iter().position(|turn| turn.id == *job));
        Ok(offered)
    }
}

fn kind(row: &Row) -> Result<WaitingJobs, LedgerError> {
    Ok(WaitingJobs {
        model: ModelName::new(get::<String>(row, 0)?),
        lane: Lane::of_number(get::<i16>(row, 1)?.into()),
        offered: count(row, 2)?,
        held: count(row, 3)?,
    })
}

fn flow(row: &Row) -> Result<Flow, LedgerError> {
    let key = FlowKey {
        share: Share::new(get::<String>(row, 0)?),
        tier: ServiceTier::of_number(get::<i16>(row, 1)?.into()),
        account: AccountId::new(get::<String>(row, 2)?),
    };
    let unsigned = |tokens: i64| u64::try_from(tokens).unwrap_or(0);
    let (ids, prompts) = (get::<Vec<&[u8]>>(row, 6)?, get::<Vec<i64>>(row, 7)?);
    let wanted = get::<Vec<i16>>(row, 8)?.into_iter().zip(get::<Vec<i16>>(row, 9)?);
    let job = |((id, prompt), (replicas, awaited)): ((&[u8], i64), (i16, i16))| {
        let id =
            id.try_into().map_err(|_| LedgerError::Row("a held job's id has another length".to_owned()))?;
        Ok(HeldJob {
            id: JobId::from_bytes(id),
            prompt_tokens: unsigned(prompt),
            replicas: replicas_of(replicas.into()),
            is_awaited: awaited != 0,
        })
    };
    Ok(Flow {
        key,
        weight: small(row, 3)?.max(1),
        usual_answer_tokens: get::<Option<i64>>(row, 4)?.map(unsigned),
        excess_tokens: get::<Option<i64>>(row, 5)?.unwrap_or(0),
        jobs: ids.into_iter().zip(prompts).zip(wanted).map(job).collect::<Result<_, LedgerError>>()?,
    })
}
