//! The statements about retention and erasures that both databases share.

use crate::{erasure_reason, erasure_step, job_state};

/// The retention of a job's record, for the columns of `jobs`: -1 while the job is not to be stored and its text is there, so
/// that no segment claims it.
#[macro_export]
macro_rules! record_retention {
    () => {
        "CASE WHEN jobs.erase_after_ms IS NOT NULL AND jobs.erased_ms IS NULL THEN -1 ELSE jobs.retention_days END"
    };
}

/// Finds the retention whose records a segment is to claim: of those with records that are older than `$1` (with a retention: `$4`), or
/// later than a right clock can say (`$2`), or as many as `$3`, the one with the oldest record. It jumps from one retention to the next in
/// the index, however many records wait.
pub const CHOOSE_RETENTION: &str = "WITH RECURSIVE retentions (days) AS (
        SELECT MIN(retention_days) FROM records WHERE segment IS NULL AND retention_days >= 0
        UNION ALL
        SELECT (SELECT MIN(retention_days) FROM records WHERE segment IS NULL AND retention_days > days)
        FROM retentions WHERE days IS NOT NULL)
    SELECT days FROM retentions WHERE days IS NOT NULL AND (
        EXISTS (SELECT 1 FROM records WHERE segment IS NULL AND retention_days = days
            AND settled_ms <= CASE WHEN days > 0 THEN CAST($4 AS BIGINT) ELSE CAST($1 AS BIGINT) END)
        OR EXISTS (SELECT 1 FROM records WHERE segment IS NULL AND retention_days = days AND settled_ms > $2)
        OR EXISTS (SELECT 1 FROM records WHERE segment IS NULL AND retention_days = days
            ORDER BY settled_ms, job_id LIMIT 1 OFFSET CAST($3 AS BIGINT) - 1))
    ORDER BY (SELECT MIN(settled_ms) FROM records WHERE segment IS NULL AND retention_days = days) LIMIT 1";

/// Finds what is left of a record (`$1`) that was deleted with its segment: hash, time.
pub const REMOVED_RECORD: &str = "SELECT records.hash, segments.removed_ms
    FROM records JOIN segments ON segments.id = records.segment
    WHERE records.job_id = $1 AND records.hash IS NOT NULL AND segments.removed_ms IS NOT NULL";

/// Finds the erasure of a job (`$1`) of an account (`$2`, or any if it is null): state, step, due, done. The last three are
/// null if no time is set.
pub const JOB_ERASURE: &str = "SELECT jobs.state, erasures.step, erasures.due_ms, erasures.done_ms
    FROM jobs LEFT JOIN erasures ON erasures.job_id = jobs.id
    WHERE jobs.id = $1 AND (CAST($2 AS TEXT) IS NULL OR jobs.account = $2)";

/// Finds an account's (`$1`) last order: asked, whether all jobs are found, found, live, and how many texts are not gone. Counted,
/// each kind up to `$3`, are the erasures that are due by now (`$2`) and not done, those that were put off, and the jobs whose end
/// queues one. The second are looked for among all accounts' that were put off, which are few, because the account's own may be
/// beside very many whose time comes later; the third among the jobs that have not ended.
pub const ACCOUNT_ERASURE: &str = concat!(
    "SELECT asked_ms, is_walked, found, live,
        (SELECT COUNT(*) FROM (
            SELECT 1 FROM erasures WHERE erasures.account = $1 AND step < ",
    erasure_step!(done),
    " AND due_ms <= $2 LIMIT $3) AS due)
        + (SELECT COUNT(*) FROM (
            SELECT 1 FROM erasures WHERE erasures.account || '' = $1 AND step = ",
    erasure_step!(bare),
    " AND due_ms > $2 LIMIT $3) AS put_off)
        + CASE WHEN live = 0 THEN 0 ELSE (SELECT COUNT(*) FROM (
            SELECT 1 FROM jobs WHERE jobs.account = $1 AND state < ",
    job_state!(ended),
    " AND deadline_ms >= 0 AND erase_after_ms = 0 LIMIT $3) AS unended) END
    FROM account_erasures WHERE account_erasures.account = $1"
);

/// Orders the erasure of an account (`$1`, found in `$accounts`) at `$2`, from its first job on, unless an earlier order is still
/// finding jobs.
#[macro_export]
macro_rules! order_account {
    ($accounts:literal) => {
        concat!(
            "INSERT INTO account_erasures (account, asked_ms, is_walked, found, live)
            SELECT accounts.id, CAST($2 AS BIGINT), 0, 0, 0 FROM ",
            $accounts,
            " WHERE accounts.id = $1
            ON CONFLICT (account) DO UPDATE SET asked_ms = excluded.asked_ms, behind = excluded.behind,
                is_walked = 0, found = 0, live = 0
            WHERE account_erasures.is_walked = 1"
        )
    };
}

/// Finds the order that has been finding jobs for the longest: account, asked, the job behind which it goes on.
pub const OPEN_ORDER: &str = "SELECT account, asked_ms, behind FROM account_erasures WHERE is_walked = 0 ORDER BY asked_ms, account LIMIT 1";

/// Finds segments with records whose text has been gone from the ledger since `$3` (`$1` is now, at most `$2`): segment, key,
/// rewrites. A segment whose old object is not removed yet comes later.
pub const REWRITABLE: &str = concat!(
    "SELECT segments.id, segments.object_key, segments.rewrites FROM segments WHERE id IN (
        SELECT records.segment FROM erasures JOIN records ON records.job_id = erasures.job_id
            JOIN jobs ON jobs.id = erasures.job_id
        WHERE erasures.step = ",
    erasure_step!(bare),
    " AND erasures.reason > ",
    erasure_reason!(retention),
    " AND erasures.due_ms <= $1 AND jobs.erased_ms <= $3 AND records.hash IS NOT NULL)
    AND object_key IS NOT NULL AND old_key IS NULL AND removed_ms IS NULL
    ORDER BY id LIMIT $2"
);

/// Finds the erased jobs of a segment (`$1`): job, salt, when.
pub const ERASED_IN_SEGMENT: &str = concat!(
    "SELECT records.job_id, erasures.salt, jobs.erased_ms
    FROM records JOIN erasures ON erasures.job_id = records.job_id JOIN jobs ON jobs.id = records.job_id
    WHERE records.segment = $1 AND erasures.step = ",
    erasure_step!(bare),
    " AND jobs.erased_ms IS NOT NULL ORDER BY records.job_id"
);

/// Finds objects that were replaced, at most `$1`: segment, old key, present key.
pub const REPLACED: &str = "SELECT id, old_key, object_key FROM segments
    WHERE old_key IS NOT NULL AND object_key IS NOT NULL ORDER BY id LIMIT $1";

/// Finds segments whose retention is over by now (`$1`), at most `$2`: segment, key, old key, rewrites.
pub const EXPIRED: &str = "SELECT id, object_key, old_key, rewrites FROM segments
    WHERE expires_ms <= $1 AND expires_ms IS NOT NULL AND removed_ms IS NULL AND object_key IS NOT NULL
    ORDER BY expires_ms, id LIMIT $2";

/// Puts off the erasures of a segment (`$1`) until `$2`.
pub const POSTPONE: &str = concat!(
    "UPDATE erasures SET due_ms = $2 WHERE step = ",
    erasure_step!(bare),
    " AND job_id IN (SELECT job_id FROM records WHERE segment = $1)"
);
