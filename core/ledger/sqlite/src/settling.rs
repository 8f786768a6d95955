//! The end of a job: the one way in, for every kind of end, and reading it back. Runs within the writer's transaction.

use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Failure;
use super::values::{Blob, Numbered as _, Word, from_json, job_id, millis, to_json, whole};
use infera_ledger::stored::{GroupRow, SettlementRow};
use infera_ledger::{Posting, Settled};
use infera_types::ids::JobId;
use infera_types::job::Settlement;
use infera_types::time::Timestamp;

/// Ends a job by this row, unless it ended before. Everything that belongs to the end hangs on that one insert.
pub(super) fn settle(connection: &Connection, row: &SettlementRow) -> Result<Settled, Failure> {
    let inserted = connection
        .numbered(
            "INSERT INTO settlements (job_id, settled_ms, settlement, reason) VALUES ($1, $2, $3, $4)
             ON CONFLICT (job_id) DO NOTHING",
        )?
        .execute(params![row.job.blob(), millis(row.settled_ms), row.settlement, row.reason])?;
    if inserted == 0 {
        if let Some(group) = &row.group {
            fill_group(connection, row.job, group)?;
        }
        let winner = read(connection, row.job, Groups::Included)?;
        let missing = || Failure::row(format!("the settlement of {} is gone", row.job));
        return winner.map(Settled::Before).ok_or_else(missing);
    }
    let has_owner = row.is_called_off && is_running(connection, row.job)?;
    end_job(connection, row)?;
    match &row.group {
        Some(group) => insert_group(connection, row.job, group)?,
        None if has_owner => await_group(connection, row)?,
        None => make_claimable(connection, row.job)?,
    }
    add_to_total(connection, row.status, 1)?;
    if let Some(usage) = &row.usage {
        insert_posting(connection, &usage.posting)?;
        add_to_total(connection, "prompt_tokens", usage.prompt_tokens)?;
        add_to_total(connection, "completion_tokens", usage.completion_tokens)?;
    }
    Ok(Settled::Now)
}

fn end_job(connection: &Connection, row: &SettlementRow) -> Result<(), Failure> {
    let ended = connection
        .numbered(
            "UPDATE jobs SET state = 2, owner = NULL, is_handed_out = 0, unconfirmed_ms = NULL
             WHERE id = $1 AND account = $2 AND state < 2",
        )?
        .execute(params![row.job.blob(), Word(row.account.as_str())])?;
    if ended != 1 {
        return Err(Failure::row(format!("{} was never accepted for {}", row.job, row.account)));
    }
    connection
        .numbered("UPDATE waiting SET jobs = jobs - 1 WHERE account = $1")?
        .execute([Word(row.account.as_str())])?;
    Ok(())
}

fn insert_group(connection: &Connection, job: JobId, group: &GroupRow) -> Result<(), Failure> {
    connection
        .numbered(
            "INSERT INTO groups (job_id, verifier, deadline_ms, is_closed, record) VALUES ($1, $2, $3, 0, $4)",
        )?
        .execute(params![job.blob(), Word(&group.verifier), millis(group.deadline_ms), group.record])?;
    Ok(())
}

fn is_running(connection: &Connection, job: JobId) -> Result<bool, Failure> {
    Ok(connection.numbered("SELECT 1 FROM jobs WHERE id = $1 AND state = 1")?.exists([job.blob()])?)
}

/// Keeps the place of a group that only the job's verifier knows.
fn await_group(connection: &Connection, row: &SettlementRow) -> Result<(), Failure> {
    insert_group(connection, row.job, &GroupRow::awaited(row.settled_ms))
}

/// Fills a place that was kept, as long as it is. A group that is there stays.
fn fill_group(connection: &Connection, job: JobId, group: &GroupRow) -> Result<(), Failure> {
    connection
        .numbered(
            "UPDATE groups SET verifier = $2, deadline_ms = $3, record = $4
             WHERE job_id = $1 AND is_closed = 0 AND length(record) = 0",
        )?
        .execute(params![job.blob(), Word(&group.verifier), millis(group.deadline_ms), group.record])?;
    Ok(())
}

/// Gives up places whose groups never came: their owners are gone, and whom they asked with them.
pub(super) fn give_up_awaited(connection: &Connection, limit: u32, now: Timestamp) -> Result<(), Failure> {
    let mut statement = connection.numbered(
        "SELECT job_id FROM groups
         WHERE is_closed = 0 AND deadline_ms <= $1 AND length(record) = 0 ORDER BY deadline_ms LIMIT $2",
    )?;
    let found = statement.query_map(params![millis(now), limit], |row| job_id(row, 0))?;
    let jobs: Vec<JobId> = found.collect::<rusqlite::Result<_>>()?;
    for job in jobs {
        connection.numbered("DELETE FROM groups WHERE job_id = $1")?.execute([job.blob()])?;
        make_claimable(connection, job)?;
    }
    Ok(())
}

/// A group's postings are complete.
pub(super) fn close(connection: &Connection, job: JobId) -> Result<(), Failure> {
    connection
        .numbered("UPDATE groups SET is_closed = 1 WHERE job_id = $1 AND is_closed = 0")?
        .execute([job.blob()])?;
    make_claimable(connection, job)
}

/// Lets the archive have the record of a settled job.
fn make_claimable(connection: &Connection, job: JobId) -> Result<(), Failure> {
    connection
        .numbered(
            "INSERT INTO records (job_id, settled_ms, is_pruned)
             SELECT job_id, settled_ms, 0 FROM settlements WHERE job_id = $1
             ON CONFLICT (job_id) DO NOTHING",
        )?
        .execute([job.blob()])?;
    Ok(())
}

/// Adds to one of the sums over all jobs.
pub(super) fn add_to_total(connection: &Connection, name: &str, amount: u64) -> Result<(), Failure> {
    connection
        .numbered(
            "INSERT INTO totals (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = totals.value + excluded.value",
        )?
        .execute(params![name, whole(amount)])?;
    Ok(())
}

/// Appends a posting, unless its id is there already, or its node has its VALID for the job.
pub(super) fn insert_posting(connection: &Connection, posting: &Posting) -> Result<(), Failure> {
    connection
        .numbered(
            "INSERT INTO postings (id, job_id, posted_ms, entry, valid_node) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            Word(&posting.id),
            posting.job_id.blob(),
            millis(posting.posted_ms),
            to_json(&posting.entry)?,
            posting.entry.valid_node().map(|node| Word(node.as_str()))
        ])?;
    Ok(())
}

/// Whether a settlement is read with its group, which is large and no client's business.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Groups {
    /// With it.
    Included,
    /// Without it.
    LeftOut,
}

/// The settlement of a job, if it ended.
pub(super) fn read(
    connection: &Connection,
    job: JobId,
    groups: Groups,
) -> Result<Option<Settlement>, Failure> {
    let json: Option<String> = connection
        .numbered("SELECT settlement FROM settlements WHERE job_id = $1")?
        .query_row([job.blob()], |row| row.get(0))
        .optional()?;
    let Some(json) = json else { return Ok(None) };
    let mut settlement: Settlement = from_json("settlement", json.as_bytes())?;
    if groups == Groups::Included {
        let record: Option<Vec<u8>> = connection
            .numbered("SELECT record FROM groups WHERE job_id = $1 AND length(record) > 0")?
            .query_row([job.blob()], |row| row.get(0))
            .optional()?;
        settlement.group = record.map(|record| from_json("group", &record)).transpose()?;
    }
    Ok(Some(settlement))
}
