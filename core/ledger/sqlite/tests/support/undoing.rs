//! Takes a ledger's schema back to an earlier version, so that opening it again migrates what is in it.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;

use rusqlite::Connection;

#[path = "unpacking.rs"]
mod unpacking;

/// The versions, newest first, and the statements that undo each one. A new migration has a line here.
const UNDOING: [(u32, &str); 17] = [
    (
        20,
        "DROP INDEX postings_job_node; DROP INDEX records_ungrouped;
         CREATE UNIQUE INDEX postings_valid ON postings (job_id, valid_node) WHERE valid_node IS NOT NULL;
         CREATE INDEX postings_job ON postings (job_id)",
    ),
    (
        19,
        "ALTER TABLE jobs DROP COLUMN choice; ALTER TABLE jobs DROP COLUMN choices;
         ALTER TABLE jobs DROP COLUMN shows_tokens",
    ),
    (
        18,
        "ALTER TABLE mails DROP COLUMN is_void; DROP TRIGGER nodes_noted; DROP TRIGGER node_groups_insert_noted;
         DROP TRIGGER node_groups_delete_noted; DROP TRIGGER node_group_nodes_insert_noted;
         DROP TRIGGER node_group_nodes_update_noted; DROP TRIGGER node_group_nodes_delete_noted;
         DROP TRIGGER node_group_accounts_insert_noted; DROP TRIGGER node_group_accounts_delete_noted;
         DROP TABLE pools_version",
    ),
    (
        17,
        "DROP TABLE prices; DROP TABLE charges; DROP TABLE spending; ALTER TABLE usage DROP COLUMN cost;
         ALTER TABLE accounts DROP COLUMN spend_limit; ALTER TABLE accounts DROP COLUMN pays;
         ALTER TABLE api_keys DROP COLUMN spend_limit; ALTER TABLE api_keys DROP COLUMN purse",
    ),
    (
        16,
        "DROP TABLE erasures; DROP TABLE account_erasures; DROP INDEX segments_replaced;
         DROP INDEX segments_expiring; DROP INDEX records_unclaimed;
         ALTER TABLE api_keys DROP COLUMN stores; ALTER TABLE api_keys DROP COLUMN retention_days;
         ALTER TABLE jobs DROP COLUMN erase_after_ms; ALTER TABLE jobs DROP COLUMN retention_days;
         ALTER TABLE jobs DROP COLUMN erased_ms; ALTER TABLE records DROP COLUMN retention_days;
         ALTER TABLE segments DROP COLUMN retention_days; ALTER TABLE segments DROP COLUMN expires_ms;
         ALTER TABLE segments DROP COLUMN removed_ms; ALTER TABLE segments DROP COLUMN rewrites;
         ALTER TABLE segments DROP COLUMN old_key;
         CREATE INDEX records_unclaimed ON records (settled_ms, job_id) WHERE segment IS NULL",
    ),
    (
        15,
        "ALTER TABLE nodes DROP COLUMN private_ms; ALTER TABLE nodes DROP COLUMN backstop_ms;
         ALTER TABLE api_keys DROP COLUMN pool; DROP TABLE node_groups; DROP TABLE node_group_nodes;
         DROP TABLE node_group_accounts",
    ),
    (
        14,
        "ALTER TABLE accounts DROP COLUMN address_ms; DROP TABLE mails; DROP TABLE mail_codes;
         DROP TABLE account_events",
    ),
    (
        13,
        "DROP INDEX api_keys_id; DROP INDEX api_keys_account; DROP TABLE usage;
         ALTER TABLE api_keys DROP COLUMN id; ALTER TABLE api_keys DROP COLUMN name;
         ALTER TABLE api_keys DROP COLUMN scopes; ALTER TABLE api_keys DROP COLUMN expires_ms;
         ALTER TABLE api_keys DROP COLUMN blocked_ms; ALTER TABLE api_keys DROP COLUMN successor;
         ALTER TABLE accounts DROP COLUMN blocked_ms; ALTER TABLE jobs DROP COLUMN key_id",
    ),
    (
        12,
        "DROP TABLE node_days; DROP INDEX nodes_owner; ALTER TABLE nodes DROP COLUMN withdrawn_ms;
         ALTER TABLE nodes DROP COLUMN version; ALTER TABLE nodes DROP COLUMN models",
    ),
    (11, "DROP TABLE ends; DROP TABLE job_lists; ALTER TABLE jobs DROP COLUMN ended_as"),
    (
        10,
        "DROP INDEX jobs_queued; CREATE INDEX jobs_queued ON jobs (model, accepted_ms) WHERE state = 0;
         ALTER TABLE jobs DROP COLUMN lane; ALTER TABLE jobs DROP COLUMN tier;
         ALTER TABLE jobs DROP COLUMN share; ALTER TABLE jobs DROP COLUMN share_weight;
         ALTER TABLE jobs DROP COLUMN held; ALTER TABLE jobs DROP COLUMN prompt_estimate;
         ALTER TABLE jobs DROP COLUMN charged; ALTER TABLE waiting DROP COLUMN usual_tokens;
         ALTER TABLE waiting DROP COLUMN excess_tokens; ALTER TABLE accounts DROP COLUMN proven_ms;
         ALTER TABLE accounts DROP COLUMN weight; ALTER TABLE api_keys DROP COLUMN may_prioritise",
    ),
    (9, "DROP TABLE probe"),
    (8, "ALTER TABLE waiting DROP COLUMN bytes; DELETE FROM totals WHERE name = 'body_bytes'"),
    (7, "ALTER TABLE leases DROP COLUMN taken_ms"),
    (
        6,
        "ALTER TABLE settlements DROP COLUMN hash; ALTER TABLE groups DROP COLUMN hash;
         ALTER TABLE jobs DROP COLUMN request_hash",
    ),
    (5, "DROP INDEX postings_valid; ALTER TABLE postings DROP COLUMN valid_node"),
    (4, "DROP INDEX settlements_poison; ALTER TABLE settlements DROP COLUMN reason"),
];

/// Takes the ledger in the file `path`, which no program has open, back to a version of its schema.
pub(crate) fn take_back(path: &Path, version: u32) {
    let connection = Connection::open(path).expect("a database");
    let known: u32 = connection
        .query_row("SELECT MAX(version) FROM schema_versions", [], |row| row.get(0))
        .expect("a version");
    assert_eq!(known, UNDOING[0].0, "the newest migration has no line that undoes it");
    unpacking::unpack(&connection);
    for (undone, statements) in UNDOING {
        if undone > version {
            connection.execute_batch(statements).expect("an older schema");
        }
    }
    connection
        .execute("DELETE FROM schema_versions WHERE version > $1", [version])
        .expect("an older version");
}
