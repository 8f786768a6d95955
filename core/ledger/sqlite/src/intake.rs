//! The gateway's writing half: accepts, confirms and cancels.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteLedger;
use super::charging::{self, Admitted};
use super::failure::Failure;
use super::settling::{FORMS, Groups, read, settle};
use super::values::{Blob, Numbered as _, Word, count, digest, job_id, millis, small, whole};
use infera_ledger::last_commit::filler;
use infera_ledger::listing::metadata_text;
use infera_ledger::statements::EARLIER_USE;
use infera_ledger::stored::{
    SettlementRow, Stored, body_bytes, erase_after, no_place, replicas_number, retention,
};
use infera_ledger::{Accepted, Cancelled, Idempotency, JobIntake, LedgerError, NewJob, Settled, job_state};
use infera_types::ids::{AccountId, Digest, GatewayId, JobId, ModelName};
use infera_types::job::{End, Settlement};
use infera_types::time::Timestamp;

#[async_trait]
impl JobIntake for SqliteLedger {
    /// Returns [`Accepted::Existing`] too for a job whose id the account used before, so that sending it again after
    /// an unknown outcome is safe.
    async fn accept(&self, job: NewJob) -> Result<Accepted, LedgerError> {
        // Hashed here, because the writing thread has enough to do.
        let hash = Digest::of(&job.request);
        self.write(move |connection| accept(connection, &job, hash)).await
    }

    async fn confirm(&self, jobs: &[JobId], _now: Timestamp) -> Result<(), LedgerError> {
        let jobs = jobs.to_vec();
        self.write(move |connection| {
            // Only jobs that have been unconfirmed since they were accepted: a late mark must not hide a job that was
            // released or swept meanwhile.
            let mut statement = connection.numbered(concat!(
                "UPDATE jobs SET unconfirmed_ms = NULL WHERE id = $1 AND state = ",
                job_state!(queued),
                " AND unconfirmed_ms = accepted_ms"
            ))?;
            for job in &jobs {
                statement.execute([job.blob()])?;
            }
            Ok(())
        })
        .await
    }

    /// Returns an earlier settlement without its group, as in a job's view.
    async fn cancel(
        &self,
        account: &AccountId,
        job: JobId,
        now: Timestamp,
    ) -> Result<Cancelled, LedgerError> {
        let account = account.clone();
        self.write(move |connection| cancel(connection, account, job, now)).await
    }

    async fn commits_come_through(&self) -> Result<(), LedgerError> {
        if self.writer.failure().is_none() {
            return Ok(());
        }
        let filler = filler()?;
        self.write(move |connection| probe(connection, &filler)).await
    }
}

/// Writes a meaningless row, to find out whether commits succeed.
fn probe(connection: &Connection, filler: &[u8]) -> Result<(), Failure> {
    connection
        .numbered(
            "INSERT INTO probe (id, filler) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET filler = excluded.filler",
        )?
        .execute([filler])?;
    Ok(())
}

/// Accepts a job, or returns why it is refused; then nothing was written.
pub(super) fn accept(connection: &Connection, job: &NewJob, hash: Digest) -> Result<Accepted, Failure> {
    if let Some(idempotency) = &job.idempotency
        && let Some(earlier) = earlier_use(connection, &job.account, idempotency)?
    {
        return Ok(earlier);
    }
    let (stored, offered) = stored(connection, job)?;
    if let Some(full) = no_place(job, stored) {
        // A job that was accepted before is returned though there is no room for another.
        return Ok(same_id(connection, job)?.unwrap_or(full));
    }
    let payer = match charging::admit(connection, job)? {
        Admitted::Free => None,
        Admitted::Charged(payer) => Some(payer),
        Admitted::Over(over) => return Ok(same_id(connection, job)?.unwrap_or(Accepted::OverLimit(over))),
    };
    let is_held = job.standby.is_held(offered);
    if !insert(connection, job, hash, is_held)? {
        let missing = || Failure::row(format!("{} is stored and cannot be read", job.id));
        return same_id(connection, job)?.ok_or_else(missing);
    }
    count_in(connection, job)?;
    if let (Some(charge), Some(payer)) = (&job.charge, &payer) {
        charging::reserve(connection, job, charge, payer)?;
    }
    if let Some(idempotency) = &job.idempotency {
        connection
            .numbered("INSERT INTO idempotency (account, key, fingerprint, job_id) VALUES ($1, $2, $3, $4)")?
            .execute(params![
                Word(job.account.as_str()),
                idempotency.key.blob(),
                idempotency.fingerprint.blob(),
                job.id.blob()
            ])?;
    }
    Ok(Accepted::New { is_held })
}

/// Returns what an idempotency key was used for before.
pub(super) fn earlier_use(
    connection: &Connection,
    account: &AccountId,
    idempotency: &Idempotency,
) -> Result<Option<Accepted>, Failure> {
    let earlier = connection
        .numbered(EARLIER_USE)?
        .query_row(params![Word(account.as_str()), idempotency.key.blob()], |row| {
            Ok((digest(row, 0)?, job_id(row, 1)?))
        })
        .optional()?;
    Ok(earlier.map(|(fingerprint, id)| {
        if fingerprint == idempotency.fingerprint { Accepted::Existing(id) } else { Accepted::KeyReused }
    }))
}

/// Finds an earlier job with the same id: a job that is sent again after an unknown outcome is the same job.
fn same_id(connection: &Connection, job: &NewJob) -> Result<Option<Accepted>, Failure> {
    let account: Option<String> = connection
        .numbered("SELECT account FROM jobs WHERE id = $1")?
        .query_row([job.id.blob()], |row| row.get(0))
        .optional()?;
    match account {
        None => Ok(None),
        Some(account) if account == job.account.as_str() => Ok(Some(Accepted::Existing(job.id))),
        Some(_) => Err(Failure::row(format!("{} belongs to another account", job.id))),
    }
}

/// Reads what is stored of a job's account and of all accounts: waiting jobs, bytes, bytes of all. The migration made the
/// row of the latter.
const STORED: &str = "SELECT COALESCE(waiting.jobs, 0), COALESCE(waiting.bytes, 0), totals.value
    FROM totals LEFT JOIN waiting ON waiting.account = $1 WHERE totals.name = 'body_bytes'";

/// Reads the same, and counts the share's jobs in the model's first queue, as far as it matters.
const STORED_AND_OFFERED: &str = concat!(
    "SELECT COALESCE(waiting.jobs, 0), COALESCE(waiting.bytes, 0), totals.value,
        (SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE state = ",
    job_state!(queued),
    " AND model = $2 AND held = 0 AND lane = 0 AND share = $3 LIMIT $4))
    FROM totals LEFT JOIN waiting ON waiting.account = $1 WHERE totals.name = 'body_bytes'"
);

/// Returns what is stored before `job`, and how many jobs of its share lie in the model's first queue (0 if that
/// number decides nothing).
fn stored(connection: &Connection, job: &NewJob) -> Result<(Stored, u32), Failure> {
    let standby = &job.standby;
    let account = Word(job.account.as_str());
    let read = |row: &Row<'_>| {
        Ok(Stored { waiting: small(row, 0)?, account_bytes: count(row, 1)?, all_bytes: count(row, 2)? })
    };
    if standby.is_always_held() || standby.offered_max == u32::MAX {
        return Ok((connection.numbered(STORED)?.query_row([account], read)?, 0));
    }
    let values =
        params![account, Word(job.model.as_str()), Word(standby.share.as_str()), standby.offered_max];
    let with_offered = |row: &Row<'_>| Ok((read(row)?, small(row, 3)?));
    Ok(connection.numbered(STORED_AND_OFFERED)?.query_row(values, with_offered)?)
}

/// Counts one more waiting job and its body.
fn count_in(connection: &Connection, job: &NewJob) -> Result<(), Failure> {
    let bytes = whole(body_bytes(job));
    connection
        .numbered(
            "INSERT INTO waiting (account, jobs, bytes) VALUES ($1, 1, $2)
             ON CONFLICT (account) DO UPDATE SET jobs = waiting.jobs + 1, bytes = waiting.bytes + excluded.bytes",
        )?
        .execute(params![Word(job.account.as_str()), bytes])?;
    connection
        .numbered(
            "INSERT INTO totals (name, value) VALUES ('accepted', 1), ('body_bytes', $1)
             ON CONFLICT (name) DO UPDATE SET value = totals.value + excluded.value",
        )?
        .execute([bytes])?;
    Ok(())
}

/// Stores the job's row. Returns false, and stores nothing, if a job with this id is stored already.
fn insert(connection: &Connection, job: &NewJob, hash: Digest, is_held: bool) -> Result<bool, Failure> {
    let standby = &job.standby;
    let inserted = connection
        .numbered(concat!(
            "INSERT INTO jobs (id, account, model, request, quorum, replicas, gateway, synchronous, accepted_ms,
                 deadline_ms, epoch, state, handouts, is_handed_out, lost_handouts, misses, unconfirmed_ms,
                 request_hash, lane, tier, share, share_weight, held, prompt_estimate, key_id, erase_after_ms,
                 retention_days, choice, choices, shows_tokens)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, ",
            job_state!(queued),
            ", 0, 0, 0, '[]', CASE WHEN $17 = 0 THEN $9 END, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)
             ON CONFLICT (id) DO NOTHING"
        ))?
        .execute(params![
            job.id.blob(),
            Word(job.account.as_str()),
            Word(job.model.as_str()),
            job.request,
            job.policy.quorum,
            replicas_number(job),
            Word(job.gateway.as_str()),
            i64::from(job.synchronous),
            millis(job.accepted_ms),
            millis(job.deadline_ms),
            whole(job.epoch),
            hash.blob(),
            standby.lane as i64,
            standby.tier as i64,
            Word(standby.share.as_str()),
            standby.weight.max(1),
            i64::from(is_held),
            whole(standby.prompt_tokens),
            job.key.as_ref().map(|key| Word(key.as_str())),
            erase_after(&job.keeping),
            retention(job.keeping.retention_days),
            job.choice.index,
            job.choice.count,
            i64::from(job.shows_tokens)
        ])?;
    if inserted == 0 {
        return Ok(false);
    }
    heed_order(connection, job)?;
    connection
        .numbered("INSERT INTO job_lists (account, job_id, metadata) VALUES ($1, $2, $3)")?
        .execute(params![Word(job.account.as_str()), job.id.blob(), metadata_text(&job.metadata)?])?;
    Ok(true)
}

/// Has the end of a job erase its text if all of its account's jobs are to be erased that were accepted by a time after its own: it may
/// come to the writer after the order has looked for its jobs.
fn heed_order(connection: &Connection, job: &NewJob) -> Result<(), Failure> {
    let is_meant = connection
        .numbered("UPDATE account_erasures SET live = live + 1 WHERE account = $1 AND asked_ms >= $2")?
        .execute(params![Word(job.account.as_str()), millis(job.accepted_ms)])?;
    if is_meant > 0 {
        connection.numbered("UPDATE jobs SET erase_after_ms = 0 WHERE id = $1")?.execute([job.id.blob()])?;
    }
    Ok(())
}

pub(super) fn cancel(
    connection: &Connection,
    account: AccountId,
    job: JobId,
    now: Timestamp,
) -> Result<Cancelled, Failure> {
    let row = connection
        .numbered("SELECT model, gateway FROM jobs WHERE id = $1 AND account = $2")?
        .query_row(params![job.blob(), Word(account.as_str())], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })
        .optional()?;
    let Some((model, gateway)) = row else { return Ok(Cancelled::Unknown) };
    if let Some(winner) = read(connection, job, Groups::LeftOut)? {
        return Ok(Cancelled::Before(winner));
    }
    let settlement = Settlement {
        job_id: job,
        account,
        model: ModelName::new(model),
        gateway: GatewayId::new(gateway),
        end: End::cancelled(),
        group: None,
        settled_ms: now,
    };
    match settle(connection, &SettlementRow::of(&settlement, FORMS)?)? {
        Settled::Now => Ok(Cancelled::Now(settlement)),
        Settled::Before(winner) => Ok(Cancelled::Before(winner)),
    }
}
