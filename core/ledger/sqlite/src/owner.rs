//! The verifier's half of a job's life: takes, releases, records misses, settles and posts.

use std::collections::HashSet;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteLedger;
use super::failure::Failure;
use super::postings::insert_posting;
use super::settling::{FORMS, Groups, close, read, settle};
use super::values::{
    Blob, Numbered as _, Word, choice, count, from_json, millis, optional_digest, small, time, to_json,
};
use infera_ledger::stored::{SettlementRow, latest, of_job, readable, replicas_of, unchanged};
use infera_ledger::{
    JobOwner, LedgerError, Miss, NodePool, Notice, Posting, Settled, Take, TakenJob, job_state,
};
use infera_types::ids::{AccountId, Digest, GatewayId, JobId, ModelName, VerifierId};
use infera_types::job::{Settlement, VerificationPolicy};
use infera_types::money::Payment;
use infera_types::service::{Lane, ServiceTier};
use infera_types::time::Timestamp;

#[async_trait]
impl JobOwner for SqliteLedger {
    async fn take(
        &self,
        owner: &VerifierId,
        notices: &[Notice],
        now: Timestamp,
    ) -> Result<Vec<Take>, LedgerError> {
        let owner = owner.clone();
        let notices = notices.to_vec();
        self.write(move |connection| {
            let mut seen = HashSet::with_capacity(notices.len());
            let mut takes = Vec::with_capacity(notices.len());
            for notice in &notices {
                // The same job twice in a batch counts as one handout.
                let is_first = seen.insert(notice.job);
                takes.push(if is_first {
                    take_one(connection, &owner, *notice, now)?
                } else {
                    Take::Nothing(notice.job)
                });
            }
            Ok(takes)
        })
        .await
    }

    async fn release(&self, owner: &VerifierId, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        let owner = owner.clone();
        let jobs = jobs.to_vec();
        self.write(move |connection| {
            let mut statement = connection.numbered(concat!(
                "UPDATE jobs SET state = ",
                job_state!(queued),
                ", owner = NULL, handouts = handouts - 1, is_handed_out = 0,
                     held = CASE WHEN lane = $4 THEN 1 ELSE 0 END, unconfirmed_ms = CASE WHEN lane <> $4 THEN $3 END
                 WHERE id = $1 AND owner = $2 AND state = ",
                job_state!(running)
            ))?;
            for job in &jobs {
                let values = params![job.blob(), Word(owner.as_str()), millis(now), Lane::Own as i64];
                statement.execute(values)?;
            }
            Ok(())
        })
        .await
    }

    async fn record_miss(&self, job: JobId, miss: &Miss) -> Result<(), LedgerError> {
        let miss = miss.clone();
        self.write(move |connection| record_miss(connection, job, miss)).await
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, LedgerError> {
        let row = SettlementRow::of(settlement, FORMS)?;
        self.write(move |connection| settle(connection, &row)).await
    }

    async fn post(&self, job: JobId, postings: &[Posting], closes: bool) -> Result<(), LedgerError> {
        let postings = postings.to_vec();
        self.write(move |connection| {
            for posting in &postings {
                insert_posting(connection, posting)?;
            }
            if closes { close(connection, job) } else { Ok(()) }
        })
        .await
    }
}

/// Takes a job, also one that is held: a program of the version before may have published it. The taker counts as alive, and so does an owner with a live lease named by its own id. Returns the
/// columns that [`taken`] reads.
const TAKE: &str = concat!(
    "UPDATE jobs SET state = ",
    job_state!(running),
    ", owner = $2, held = 0, handouts = handouts + $7, lost_handouts = lost_handouts + $7 * is_handed_out,
        is_handed_out = $6, unconfirmed_ms = NULL
    WHERE id = $1 AND state < ",
    job_state!(ended),
    " AND CASE WHEN $7 = 0 THEN owner = $2 ELSE
        owner IS NULL OR $3 = 1 OR (owner <> $2 AND NOT EXISTS (
            SELECT 1 FROM leases WHERE leases.name = jobs.owner AND leases.holder = jobs.owner
                AND leases.until_ms > $4 AND leases.taken_ms <= $5)) END
    RETURNING account, model, request, quorum, replicas, gateway, synchronous, accepted_ms, deadline_ms,
        epoch, lost_handouts, misses, request_hash, lane, tier, share,
        (SELECT is_paid FROM charges WHERE charges.job_id = jobs.id), choice, choices"
);

fn take_one(
    connection: &Connection,
    owner: &VerifierId,
    notice: Notice,
    now: Timestamp,
) -> Result<Take, Failure> {
    let Notice { job, redelivered, handout } = notice;
    let (redelivered, is_new) = (i64::from(redelivered), i64::from(handout.is_new()));
    let taken = connection
        .numbered(TAKE)?
        .query_row(
            params![
                job.blob(),
                Word(owner.as_str()),
                redelivered,
                millis(now),
                millis(latest(now)),
                handout.weight(),
                is_new
            ],
            |row| taken(row, job),
        )
        .optional()?;
    let found = if let Some((body, misses, hash)) = taken {
        let sound =
            unchanged("request", &body.request, hash).and_then(|_| from_json("misses", misses.as_bytes()));
        let sound = sound.map_err(|error| of_job(job, error));
        readable([sound.map(|misses| Take::Taken(TakenJob { misses, ..body }))])?.pop()
    } else {
        let settlement = read(connection, job, Groups::Included);
        readable([settlement.map_err(|error| of_job(job, error.into()))])?.pop().flatten().map(Take::Settled)
    };
    Ok(found.unwrap_or(Take::Nothing(job)))
}

/// Reads a taken job without its misses, the misses as JSON, and the request's hash.
fn taken(row: &Row<'_>, id: JobId) -> rusqlite::Result<(TakenJob, String, Option<Digest>)> {
    let job = TakenJob {
        id,
        choice: choice(row, 17)?,
        account: AccountId::new(row.get::<_, String>(0)?),
        model: ModelName::new(row.get::<_, String>(1)?),
        // Bodies are nulled only after the end.
        request: row.get::<_, Option<Vec<u8>>>(2)?.unwrap_or_default(),
        policy: VerificationPolicy { quorum: row.get(3)?, replicas: replicas_of(row.get(4)?) },
        gateway: GatewayId::new(row.get::<_, String>(5)?),
        synchronous: row.get::<_, i64>(6)? != 0,
        accepted_ms: time(row, 7)?,
        deadline_ms: time(row, 8)?,
        epoch: count(row, 9)?,
        lane: Lane::of_number(row.get(13)?),
        tier: ServiceTier::of_number(row.get(14)?),
        pool: NodePool::of_share(&row.get::<_, String>(15)?),
        payment: Payment::of_charge(row.get::<_, Option<i64>>(16)?.map(|paid| paid != 0)),
        lost_handouts: small(row, 10)?,
        misses: Vec::new(),
    };
    Ok((job, row.get(11)?, optional_digest(row, 12)?))
}

fn record_miss(connection: &Connection, job: JobId, miss: Miss) -> Result<(), Failure> {
    let stored: Option<String> = connection
        .numbered("SELECT misses FROM jobs WHERE id = $1")?
        .query_row([job.blob()], |row| row.get(0))
        .optional()?;
    let stored = stored.ok_or_else(|| LedgerError::Row(format!("{job} was never accepted")))?;
    let mut misses: Vec<Miss> = from_json("misses", stored.as_bytes())?;
    // A miss that is written again after an unknown outcome is the same miss.
    if misses.iter().any(|known| known.assignment == miss.assignment) {
        return Ok(());
    }
    misses.push(miss);
    connection
        .numbered("UPDATE jobs SET misses = $2 WHERE id = $1")?
        .execute(params![job.blob(), to_json(&misses)?])?;
    Ok(())
}
