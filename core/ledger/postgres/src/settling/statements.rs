//! The statements that end a batch of jobs.

use infera_ledger::{job_state, record_retention};

pub(super) const LOCK_JOBS: &str = "SELECT id, account, state, charged, erase_after_ms, retention_days, choice, choices FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE";
/// The columns that [`super::settlement`] reads, and after them those that [`super::with_group`] reads.
pub(super) const READ: &str =
    "SELECT settlements.job_id, settlement, settlements.hash, record, groups.hash FROM settlements
    LEFT JOIN groups ON groups.job_id = settlements.job_id AND length(record) > 0
    WHERE settlements.job_id = ANY($1)";
/// Fills the places that were kept for groups, while they are kept. A group that is there stays.
pub(super) const FILL_GROUPS: &str = "WITH locked AS MATERIALIZED (
        SELECT job_id FROM groups WHERE job_id = ANY($1) AND is_closed + 0 = 0 AND length(record) = 0
        ORDER BY job_id FOR UPDATE)
    UPDATE groups SET verifier = known.verifier, deadline_ms = known.deadline_ms, record = known.record,
        hash = known.hash
    FROM locked JOIN unnest($1::bytea[], $2::text[], $3::bigint[], $4::bytea[], $5::bytea[])
        AS known (job_id, verifier, deadline_ms, record, hash) USING (job_id)
    WHERE groups.job_id = locked.job_id AND groups.is_closed + 0 = 0 AND length(groups.record) = 0";
pub(super) const INSERT_SETTLEMENTS: &str =
    "INSERT INTO settlements (job_id, settled_ms, settlement, reason, hash)
    SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::text[], $5::bytea[])";
pub(super) const END_JOBS: &str = concat!(
    "UPDATE jobs SET state = ",
    job_state!(ended),
    ", owner = NULL, is_handed_out = 0, unconfirmed_ms = NULL, ended_as = ended.kind
    FROM unnest($1::bytea[], $2::smallint[]) AS ended (id, kind) WHERE jobs.id = ended.id"
);
/// Numbers the ends, under the lock that postings are numbered under.
pub(super) const INSERT_ENDS: &str = "INSERT INTO ends (account, job_id)
    SELECT account, job_id FROM unnest($1::text[], $2::bytea[]) AS ended (account, job_id)";
pub(super) const INSERT_GROUPS: &str =
    "INSERT INTO groups (job_id, verifier, deadline_ms, is_closed, record, hash)
    SELECT job_id, verifier, deadline_ms, 0, record, hash
    FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::bytea[], $5::bytea[])
        AS groups (job_id, verifier, deadline_ms, record, hash)";
pub(super) const INSERT_RECORDS: &str = concat!(
    "INSERT INTO records (job_id, settled_ms, is_pruned, retention_days)
    SELECT job_id, settled_ms, 0, ",
    record_retention!(),
    " FROM unnest($1::bytea[], $2::bigint[]) AS records (job_id, settled_ms) JOIN jobs ON jobs.id = job_id
    ON CONFLICT (job_id) DO NOTHING"
);
/// Takes jobs out of their accounts' counts. The answers of a batch move an account's usual length together, by an eighth
/// of the way each from the same beginning, as far as the mean of all.
pub(super) const TAKE_FROM_WAITING: &str = "WITH locked AS MATERIALIZED (
        SELECT account FROM waiting WHERE account = ANY($1) ORDER BY account FOR UPDATE)
    UPDATE waiting SET jobs = waiting.jobs - ended.jobs, excess_tokens = excess_tokens + ended.excess,
        usual_tokens = CASE WHEN ended.answers = 0 THEN usual_tokens ELSE
            (COALESCE(usual_tokens, ended.tokens / ended.answers) * GREATEST(8 - ended.answers, 0)
                + ended.tokens / ended.answers * LEAST(ended.answers, 8) + 4) / 8 END
    FROM locked JOIN unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
        AS ended (account, jobs, answers, tokens, excess) USING (account)
    WHERE waiting.account = locked.account";
/// Frees idempotency keys, under the lock of the account's count, so that acceptances of the account wait for this
/// commit.
pub(super) const FREE_KEYS: &str = "DELETE FROM idempotency WHERE job_id = ANY($1)";

/// Counts answers for their keys, models and days, in the order in which the rows are locked.
pub(super) const COUNT_USAGE: &str =
    "INSERT INTO usage (account, day, key_id, model, requests, prompt_tokens, completion_tokens, cost)
    SELECT jobs.account, ended.day, COALESCE(jobs.key_id, ''), jobs.model, COUNT(*), SUM(ended.prompt)::bigint,
        SUM(ended.completion)::bigint, SUM(ended.cost)::bigint
    FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
            AS ended (job_id, day, prompt, completion, cost)
        JOIN jobs ON jobs.id = ended.job_id
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (account, day, key_id, model) DO UPDATE SET requests = usage.requests + excluded.requests,
        prompt_tokens = usage.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = usage.completion_tokens + excluded.completion_tokens,
        cost = usage.cost + excluded.cost";

/// Adds to this process's row of the sums over all jobs.
pub(crate) const ADD_TO_TOTALS: &str = "INSERT INTO totals (name, share, value)
    SELECT name, $2::smallint, amount FROM unnest($1::text[], $3::bigint[]) AS more (name, amount)
    ON CONFLICT (name, share) DO UPDATE SET value = totals.value + excluded.value";
