//! The statements that SQLite and PostgreSQL share word for word, so that a condition is changed for both or for none.
//! Parameters are numbered as PostgreSQL writes them. Most statements of the two differ: one takes a row at a time on
//! its only writing connection, the other takes arrays of rows and locks them in order.

mod erasing;
pub mod groups;
pub mod mail;
pub mod money;

pub use erasing::*;

/// Finds what an idempotency key (`$2`) of an account (`$1`) was used for: fingerprint and job.
pub const EARLIER_USE: &str = "SELECT fingerprint, job_id FROM idempotency WHERE account = $1 AND key = $2";

/// Finds jobs that have not ended and whose deadline is over by now (`$1`), at most `$2`: id, account, model, gateway.
pub const OVERDUE_JOBS: &str = concat!(
    "SELECT id, account, model, gateway FROM jobs WHERE state < ",
    crate::job_state!(ended),
    " AND deadline_ms <= $1 ORDER BY deadline_ms LIMIT $2"
);

/// Finds queued jobs of one model (`$2`) before their deadline (`$1`: now), at most `$3`, the oldest of each queue first: the
/// columns of [`OVERDUE_JOBS`].
pub const QUEUED_JOBS_OF_MODEL: &str = concat!(
    "SELECT id, account, model, gateway FROM jobs WHERE state = ",
    crate::job_state!(queued),
    " AND model = $2 AND deadline_ms > $1 LIMIT $3"
);

/// Finds segments without an object that were claimed before `$1`, or later than a right clock can say (`$2`).
pub const UNFINISHED_SEGMENTS: &str =
    "SELECT id FROM segments WHERE object_key IS NULL AND (claimed_ms < $1 OR claimed_ms > $2)
    ORDER BY claimed_ms, id";

/// Deletes a segment without records, which would stay unfinished for ever.
pub const FORGET_EMPTY_SEGMENT: &str =
    "DELETE FROM segments WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM records WHERE segment = $1)";

/// Finds where a job's record is: segment, key, offset, length, line, hash.
pub const LOCATE_RECORD: &str =
    "SELECT segments.id, segments.object_key, records.frame_offset, records.frame_length, records.line,
        records.hash
    FROM records JOIN segments ON segments.id = records.segment
    WHERE records.job_id = $1 AND records.hash IS NOT NULL AND segments.object_key IS NOT NULL
        AND segments.removed_ms IS NULL";

/// Finds the places of a segment's records: job, offset, length, line, hash.
pub const RECORD_PLACES: &str = "SELECT job_id, frame_offset, frame_length, line, hash FROM records
    WHERE segment = $1 AND hash IS NOT NULL ORDER BY frame_offset, line";

/// Adds or replaces the catalogue's entry (`$2`) of a model (`$1`).
pub const LIST_MODEL: &str = "INSERT INTO catalogue (name, entry) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET entry = excluded.entry";

/// Finds all nodes that are not revoked: id, name, owner, time of registration.
pub const NODES: &str = "SELECT id, name, owner, registered_ms FROM nodes
    WHERE revoked_ms IS NULL ORDER BY registered_ms, id";

/// Finds a node by its name: the columns of [`NODES`], its secret, and when it was revoked.
pub const NODE_BY_NAME: &str =
    "SELECT id, name, owner, registered_ms, secret, revoked_ms FROM nodes WHERE name = $1";

/// Finds a node by its name: the columns of [`NODE_BY_NAME`], and since when its account has the scope `fleet`. The account
/// that is blocked has none.
pub const NODE_WITH_FLEET: &str = "SELECT id, name, owner, registered_ms, secret, revoked_ms,
        (SELECT fleet_ms FROM accounts WHERE accounts.id = nodes.owner AND accounts.blocked_ms IS NULL)
    FROM nodes WHERE name = $1";

/// Finds the ids of nodes that are admitted now (`$1`), and not beyond what a gateway admits (`$2`). Nodes of a blocked account
/// are left out.
pub const ADMITTED_NODES: &str =
    "SELECT id FROM nodes WHERE revoked_ms IS NULL AND admitted_until_ms BETWEEN $1 AND $2 AND NOT EXISTS (
        SELECT 1 FROM accounts WHERE accounts.id = nodes.owner AND accounts.blocked_ms IS NOT NULL)
    ORDER BY id";

/// Revokes a node for good and returns the columns of [`NODES`]; the first time of revocation stays.
pub const REVOKE_NODE: &str = "UPDATE nodes SET revoked_ms = COALESCE(revoked_ms, $2) WHERE id = $1
    RETURNING id, name, owner, registered_ms";

/// Gives the account of an e-mail address, or of an id, the scope `fleet` and returns its id; the first time stays.
pub const ALLOW_FLEET: &str =
    "UPDATE accounts SET fleet_ms = COALESCE(fleet_ms, $2) WHERE email = $1 OR id = $1 RETURNING id";

/// Stores a key. A key that is stored again after an unknown outcome is the same key; a revoked one stays revoked.
pub const ISSUE_KEY: &str = "INSERT INTO api_keys
        (hash, account, hint, issued_ms, id, name, scopes, expires_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (hash) DO NOTHING";

/// Finds a key: account, hint, id, scopes, expiry, when the account was proven, the account's weight, whether the key may
/// prioritise, whether it stores, its days of retention, when it was revoked, since when it is blocked, and since when its account is.
pub const KEY: &str =
    "SELECT api_keys.account, api_keys.hint, api_keys.id, api_keys.scopes, api_keys.expires_ms,
        accounts.proven_ms, COALESCE(accounts.weight, 1), api_keys.may_prioritise, api_keys.stores,
        api_keys.retention_days, api_keys.revoked_ms, api_keys.blocked_ms, accounts.blocked_ms
    FROM api_keys LEFT JOIN accounts ON accounts.id = api_keys.account
    WHERE api_keys.hash = $1";

/// Records that the account of an e-mail address, or of an id, is proven and returns its id; the first time stays.
pub const PROVE: &str =
    "UPDATE accounts SET proven_ms = COALESCE(proven_ms, $2) WHERE email = $1 OR id = $1 RETURNING id";

/// Sets the weight of the account of an e-mail address, or of an id, and returns its id.
pub const WEIGH: &str = "UPDATE accounts SET weight = $2 WHERE email = $1 OR id = $1 RETURNING id";

/// Sets whether a key that is not revoked may prioritise, and returns its account.
pub const ALLOW_PRIORITY: &str =
    "UPDATE api_keys SET may_prioritise = $2 WHERE hash = $1 AND revoked_ms IS NULL RETURNING account";

/// Revokes a key; the first time of revocation stays.
pub const REVOKE_KEY: &str = "UPDATE api_keys SET revoked_ms = $2 WHERE hash = $1 AND revoked_ms IS NULL";

/// The columns of a node as its owner sees it.
macro_rules! node_view_columns {
    () => {
        "id, name, owner, registered_ms, withdrawn_ms, version, models, private_ms, backstop_ms"
    };
}

/// The condition for a node by its name (`$1`) that an owner (`$2`, or every owner if it is null) may see.
macro_rules! node_of_owner {
    () => {
        " WHERE name = $1 AND revoked_ms IS NULL AND (CAST($2 AS TEXT) IS NULL OR owner = $2)"
    };
}

/// Finds a node as its owner sees it.
pub const NODE_VIEW: &str = concat!("SELECT ", node_view_columns!(), " FROM nodes", node_of_owner!());

/// Counts an owner's nodes.
pub const COUNT_NODES: &str = "SELECT COUNT(*) FROM nodes WHERE owner = $1";

/// Lets a node be drawn; a version (`$3`) replaces the one before.
pub const ENLIST_NODE: &str = concat!(
    "UPDATE nodes SET withdrawn_ms = NULL, version = COALESCE(CAST($3 AS TEXT), version)",
    node_of_owner!(),
    " RETURNING ",
    node_view_columns!()
);

/// Withdraws a node from draws (`$4`); a version (`$3`) replaces the one before.
pub const WITHDRAW_NODE: &str = concat!(
    "UPDATE nodes SET withdrawn_ms = COALESCE(withdrawn_ms, $4), version = COALESCE(CAST($3 AS TEXT), version)",
    node_of_owner!(),
    " RETURNING ",
    node_view_columns!()
);

/// Stores the models (`$3`) that a node may be drawn for.
pub const OFFER_MODELS: &str =
    concat!("UPDATE nodes SET models = $3", node_of_owner!(), " RETURNING ", node_view_columns!());

/// Lets a node serve only its owner's jobs and its groups' (`$3` is 1), since `$4`, or strangers' too; the first time stays.
pub const RESTRICT_NODE: &str = concat!(
    "UPDATE nodes SET private_ms = CASE WHEN CAST($3 AS BIGINT) = 1 THEN COALESCE(private_ms, $4) END",
    node_of_owner!(),
    " RETURNING ",
    node_view_columns!()
);

/// Finds what owners want of their nodes: node, since when it is withdrawn, models.
pub const NODE_WISHES: &str = "SELECT id, withdrawn_ms, models FROM nodes
    WHERE revoked_ms IS NULL AND (withdrawn_ms IS NOT NULL OR models IS NOT NULL) ORDER BY registered_ms, id";

/// The columns of a node's day.
#[macro_export]
macro_rules! node_day_columns {
    () => {
        "node, day, millipoints, tokens, valid, invalid, inconclusive, missed, neutral, up_first, up_second, up_third"
    };
}

/// Adds to a node's day what another part of it adds up to.
#[macro_export]
macro_rules! add_to_node_day {
    () => {
        " ON CONFLICT (node, day) DO UPDATE SET
            millipoints = node_days.millipoints + excluded.millipoints,
            tokens = node_days.tokens + excluded.tokens,
            valid = node_days.valid + excluded.valid,
            invalid = node_days.invalid + excluded.invalid,
            inconclusive = node_days.inconclusive + excluded.inconclusive,
            missed = node_days.missed + excluded.missed,
            neutral = node_days.neutral + excluded.neutral,
            up_first = node_days.up_first | excluded.up_first,
            up_second = node_days.up_second | excluded.up_second,
            up_third = node_days.up_third | excluded.up_third"
    };
}

/// Finds a node's (`$1`) days since `$2`.
pub const NODE_DAYS: &str =
    concat!("SELECT ", node_day_columns!(), " FROM node_days WHERE node = $1 AND day >= $2 ORDER BY day");

/// Finds at most `$2` nodes that were judged for a model since `$1` and may be drawn for it: node, model, time. The
/// condition by which the model is looked for in the node's JSON list is the database's own.
#[macro_export]
macro_rules! serving_nodes {
    ($is_offered:literal) => {
        concat!(
            "SELECT standings.node, standings.model, standings.updated_ms
            FROM standings JOIN nodes ON nodes.id = standings.node
            WHERE standings.updated_ms >= $1 AND nodes.revoked_ms IS NULL AND nodes.withdrawn_ms IS NULL
                AND nodes.private_ms IS NULL
                AND (nodes.models IS NULL OR ",
            $is_offered,
            ") ORDER BY standings.updated_ms DESC, standings.node, standings.model LIMIT $2"
        )
    };
}
/// Finds whether an account has the scope `fleet` and isn't blocked.
pub const IS_FLEET: &str =
    "SELECT 1 FROM accounts WHERE id = $1 AND fleet_ms IS NOT NULL AND blocked_ms IS NULL";

/// The columns of a key's view, in the order in which they are read.
macro_rules! key_columns {
    () => {
        "id, account, hint, name, scopes, issued_ms, expires_ms, revoked_ms, blocked_ms, successor, stores, retention_days"
    };
}

/// Finds at most `$2` keys of an account (`$1`), newest first.
pub const KEYS_OF_ACCOUNT: &str = concat!(
    "SELECT ",
    key_columns!(),
    " FROM api_keys WHERE account = $1 ORDER BY issued_ms DESC, id LIMIT $2"
);

/// Finds a key by its public id.
pub const KEY_BY_ID: &str = concat!("SELECT ", key_columns!(), " FROM api_keys WHERE id = $1");

/// Changes a key that isn't revoked: name (`$2`), scopes (`$3`), if `$4` is 1 the expiry (`$5`), whether its jobs are stored
/// (`$6`), if `$7` is 1 their retention (`$8`), and if `$9` is 1 the spend limit (`$10`).
pub const CHANGE_KEY: &str = concat!(
    "UPDATE api_keys SET name = COALESCE(CAST($2 AS TEXT), name), scopes = COALESCE(CAST($3 AS TEXT), scopes),
        expires_ms = CASE WHEN CAST($4 AS BIGINT) = 1 THEN CAST($5 AS BIGINT) ELSE expires_ms END,
        stores = COALESCE(CAST($6 AS SMALLINT), stores),
        retention_days = CASE WHEN CAST($7 AS BIGINT) = 1 THEN CAST($8 AS BIGINT) ELSE retention_days END,
        spend_limit = CASE WHEN CAST($9 AS BIGINT) = 1 THEN CAST($10 AS BIGINT) ELSE spend_limit END
    WHERE id = $1 AND revoked_ms IS NULL RETURNING ",
    key_columns!()
);

/// Revokes a key by its public id; the first time of revocation stays.
pub const END_KEY: &str = concat!(
    "UPDATE api_keys SET revoked_ms = COALESCE(revoked_ms, $2) WHERE id = $1 RETURNING ",
    key_columns!()
);

/// Blocks a key since `$2`, or unblocks it.
pub const BLOCK_KEY: &str =
    concat!("UPDATE api_keys SET blocked_ms = CAST($2 AS BIGINT) WHERE id = $1 RETURNING ", key_columns!());

/// Blocks an account since `$2`, or unblocks it.
pub const BLOCK_ACCOUNT: &str =
    "UPDATE accounts SET blocked_ms = CAST($2 AS BIGINT) WHERE id = $1 RETURNING id";

/// Finds an account by its address.
pub const ACCOUNT_OF: &str = "SELECT id FROM accounts WHERE email = $1";

/// Finds what an account (`$1`) used from day `$2` to day `$3`, at most `$4` rows.
pub const USAGE: &str =
    "SELECT day, key_id, model, requests, prompt_tokens, completion_tokens, cost FROM usage
    WHERE account = $1 AND day BETWEEN $2 AND $3 ORDER BY day, key_id, model LIMIT $4";
