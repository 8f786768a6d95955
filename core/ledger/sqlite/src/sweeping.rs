//! Keeps leases, and recovers the work of owners without one.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, Params, Row, params};

use super::SqliteLedger;
use super::failure::Failure;
use super::settling::{AHEAD_GROUP, DUE_GROUP, Groups, give_up_awaited, read};
use super::values::{Blob, Numbered as _, Word, job_id, millis, optional_digest, time};
use infera_ledger::statements::{OVERDUE_JOBS, QUEUED_JOBS_OF_MODEL};
use infera_ledger::stored::{group_of, latest, of_job, readable};
use infera_ledger::{Group, LedgerError, OverdueJob, Sweep, SweepQuestion, Sweeping, job_state};
use infera_types::ids::{AccountId, GatewayId, JobId, ModelName, VerifierId};
use infera_types::service::Lane;
use infera_types::time::Timestamp;

/// Finds jobs whose notices the broker never confirmed.
const UNCONFIRMED: &str = concat!(
    "SELECT id, model, accepted_ms, lane FROM jobs WHERE state = ",
    job_state!(queued),
    " AND unconfirmed_ms IS NOT NULL AND unconfirmed_ms <= $1 AND held = 0 AND deadline_ms > $2
    ORDER BY unconfirmed_ms LIMIT $3"
);

/// Finds jobs that are marked unconfirmed as of a later time than a right clock can say.
const AHEAD: &str = concat!(
    "SELECT id, model, accepted_ms, lane FROM jobs WHERE state = ",
    job_state!(queued),
    " AND unconfirmed_ms > $1 AND held = 0 AND deadline_ms > $2 ORDER BY unconfirmed_ms LIMIT $3"
);

/// Finds jobs of owners without a lease.
const ORPHANED: &str = concat!(
    "SELECT id, model, accepted_ms, lane FROM jobs WHERE state = ",
    job_state!(running),
    " AND deadline_ms > $1 AND NOT EXISTS (
        SELECT 1 FROM leases WHERE leases.name = jobs.owner AND leases.holder = jobs.owner
            AND leases.until_ms > $1 AND leases.taken_ms <= $3)
    ORDER BY accepted_ms LIMIT $2"
);

/// Finds jobs of an empty queue. An unconfirmed notice may be on its way to the queue; if not, [`UNCONFIRMED`] finds
/// the job.
const LOST: &str = concat!(
    "SELECT id, model, accepted_ms, lane FROM jobs WHERE state = ",
    job_state!(queued),
    " AND model = $1 AND held = 0 AND lane = $4 AND unconfirmed_ms IS NULL AND deadline_ms > $2
    ORDER BY accepted_ms LIMIT $3"
);

/// Makes a job queued, unowned and unconfirmed as of now. A job that had an owner was offered before.
const QUEUE_AGAIN: &str = concat!(
    "UPDATE jobs SET state = ",
    job_state!(queued),
    ", owner = NULL, held = 0, unconfirmed_ms = $2 WHERE id = $1"
);

/// Makes a queued job whose notice is dead unconfirmed as of now.
const DEAD: &str = concat!(
    "UPDATE jobs SET unconfirmed_ms = $2 WHERE id = $1 AND state = ",
    job_state!(queued),
    " AND held = 0 AND deadline_ms > $2 RETURNING id, model, accepted_ms, lane"
);

/// Records that the broker has a queued job's notice.
const HANDED_OUT: &str =
    concat!("UPDATE jobs SET unconfirmed_ms = NULL WHERE id = $1 AND state = ", job_state!(queued));

#[async_trait]
impl Sweeping for SqliteLedger {
    async fn lease(
        &self,
        name: &str,
        holder: &VerifierId,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<bool, LedgerError> {
        let name = name.to_owned();
        let holder = holder.clone();
        self.write(move |connection| lease(connection, &name, &holder, (now, now.after(ttl)))).await
    }

    async fn end_leases(&self, _now: Timestamp) -> Result<(), LedgerError> {
        self.write(|connection| {
            connection.numbered("DELETE FROM leases")?.execute([])?;
            Ok(())
        })
        .await
    }

    async fn sweep(&self, question: &SweepQuestion, now: Timestamp) -> Result<Sweep, LedgerError> {
        let question = question.clone();
        self.write(move |connection| {
            give_up_awaited(connection, question.limit, now)?;
            Ok(Sweep {
                hand_out: hand_out(connection, &question, now)?,
                expired: to_end(connection, OVERDUE_JOBS, params![millis(now), question.limit])?,
                unserved: unserved(connection, &question, now)?,
                groups: overdue_groups(connection, question.limit, now)?,
            })
        })
        .await
    }

    async fn handed_out(&self, jobs: &[JobId], _now: Timestamp) -> Result<(), LedgerError> {
        let jobs = jobs.to_vec();
        self.write(move |connection| {
            let mut statement = connection.numbered(HANDED_OUT)?;
            for job in &jobs {
                statement.execute([job.blob()])?;
            }
            Ok(())
        })
        .await
    }

    async fn groups(&self, jobs: &[JobId]) -> Result<Vec<Group>, LedgerError> {
        let jobs = jobs.to_vec();
        self.read(move |connection| {
            let mut groups = Vec::new();
            for job in &jobs {
                let sql = "SELECT job_id, record, is_closed, hash FROM groups
                     WHERE job_id = $1 AND length(record) > 0";
                for group in read_groups(connection, sql, [job.blob()])? {
                    groups.push(group?);
                }
            }
            Ok(groups)
        })
        .await
    }
}

fn lease(
    connection: &Connection,
    name: &str,
    holder: &VerifierId,
    (now, until): (Timestamp, Timestamp),
) -> Result<bool, Failure> {
    // Ended leases have no meaning; each start of a program leaves one.
    connection
        .numbered("DELETE FROM leases WHERE until_ms <= $1 OR taken_ms > $2")?
        .execute([millis(now), millis(latest(now))])?;
    let changed = connection
        .numbered(
            "INSERT INTO leases (name, holder, until_ms, taken_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (name) DO UPDATE SET until_ms = excluded.until_ms, taken_ms = excluded.taken_ms
             WHERE leases.holder = excluded.holder",
        )?
        .execute(params![Word(name), Word(holder.as_str()), millis(until), millis(now)])?;
    Ok(changed == 1)
}

/// One job found by a query that selects id, model, time of acceptance and lane.
type Found = (Timestamp, JobId, ModelName, Lane);

fn find<P: Params>(connection: &Connection, sql: &'static str, parameters: P) -> Result<Vec<Found>, Failure> {
    let mut statement = connection.numbered(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(named(row, |row| {
            let (model, lane) = (ModelName::new(row.get::<_, String>(1)?), Lane::of_number(row.get(3)?));
            Ok((time(row, 2)?, job_id(row, 0)?, model, lane))
        }));
    }
    Ok(readable(found)?)
}

/// Makes the jobs that are to be handed out again queued, unowned and unconfirmed as of now. Jobs past their deadline
/// are left out, because they are about to expire.
fn hand_out(
    connection: &Connection,
    question: &SweepQuestion,
    now: Timestamp,
) -> Result<Vec<(JobId, ModelName, Lane)>, Failure> {
    let unconfirmed_since =
        now.as_millis().checked_sub(u64::try_from(question.unconfirmed_for.as_millis()).unwrap_or(u64::MAX));
    let mut found = Vec::new();
    if let Some(since) = unconfirmed_since {
        let values = params![millis(Timestamp::from_millis(since)), millis(now), question.limit];
        found = find(connection, UNCONFIRMED, values)?;
    }
    let values = params![millis(latest(now)), millis(now), question.limit];
    found.append(&mut find(connection, AHEAD, values)?);
    let values = params![millis(now), question.limit, millis(latest(now))];
    found.append(&mut find(connection, ORPHANED, values)?);
    for (model, lane) in &question.empty_queues {
        let values = params![Word(model.as_str()), millis(now), question.limit, *lane as i64];
        found.append(&mut find(connection, LOST, values)?);
    }
    found.sort();
    found.dedup();
    found.truncate(usize::try_from(question.limit).unwrap_or(usize::MAX));
    let mut statement = connection.numbered(QUEUE_AGAIN)?;
    for (_, job, ..) in &found {
        statement.execute(params![job.blob(), millis(now)])?;
    }
    for dead in &question.dead {
        found.append(&mut find(connection, DEAD, params![dead.blob(), millis(now)])?);
    }
    found.sort();
    found.dedup();
    Ok(found.into_iter().map(|(_, job, model, lane)| (job, model, lane)).collect())
}

/// Returns the queued jobs of the unserved models, at most as many as are asked for.
fn unserved(
    connection: &Connection,
    question: &SweepQuestion,
    now: Timestamp,
) -> Result<Vec<OverdueJob>, Failure> {
    let mut jobs = Vec::new();
    for model in &question.unserved {
        let left = question.limit.saturating_sub(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
        let values = params![millis(now), Word(model.as_str()), left];
        jobs.append(&mut to_end(connection, QUEUED_JOBS_OF_MODEL, values)?);
    }
    Ok(jobs)
}

/// Returns the jobs of a query that selects id, account, model and gateway.
fn to_end<P: Params>(
    connection: &Connection,
    sql: &'static str,
    parameters: P,
) -> Result<Vec<OverdueJob>, Failure> {
    let mut statement = connection.numbered(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        jobs.push(named(row, |row| {
            Ok(OverdueJob {
                id: job_id(row, 0)?,
                account: AccountId::new(row.get::<_, String>(1)?),
                model: ModelName::new(row.get::<_, String>(2)?),
                gateway: GatewayId::new(row.get::<_, String>(3)?),
            })
        }));
    }
    Ok(readable(jobs)?)
}

fn overdue_groups(connection: &Connection, limit: u32, now: Timestamp) -> Result<Vec<Group>, Failure> {
    let mut groups = Vec::new();
    for due in [DUE_GROUP, AHEAD_GROUP] {
        let sql = format!(
            "SELECT job_id, record, is_closed, hash FROM groups
             WHERE {due} AND length(record) > 0 AND NOT EXISTS (
                 SELECT 1 FROM leases WHERE leases.name = groups.verifier AND leases.holder = groups.verifier
                     AND leases.until_ms > $1 AND leases.taken_ms <= $3)
             ORDER BY deadline_ms LIMIT $2"
        );
        groups.extend(read_groups(connection, &sql, params![millis(now), limit, millis(latest(now))])?);
    }
    groups.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(readable(groups)?)
}

/// Reads groups by a query that selects job, record, whether it is closed and the hash; one unreadable group does not
/// affect the others.
fn read_groups<P: Params>(
    connection: &Connection,
    sql: &str,
    parameters: P,
) -> Result<Vec<Result<Group, LedgerError>>, Failure> {
    let mut statement = connection.numbered_once(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut groups = Vec::new();
    while let Some(row) = rows.next()? {
        groups.push(named(row, |row| group(connection, row)));
    }
    Ok(groups)
}

fn group(connection: &Connection, row: &Row<'_>) -> Result<Group, Failure> {
    let job = job_id(row, 0)?;
    let record = group_of(&row.get::<_, Vec<u8>>(1)?, optional_digest(row, 3)?)?;
    let closed = row.get::<_, i64>(2)? != 0;
    let settlement = read(connection, job, Groups::LeftOut)?;
    let mut settlement =
        settlement.ok_or_else(|| LedgerError::Row("its settlement is missing".to_owned()))?;
    settlement.group = Some(record.clone());
    Ok(Group { settlement, record, closed })
}

/// Runs `read` on a row whose first column is its job's id, and names the job in an error.
fn named<T>(row: &Row<'_>, read: impl Fn(&Row<'_>) -> Result<T, Failure>) -> Result<T, LedgerError> {
    let of_its_job = |failure: Failure| match job_id(row, 0) {
        Ok(job) => of_job(job, failure.into()),
        Err(error) => Failure::from(error).into(),
    };
    read(row).map_err(of_its_job)
}
