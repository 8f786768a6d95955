//! Keeps leases, and recovers the work of owners without one.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresLedger;
use super::packing::{READS, READS_PLAIN_ALONE};
use super::settling::with_group;
use super::values::{flag, get, job_id, millis, named, ordered, time, word};
use infera_ledger::statements::{OVERDUE_JOBS, QUEUED_JOBS_OF_MODEL};
use infera_ledger::stored::{latest, readable};
use infera_ledger::{
    Group, LedgerError, OverdueJob, Sweep, SweepQuestion, Sweeping, job_state, record_retention,
};
use infera_types::ids::{AccountId, GatewayId, JobId, ModelName, VerifierId};
use infera_types::service::Lane;
use infera_types::time::Timestamp;

/// Deletes ended leases, which have no meaning; each start of a program leaves one. A lease that is being renewed
/// right now is skipped.
const FORGET_LEASES: &str = "DELETE FROM leases WHERE name IN (
    SELECT name FROM leases WHERE until_ms <= $1 OR taken_ms > $2 FOR UPDATE SKIP LOCKED)";

const LEASE: &str = "INSERT INTO leases (name, holder, until_ms, taken_ms, reads) VALUES ($1, $2, $3, $4, $6)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms,
        taken_ms = excluded.taken_ms, reads = excluded.reads
    WHERE leases.holder = excluded.holder OR leases.until_ms <= $4 OR leases.taken_ms > $5 RETURNING 1";

/// Makes jobs queued, unowned and unconfirmed as of now: those whose notices the broker never confirmed (or which are
/// marked unconfirmed as of a later time), those of owners without a lease, and those of empty queues (an unconfirmed
/// notice may be on its way to the queue; if not, the first condition finds it). Jobs past their deadline are left
/// out, because they are about to expire, and so are jobs that another transaction is changing.
const HAND_OUT: &str = concat!(
    "WITH unconfirmed AS MATERIALIZED (
        SELECT id, accepted_ms FROM jobs WHERE state = ",
    job_state!(queued),
    " AND unconfirmed_ms IS NOT NULL AND unconfirmed_ms <= $1 AND held = 0 AND deadline_ms > $2
        ORDER BY unconfirmed_ms LIMIT $4 FOR UPDATE SKIP LOCKED),
    ahead AS MATERIALIZED (
        SELECT id, accepted_ms FROM jobs WHERE state = ",
    job_state!(queued),
    " AND unconfirmed_ms IS NOT NULL AND unconfirmed_ms > $5 AND held = 0 AND deadline_ms > $2
        ORDER BY unconfirmed_ms LIMIT $4 FOR UPDATE SKIP LOCKED),
    orphaned AS MATERIALIZED (
        SELECT id, accepted_ms FROM jobs WHERE state = ",
    job_state!(running),
    " AND deadline_ms > $2 AND NOT EXISTS (
            SELECT 1 FROM leases WHERE leases.name = jobs.owner AND leases.holder = jobs.owner
                AND leases.until_ms > $2 AND leases.taken_ms <= $5)
        ORDER BY accepted_ms LIMIT $4 FOR UPDATE SKIP LOCKED),
    lost AS MATERIALIZED (
        SELECT id, accepted_ms FROM jobs JOIN unnest($3::text[], $6::smallint[]) AS empty (model, lane)
            ON jobs.model = empty.model AND jobs.lane = empty.lane
        WHERE state = ",
    job_state!(queued),
    " AND held = 0 AND unconfirmed_ms IS NULL AND deadline_ms > $2
        ORDER BY accepted_ms LIMIT $4 FOR UPDATE OF jobs SKIP LOCKED),
    found AS MATERIALIZED (
        SELECT id FROM (
            SELECT * FROM unconfirmed UNION SELECT * FROM ahead UNION SELECT * FROM orphaned
            UNION SELECT * FROM lost) AS every
        ORDER BY accepted_ms, id LIMIT $4)
    UPDATE jobs SET state = ",
    job_state!(queued),
    ", owner = NULL, held = 0, unconfirmed_ms = $2 FROM found WHERE jobs.id = found.id
    RETURNING jobs.id, model, accepted_ms, lane"
);

/// Makes queued jobs whose notices are dead unconfirmed as of now. Rows are locked in one order, as everywhere.
const DEAD: &str = concat!(
    "WITH dead AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY($1) AND state + 0 = ",
    job_state!(queued),
    " AND held = 0 AND deadline_ms > $2 ORDER BY id FOR UPDATE)
    UPDATE jobs SET unconfirmed_ms = $2 FROM dead WHERE jobs.id = dead.id
    RETURNING jobs.id, model, accepted_ms, lane"
);

/// Gives up places whose groups never came: their verifiers are gone, and with them the list of nodes that were
/// asked. Places that another transaction is filling are skipped. Places of jobs that ended later than a right clock
/// can say (`$3`) are given up as well.
const GIVE_UP_AWAITED: &str = concat!(
    "WITH due AS MATERIALIZED (
        SELECT job_id FROM groups WHERE is_closed = 0 AND deadline_ms <= $1 AND length(record) = 0
        ORDER BY deadline_ms LIMIT $2 FOR UPDATE SKIP LOCKED),
    ahead AS MATERIALIZED (
        SELECT job_id FROM groups WHERE is_closed = 0 AND deadline_ms > $3 AND length(record) = 0 AND EXISTS (
            SELECT 1 FROM settlements WHERE settlements.job_id = groups.job_id AND settlements.settled_ms > $3)
        ORDER BY deadline_ms LIMIT $2 FOR UPDATE SKIP LOCKED),
    awaited AS (SELECT job_id FROM due UNION SELECT job_id FROM ahead),
    given_up AS (DELETE FROM groups USING awaited WHERE groups.job_id = awaited.job_id RETURNING groups.job_id)
    INSERT INTO records (job_id, settled_ms, is_pruned, retention_days)
    SELECT job_id, settled_ms, 0, ",
    record_retention!(),
    " FROM settlements JOIN given_up USING (job_id) JOIN jobs ON jobs.id = job_id ORDER BY job_id
    ON CONFLICT (job_id) DO NOTHING"
);

/// The columns that [`group`] reads, of known groups.
const GROUPS: &str = "SELECT groups.job_id, settlement, settlements.hash, record, groups.hash, is_closed
    FROM groups JOIN settlements ON settlements.job_id = groups.job_id AND length(record) > 0";

const HANDED_OUT: &str = concat!(
    "WITH locked AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE)
    UPDATE jobs SET unconfirmed_ms = NULL FROM locked WHERE jobs.id = locked.id AND state + 0 = ",
    job_state!(queued)
);

#[async_trait]
impl Sweeping for PostgresLedger {
    async fn lease(
        &self,
        name: &str,
        holder: &VerifierId,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<bool, LedgerError> {
        let is_own = name == holder.as_str();
        let (name, holder, until) = (word(name)?, word(holder.as_str())?, millis(now.after(ttl)));
        let (now, latest) = (millis(now), millis(latest(now)));
        let held = self.pool.put(LEASE, &[&name, &holder, &until, &now, &latest, &READS]).await?;
        self.pool.put(FORGET_LEASES, &[&now, &latest]).await?;
        // A verifier's own lease: it is the time to look what the others read.
        if is_own && let Some(row) = self.pool.query_opt(READS_PLAIN_ALONE, &[&now, &latest, &READS]).await? {
            self.packing.set(!flag(&row, 0)?);
        }
        Ok(!held.is_empty())
    }

    async fn end_leases(&self, _now: Timestamp) -> Result<(), LedgerError> {
        self.pool.put("DELETE FROM leases", &[]).await?;
        Ok(())
    }

    async fn sweep(&self, question: &SweepQuestion, now: Timestamp) -> Result<Sweep, LedgerError> {
        let limit = i64::from(question.limit);
        let latest = millis(latest(now));
        let those = |due: &str| {
            format!(
                "({GROUPS} WHERE is_closed = 0 AND {due} AND NOT EXISTS (
                     SELECT 1 FROM leases WHERE leases.name = groups.verifier AND leases.holder = groups.verifier
                         AND leases.until_ms > $1 AND leases.taken_ms <= $3)
                 ORDER BY deadline_ms LIMIT $2)"
            )
        };
        let (due, ahead) = ("deadline_ms <= $1", "deadline_ms > $3 AND settlements.settled_ms > $3");
        let groups = format!("{} UNION ALL {} LIMIT $2", those(due), those(ahead));
        self.pool.put(GIVE_UP_AWAITED, &[&millis(now), &limit, &latest]).await?;
        let hand_out = self.hand_out(question, now).await?;
        let expired = self.pool.query(OVERDUE_JOBS, &[&millis(now), &limit]).await?;
        let mut unserved = Vec::new();
        for model in &question.unserved {
            let left = limit - i64::try_from(unserved.len()).unwrap_or(limit);
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&millis(now), &word(model.as_str())?, &left];
            let rows = self.pool.query(QUEUED_JOBS_OF_MODEL, &values).await?;
            unserved.append(&mut readable(rows.iter().map(|row| named(row, overdue)))?);
        }
        let groups = self.pool.query(&groups, &[&millis(now), &limit, &latest]).await?;
        Ok(Sweep {
            hand_out,
            expired: readable(expired.iter().map(|row| named(row, overdue)))?,
            unserved,
            groups: readable(groups.iter().map(|row| named(row, group)))?,
        })
    }

    async fn handed_out(&self, jobs: &[JobId], _now: Timestamp) -> Result<(), LedgerError> {
        self.pool.put(HANDED_OUT, &[&ordered(jobs)]).await?;
        Ok(())
    }

    async fn groups(&self, jobs: &[JobId]) -> Result<Vec<Group>, LedgerError> {
        let sql = format!("{GROUPS} WHERE groups.job_id = ANY($1)");
        let rows = self.pool.query(&sql, &[&ordered(jobs)]).await?;
        // In the order of the question.
        let mut groups = rows.iter().map(group).collect::<Result<Vec<_>, _>>()?;
        groups.sort_by_key(|group| jobs.iter().position(|job| *job == group.settlement.job_id));
        Ok(groups)
    }
}

impl PostgresLedger {
    async fn hand_out(
        &self,
        question: &SweepQuestion,
        now: Timestamp,
    ) -> Result<Vec<(JobId, ModelName, Lane)>, LedgerError> {
        let wait = i64::try_from(question.unconfirmed_for.as_millis()).unwrap_or(i64::MAX);
        let since = millis(now).saturating_sub(wait);
        let empty = question.empty_queues.iter();
        let empty: Vec<&str> = empty.map(|(model, _)| word(model.as_str())).collect::<Result<_, _>>()?;
        let lanes: Vec<i16> = question.empty_queues.iter().map(|(_, lane)| *lane as i16).collect();
        let (limit, latest) = (i64::from(question.limit), millis(latest(now)));
        let mut rows =
            self.pool.change(HAND_OUT, &[&since, &millis(now), &empty, &limit, &latest, &lanes]).await?;
        if !question.dead.is_empty() {
            // If this statement fails, the jobs that became unconfirmed before it are found again.
            rows.extend(self.pool.put(DEAD, &[&ordered(&question.dead), &millis(now)]).await?);
        }
        let found = |row: &Row| {
            let (model, lane) = (get::<String>(row, 1)?, Lane::of_number(get::<i16>(row, 3)?.into()));
            Ok((time(row, 2)?, job_id(row, 0)?, ModelName::new(model), lane))
        };
        let mut found = readable(rows.iter().map(|row| named(row, found)))?;
        found.sort();
        found.dedup();
        Ok(found.into_iter().map(|(_, job, model, lane)| (job, model, lane)).collect())
    }
}

fn overdue(row: &Row) -> Result<OverdueJob, LedgerError> {
    Ok(OverdueJob {
        id: job_id(row, 0)?,
        account: AccountId::new(get::<String>(row, 1)?),
        model: ModelName::new(get::<String>(row, 2)?),
        gateway: GatewayId::new(get::<String>(row, 3)?),
    })
}

fn group(row: &Row) -> Result<Group, LedgerError> {
    let settlement = with_group(row)?;
    let missing = || LedgerError::Row("its group is missing".to_owned());
    let record = settlement.group.clone().ok_or_else(missing)?;
    Ok(Group { settlement, record, closed: flag(row, 5)? })
}
