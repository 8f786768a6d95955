//! Ends jobs: the only way for every kind of end; and reads the ends back. Runs within the writer's transaction.

use rusqlite::{Connection, OptionalExtension, Params, ToSql, params};

use super::charging;
use super::failure::Failure;
use super::postings::insert_posting;
use super::scheduling::schedule;
use super::values::{Blob, Numbered as _, Word, choice, job_id, millis, optional_digest, whole};
use infera_ledger::stored::{
    EndForms, Form, GroupRow, SettlementRow, StoredSettlement, Usage, day, group_of, latest, of_job,
    settlement_of,
};
use infera_ledger::{Settled, job_state, record_retention};
use infera_types::choice::Choice;
use infera_types::ids::{GatewayId, JobId, ModelName};
use infera_types::job::{End, Settlement};
use infera_types::time::Timestamp;

/// The forms of ends here. One process uses a ledger, so that no other version has to read them.
pub(super) const FORMS: EndForms = EndForms { settlement: Form::Packed, group: Form::Packed };

/// Ends a job by this row, unless it has ended before. If it has no answer, the other answers of its request aren't wanted any more.
pub(super) fn settle(connection: &Connection, row: &SettlementRow) -> Result<Settled, Failure> {
    let settled = settle_one(connection, row)?;
    if settled == Settled::Now && row.usage.is_none() {
        call_off_others(connection, row)?;
    }
    Ok(settled)
}

/// Cancels the other jobs of a job's request that have not ended.
fn call_off_others(connection: &Connection, row: &SettlementRow) -> Result<(), Failure> {
    let of_request = connection
        .numbered("SELECT choice, choices, model, gateway FROM jobs WHERE id = $1")?
        .query_row([row.job.blob()], |found| {
            Ok((choice(found, 0)?, found.get::<_, String>(2)?, found.get::<_, String>(3)?))
        })
        .optional()?;
    let Some((choice, model, gateway)) = of_request else { return Ok(()) };
    for job_id in choice.others(row.job) {
        let cancelled = Settlement {
            job_id,
            account: row.account.clone(),
            model: ModelName::new(model.clone()),
            gateway: GatewayId::new(gateway.clone()),
            end: End::cancelled(),
            group: None,
            settled_ms: row.settled_ms,
        };
        settle_one(connection, &SettlementRow::of(&cancelled, FORMS)?)?;
    }
    Ok(())
}

/// Ends one job. Everything else that belongs to the end depends on this one insert.
fn settle_one(connection: &Connection, row: &SettlementRow) -> Result<Settled, Failure> {
    let inserted = connection
        .numbered(
            "INSERT INTO settlements (job_id, settled_ms, settlement, reason, hash) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (job_id) DO NOTHING",
        )?
        .execute(params![
            row.job.blob(),
            millis(row.settled_ms),
            stored(&row.settlement),
            row.reason,
            row.hash.blob()
        ])?;
    if inserted == 0 {
        if let Some(group) = &row.group {
            fill_group(connection, row.job, group)?;
        }
        let winner = read(connection, row.job, Groups::Included)?;
        let missing = || Failure::row(format!("the settlement of {} is missing", row.job));
        return winner.map(Settled::Before).ok_or_else(missing);
    }
    let has_owner = row.is_called_off && is_running(connection, row.job)?;
    let choice = end_job(connection, row)?;
    if row.frees_key {
        let first = choice.first(row.job);
        connection.numbered("DELETE FROM idempotency WHERE job_id = $1")?.execute([first.blob()])?;
    }
    match &row.group {
        Some(group) => insert_group(connection, row.job, group)?,
        None if has_owner => await_group(connection, row)?,
        None => make_claimable(connection, row.job)?,
    }
    add_to_total(connection, row.status, 1)?;
    let further = row.usage.as_ref().and_then(|usage| usage.of_further(choice));
    let usage = further.as_ref().or(row.usage.as_ref());
    let cost = charging::settle(connection, row, usage)?;
    if let Some(usage) = usage {
        insert_posting(connection, &usage.posting)?;
        count_usage(connection, row, usage, cost)?;
        add_to_total(connection, "prompt_tokens", usage.prompt_tokens)?;
        add_to_total(connection, "completion_tokens", usage.completion_tokens)?;
    }
    Ok(Settled::Now)
}

/// Counts an answer for its key, model and day.
fn count_usage(
    connection: &Connection,
    row: &SettlementRow,
    usage: &Usage,
    cost: u64,
) -> Result<(), Failure> {
    connection
        .numbered(
            "INSERT INTO usage (account, day, key_id, model, requests, prompt_tokens, completion_tokens, cost)
             SELECT account, $2, COALESCE(key_id, ''), model, 1, $3, $4, $5 FROM jobs WHERE id = $1
             ON CONFLICT (account, day, key_id, model) DO UPDATE SET requests = usage.requests + 1,
                 prompt_tokens = usage.prompt_tokens + excluded.prompt_tokens,
                 completion_tokens = usage.completion_tokens + excluded.completion_tokens,
                 cost = usage.cost + excluded.cost",
        )?
        .execute(params![
            row.job.blob(),
            day(row.settled_ms),
            whole(usage.prompt_tokens),
            whole(usage.completion_tokens),
            whole(cost)
        ])?;
    Ok(())
}

/// Ends the job's row, returns which of its request's answers it is, and takes it out of its account's count. An answer moves the account's usual length an eighth of
/// the way, so that a dozen answers of another kind are followed, and adds what the job was not charged with.
fn end_job(connection: &Connection, row: &SettlementRow) -> Result<Choice, Failure> {
    let ended = connection
        .numbered(concat!(
            "UPDATE jobs SET state = ",
            job_state!(ended),
            ", owner = NULL, is_handed_out = 0, unconfirmed_ms = NULL, ended_as = $3
             WHERE id = $1 AND account = $2 AND state < ",
            job_state!(ended),
            " RETURNING charged, erase_after_ms, retention_days, choice, choices"
        ))?
        .query_row(params![row.job.blob(), Word(row.account.as_str()), row.kind as i64], |row| {
            Ok((row.get::<_, i64>(0)?, (row.get(1)?, row.get(2)?), choice(row, 3)?))
        })
        .optional()?;
    let Some((charged, keeping, choice)) = ended else {
        return Err(Failure::row(format!("{} was never accepted for {}", row.job, row.account)));
    };
    if let Some(usage) = &row.usage {
        connection
            .numbered(
                "UPDATE waiting SET jobs = jobs - 1, excess_tokens = excess_tokens + $3,
                     usual_tokens = (COALESCE(usual_tokens, $2) * 7 + $2 + 4) / 8 WHERE account = $1",
            )?
            .execute(params![
                Word(row.account.as_str()),
                whole(usage.completion_tokens),
                usage.beyond(charged)
            ])?;
    } else {
        connection
            .numbered("UPDATE waiting SET jobs = jobs - 1 WHERE account = $1")?
            .execute([Word(row.account.as_str())])?;
    }
    schedule(connection, (row.job, &row.account, row.settled_ms), keeping)?;
    // One thread writes, so that numbers are committed in their order.
    connection
        .numbered("INSERT INTO ends (account, job_id) VALUES ($1, $2)")?
        .execute(params![Word(row.account.as_str()), row.job.blob()])?;
    Ok(choice)
}

fn insert_group(connection: &Connection, job: JobId, group: &GroupRow) -> Result<(), Failure> {
    connection
        .numbered(
            "INSERT INTO groups (job_id, verifier, deadline_ms, is_closed, record, hash)
             VALUES ($1, $2, $3, 0, $4, $5)",
        )?
        .execute(group_columns(job, group))?;
    Ok(())
}

fn is_running(connection: &Connection, job: JobId) -> Result<bool, Failure> {
    let sql = concat!("SELECT 1 FROM jobs WHERE id = $1 AND state = ", job_state!(running));
    Ok(connection.numbered(sql)?.exists([job.blob()])?)
}

/// Keeps a place for a group that only the job's verifier knows.
fn await_group(connection: &Connection, row: &SettlementRow) -> Result<(), Failure> {
    insert_group(connection, row.job, &GroupRow::awaited(row.settled_ms))
}

/// Fills a place that was kept for a group, while it is kept. A group that is there stays.
fn fill_group(connection: &Connection, job: JobId, group: &GroupRow) -> Result<(), Failure> {
    connection
        .numbered(
            "UPDATE groups SET verifier = $2, deadline_ms = $3, record = $4, hash = $5
             WHERE job_id = $1 AND is_closed = 0 AND length(record) = 0",
        )?
        .execute(group_columns(job, group))?;
    Ok(())
}

fn group_columns<'a>(job: JobId, group: &'a GroupRow) -> impl Params + use<'a> {
    let (id, deadline) = (*job.as_bytes(), millis(group.deadline_ms));
    (id, Word(&group.verifier), deadline, &group.record, group.hash.blob())
}

/// The condition for due groups: those whose time is up by now (`$1`) ...
pub(super) const DUE_GROUP: &str = "is_closed = 0 AND deadline_ms <= $1";

/// ... and those of jobs that ended later than a right clock can say (`$3`), whose time would be up only when the
/// clock reaches it.
pub(super) const AHEAD_GROUP: &str = "is_closed = 0 AND deadline_ms > $3 AND EXISTS (
    SELECT 1 FROM settlements WHERE settlements.job_id = groups.job_id AND settlements.settled_ms > $3)";

/// Gives up places whose groups never came: their verifiers are gone, and with them the list of nodes that were
/// asked.
pub(super) fn give_up_awaited(connection: &Connection, limit: u32, now: Timestamp) -> Result<(), Failure> {
    let mut jobs = Vec::new();
    for due in [DUE_GROUP, AHEAD_GROUP] {
        // Only one of the statements has the third parameter.
        let sql = format!(
            "SELECT job_id FROM groups WHERE {due} AND length(record) = 0 AND $3 > 0 ORDER BY deadline_ms LIMIT $2"
        );
        let mut statement = connection.numbered_once(&sql)?;
        let found =
            statement.query_map(params![millis(now), limit, millis(latest(now))], |row| job_id(row, 0))?;
        jobs.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    for job in jobs {
        connection.numbered("DELETE FROM groups WHERE job_id = $1")?.execute([job.blob()])?;
        make_claimable(connection, job)?;
    }
    Ok(())
}

/// Closes a group, whose postings are complete.
pub(super) fn close(connection: &Connection, job: JobId) -> Result<(), Failure> {
    connection
        .numbered("UPDATE groups SET is_closed = 1 WHERE job_id = $1 AND is_closed = 0")?
        .execute([job.blob()])?;
    make_claimable(connection, job)
}

/// Makes the record of a settled job available to the archive.
fn make_claimable(connection: &Connection, job: JobId) -> Result<(), Failure> {
    connection
        .numbered(concat!(
            "INSERT INTO records (job_id, settled_ms, is_pruned, retention_days)
             SELECT job_id, settled_ms, 0, ",
            record_retention!(),
            " FROM settlements JOIN jobs ON jobs.id = job_id WHERE job_id = $1
             ON CONFLICT (job_id) DO NOTHING"
        ))?
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

/// Returns a settlement as a value of its column: text or bytes.
pub(super) fn stored(settlement: &StoredSettlement) -> &dyn ToSql {
    match settlement {
        StoredSettlement::Plain(json) => json,
        StoredSettlement::Packed(bytes) => bytes,
    }
}

/// Says whether a settlement is read with its group, which is large and does not concern clients.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Groups {
    /// With the group.
    Included,
    /// Without the group.
    LeftOut,
}

/// Returns the settlement of a job, if it ended.
pub(super) fn read(
    connection: &Connection,
    job: JobId,
    groups: Groups,
) -> Result<Option<Settlement>, Failure> {
    let found = connection
        .numbered("SELECT settlement, hash FROM settlements WHERE job_id = $1")?
        .query_row([job.blob()], |row| Ok((row.get_ref(0)?.as_bytes()?.to_vec(), optional_digest(row, 1)?)))
        .optional()
        .map_err(|error| of_job(job, Failure::from(error).into()))?;
    let Some((stored, hash)) = found else { return Ok(None) };
    let mut settlement = settlement_of(job, &stored, hash)?;
    if groups == Groups::Included {
        let found = connection
            .numbered("SELECT record, hash FROM groups WHERE job_id = $1 AND length(record) > 0")?
            .query_row([job.blob()], |row| Ok((row.get::<_, Vec<u8>>(0)?, optional_digest(row, 1)?)))
            .optional()?;
        let group = found.map(|(record, hash)| group_of(&record, hash)).transpose();
        settlement.group = group.map_err(|error| of_job(job, error))?;
    }
    Ok(Some(settlement))
}
