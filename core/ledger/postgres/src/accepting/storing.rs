//! Stores a batch's new jobs and commits.

use std::collections::BTreeMap;

use deadpool_postgres::ClientWrapper;

use crate::charging::{ADD_SPENDING, INSERT_CHARGES, Payer, reservations};
use crate::failure::Failure;
use crate::pool::{Parameters, execute_over, prepared};
use crate::settling::{ADD_TO_TOTALS, Totals};
use crate::values::{millis, whole};
use infera_ledger::listing::metadata_text;
use infera_ledger::stored::{body_bytes, erase_after, replicas_number, retention};
use infera_ledger::{LedgerError, NewJob, job_state};
use infera_types::ids::{Digest, KeyId};

/// Stores jobs. It runs under the locks of their accounts' counts, so that it sees each order to erase all of an account's jobs that
/// were accepted by some time: the end of a job that is meant erases its text.
const INSERT_JOBS: &str = concat!(
    "WITH meant AS MATERIALIZED (
        SELECT given.account, COUNT(*)::bigint AS jobs FROM unnest($2::text[], $9::bigint[]) AS given (account, accepted_ms)
            JOIN account_erasures ON account_erasures.account = given.account AND asked_ms >= given.accepted_ms
        GROUP BY given.account),
    counted AS (
        UPDATE account_erasures SET live = live + meant.jobs FROM meant WHERE account_erasures.account = meant.account)
    INSERT INTO jobs (id, account, model, request, quorum, replicas, gateway, synchronous, accepted_ms,
        deadline_ms, epoch, state, handouts, is_handed_out, lost_handouts, misses, unconfirmed_ms, request_hash,
        lane, tier, share, share_weight, held, prompt_estimate, key_id, erase_after_ms, retention_days, choice, choices,
        shows_tokens)
    SELECT id, account, model, request, quorum, replicas, gateway, synchronous, accepted_ms, deadline_ms, epoch,
        ",
    job_state!(queued),
    ", 0, 0, 0, '[]', CASE WHEN held = 0 THEN accepted_ms END, request_hash, lane, tier, share, share_weight, held,
        prompt_estimate, key_id,
        CASE WHEN EXISTS (
            SELECT 1 FROM account_erasures WHERE account_erasures.account = jobs.account AND asked_ms >= jobs.accepted_ms)
            THEN 0 ELSE erase_after_ms END,
        retention_days, choice, choices, shows_tokens
    FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bytea[], $5::smallint[], $6::smallint[], $7::text[],
        $8::smallint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bytea[], $13::smallint[], $14::smallint[],
        $15::text[], $16::bigint[], $17::smallint[], $18::bigint[], $19::text[], $20::bigint[], $21::bigint[],
        $22::smallint[], $23::smallint[], $24::smallint[])
        AS jobs (id, account, model, request, quorum, replicas, gateway, synchronous, accepted_ms, deadline_ms,
            epoch, request_hash, lane, tier, share, share_weight, held, prompt_estimate, key_id, erase_after_ms,
            retention_days, choice, choices, shows_tokens)"
);
const INSERT_KEYS: &str = "INSERT INTO idempotency (account, key, fingerprint, job_id)
    SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[])";
const INSERT_LISTED: &str = "INSERT INTO job_lists (account, job_id, metadata)
    SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[])";
const ADD_WAITING: &str =
    "UPDATE waiting SET jobs = waiting.jobs + fresh.jobs, bytes = waiting.bytes + fresh.bytes
    FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS fresh (account, jobs, bytes)
    WHERE waiting.account = fresh.account";

/// A job that is about to be stored.
#[derive(Clone)]
pub(super) struct Fresh<'a> {
    pub(super) job: &'a NewJob,
    pub(super) is_held: bool,
    /// The payer, if it may cost something.
    pub(super) payer: Payer,
}

/// The columns of a batch's jobs.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<&'a [u8]>,
    accounts: Vec<&'a str>,
    models: Vec<&'a str>,
    requests: Vec<&'a [u8]>,
    quorums: Vec<i16>,
    replicas: Vec<i16>,
    gateways: Vec<&'a str>,
    synchronous: Vec<i16>,
    accepted: Vec<i64>,
    deadlines: Vec<i64>,
    epochs: Vec<i64>,
    hashes: Vec<Vec<u8>>,
    lanes: Vec<i16>,
    tiers: Vec<i16>,
    shares: Vec<&'a str>,
    weights: Vec<i64>,
    held: Vec<i16>,
    prompts: Vec<i64>,
    metadata: Vec<Option<String>>,
    keys: Vec<Option<&'a str>>,
    erased_after: Vec<Option<i64>>,
    retentions: Vec<i64>,
    choices: (Vec<i16>, Vec<i16>),
    shows_tokens: Vec<i16>,
}

impl<'a> Columns<'a> {
    fn of(jobs: &[Fresh<'a>]) -> Result<Self, LedgerError> {
        let mut columns = Self::default();
        for Fresh { job, is_held, .. } in jobs {
            columns.ids.push(job.id.as_bytes());
            columns.accounts.push(job.account.as_str());
            columns.models.push(job.model.as_str());
            columns.requests.push(&job.request);
            columns.quorums.push(i16::from(job.policy.quorum));
            columns.replicas.push(replicas_number(job));
            columns.gateways.push(job.gateway.as_str());
            columns.synchronous.push(i16::from(job.synchronous));
            columns.accepted.push(millis(job.accepted_ms));
            columns.deadlines.push(millis(job.deadline_ms));
            columns.epochs.push(whole(job.epoch));
            columns.hashes.push(Digest::of(&job.request).as_bytes().to_vec());
            columns.lanes.push(job.standby.lane as i16);
            columns.tiers.push(job.standby.tier as i16);
            columns.shares.push(job.standby.share.as_str());
            columns.weights.push(i64::from(job.standby.weight.max(1)));
            columns.held.push(i16::from(*is_held));
            columns.prompts.push(whole(job.standby.prompt_tokens));
            columns.metadata.push(metadata_text(&job.metadata)?);
            columns.keys.push(job.key.as_ref().map(KeyId::as_str));
            columns.erased_after.push(erase_after(&job.keeping));
            columns.retentions.push(retention(job.keeping.retention_days));
            let small = |count: u32| i16::try_from(count).unwrap_or(i16::MAX);
            columns.choices.0.push(small(job.choice.index));
            columns.choices.1.push(small(job.choice.count));
            columns.shows_tokens.push(i16::from(job.shows_tokens));
        }
        Ok(columns)
    }
}

/// Returns the accounts of new jobs, with the number and the bytes of each account's jobs.
fn by_account<'a>(jobs: &[Fresh<'a>]) -> (Vec<&'a str>, Vec<i64>, Vec<i64>) {
    let mut accounts = BTreeMap::<&str, (i64, u64)>::new();
    for Fresh { job, .. } in jobs {
        let (count, bytes) = accounts.entry(job.account.as_str()).or_default();
        *count += 1;
        *bytes += body_bytes(job);
    }
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for (account, (count, bytes)) in accounts {
        columns.0.push(account);
        columns.1.push(count);
        columns.2.push(whole(bytes));
    }
    columns
}

/// Stores the new jobs and commits: one round trip.
pub(super) async fn write(client: &ClientWrapper, jobs: &[Fresh<'_>], share: i16) -> Result<(), Failure> {
    if jobs.is_empty() {
        return client.batch_execute("COMMIT").await.map_err(Failure::of_commit);
    }
    let [insert_jobs, insert_listed, insert_keys, add_waiting, add_totals] =
        prepared(client, [INSERT_JOBS, INSERT_LISTED, INSERT_KEYS, ADD_WAITING, ADD_TO_TOTALS]).await?;
    let [insert_charges, add_spending] = prepared(client, [INSERT_CHARGES, ADD_SPENDING]).await?;
    let (charges, spending) = reservations(jobs.iter().map(|fresh| (fresh.job, &fresh.payer)));
    let columns = Columns::of(jobs)?;
    let (accounts, more, bytes) = by_account(jobs);
    let mut keyed = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Fresh { job, .. } in jobs {
        if let Some(idempotency) = &job.idempotency {
            keyed.0.push(job.account.as_str());
            keyed.1.push(&idempotency.key.as_bytes()[..]);
            keyed.2.push(&idempotency.fingerprint.as_bytes()[..]);
            keyed.3.push(&job.id.as_bytes()[..]);
        }
    }
    let mut totals = Totals::default();
    totals.add("accepted", u64::try_from(jobs.len()).unwrap_or(u64::MAX));
    totals.add("body_bytes", jobs.iter().map(|fresh| body_bytes(fresh.job)).sum());
    let (names, amounts) = totals.columns();
    let Columns { ids, accounts: owners, models, requests, quorums, replicas, .. } = &columns;
    let Columns { gateways, synchronous, accepted, deadlines, epochs, hashes, metadata, .. } = &columns;
    let Columns { lanes, tiers, shares, weights, held, prompts, keys: key_ids, .. } = &columns;
    let Columns { erased_after, retentions, choices, shows_tokens, .. } = &columns;
    let (inserted, listed, keys, waiting, totals, charged, reserved, committed) = tokio::join!(
        biased;
        async {
            let columns: Parameters<'_> = &[
                ids, owners, models, requests, quorums, replicas, gateways, synchronous, accepted, deadlines, epochs,
                hashes, lanes, tiers, shares, weights, held, prompts, key_ids, erased_after, retentions,
                &choices.0, &choices.1, shows_tokens,
            ];
            client.execute(&insert_jobs, columns).await.map(drop)
        },
        async { client.execute(&insert_listed, &[owners, ids, metadata]).await.map(drop) },
        async { execute_over(client, keyed.0.len(), &insert_keys, &[&keyed.0, &keyed.1, &keyed.2, &keyed.3]).await },
        async { client.execute(&add_waiting, &[&accounts, &more, &bytes]).await.map(drop) },
        async { client.execute(&add_totals, &[&names, &share, &amounts]).await.map(drop) },
        async { charges.insert(client, &insert_charges).await },
        async { spending.add(client, &add_spending).await },
        client.batch_execute("COMMIT"),
    );
    // After a failed statement the server answers the COMMIT with a rollback and calls that a success.
    for outcome in [inserted, listed, keys, waiting, totals, charged, reserved] {
        outcome.map_err(Failure::before_sent_commit)?;
    }
    committed.map_err(Failure::of_commit)
}
