//! Opens a ledger of an earlier version.

use infera_ledger::{
    Accepted, AccountBook as _, Feeding as _, FirstKey, JobIntake as _, JobOwner as _, JobReader as _,
    NewJob, Room,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{AccountId, Digest};
use infera_types::job::{End, FailureReason, Settlement};

use super::{new_job, now, place};

/// Takes a ledger back to the third version of its schema.
const TO_VERSION_3: &str = "DROP INDEX settlements_poison; ALTER TABLE settlements DROP COLUMN reason;
                 DROP INDEX postings_valid; ALTER TABLE postings DROP COLUMN valid_node;
                 ALTER TABLE settlements DROP COLUMN hash; ALTER TABLE groups DROP COLUMN hash;
                 ALTER TABLE jobs DROP COLUMN request_hash; ALTER TABLE leases DROP COLUMN taken_ms;
                 ALTER TABLE waiting DROP COLUMN bytes; DELETE FROM totals WHERE name = 'body_bytes'; DROP TABLE probe;
                 DROP INDEX jobs_queued; CREATE INDEX jobs_queued ON jobs (model, accepted_ms) WHERE state = 0;
                 ALTER TABLE jobs DROP COLUMN lane; ALTER TABLE jobs DROP COLUMN tier;
                 ALTER TABLE jobs DROP COLUMN share; ALTER TABLE jobs DROP COLUMN share_weight;
                 ALTER TABLE jobs DROP COLUMN held; ALTER TABLE jobs DROP COLUMN prompt_estimate;
                 ALTER TABLE jobs DROP COLUMN charged; ALTER TABLE waiting DROP COLUMN usual_tokens;
                 ALTER TABLE waiting DROP COLUMN excess_tokens; ALTER TABLE accounts DROP COLUMN proven_ms;
                 ALTER TABLE accounts DROP COLUMN weight; ALTER TABLE api_keys DROP COLUMN may_prioritise;
                 DROP TABLE ends; DROP TABLE job_lists; ALTER TABLE jobs DROP COLUMN ended_as;
                 DROP INDEX api_keys_id; DROP INDEX api_keys_account; DROP TABLE usage;
                 ALTER TABLE api_keys DROP COLUMN id; ALTER TABLE api_keys DROP COLUMN name;
                 ALTER TABLE api_keys DROP COLUMN scopes; ALTER TABLE api_keys DROP COLUMN expires_ms;
                 ALTER TABLE api_keys DROP COLUMN blocked_ms; ALTER TABLE api_keys DROP COLUMN successor;
                 ALTER TABLE accounts DROP COLUMN blocked_ms; ALTER TABLE jobs DROP COLUMN key_id;
                 DROP INDEX nodes_owner; ALTER TABLE nodes DROP COLUMN withdrawn_ms;
                 ALTER TABLE nodes DROP COLUMN version; ALTER TABLE nodes DROP COLUMN models;
                 DROP TABLE node_days;
                 ALTER TABLE accounts DROP COLUMN address_ms; DROP TABLE mails; DROP TABLE mail_codes;
                 DROP TABLE account_events;
                 ALTER TABLE nodes DROP COLUMN private_ms; ALTER TABLE nodes DROP COLUMN backstop_ms;
                 ALTER TABLE api_keys DROP COLUMN pool; DROP TABLE node_groups; DROP TABLE node_group_nodes;
                 DROP TABLE node_group_accounts; DROP TABLE erasures; DROP TABLE account_erasures;
                 DROP INDEX segments_replaced; DROP INDEX segments_expiring; DROP INDEX records_unclaimed;
                 ALTER TABLE api_keys DROP COLUMN stores; ALTER TABLE api_keys DROP COLUMN retention_days;
                 ALTER TABLE jobs DROP COLUMN erase_after_ms; ALTER TABLE jobs DROP COLUMN retention_days;
                 ALTER TABLE jobs DROP COLUMN erased_ms; ALTER TABLE records DROP COLUMN retention_days;
                 ALTER TABLE segments DROP COLUMN retention_days; ALTER TABLE segments DROP COLUMN expires_ms;
                 ALTER TABLE segments DROP COLUMN removed_ms; ALTER TABLE segments DROP COLUMN rewrites;
                 ALTER TABLE segments DROP COLUMN old_key;
                 CREATE INDEX records_unclaimed ON records (settled_ms, job_id) WHERE segment IS NULL;
                 DELETE FROM schema_versions WHERE version >= 4";

/// In a ledger from before failures had a column of their own, poison is found as in any other.
#[tokio::test]
async fn an_older_ledgers_poison_is_found() {
    let (_folder, path) = place();
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    let account = AccountId::fresh();
    let first = FirstKey { hash: Digest::of(b"key"), hint: "abcd".to_owned() };
    ledger.sign_up("a@example.org", Some(first), now()).await.expect("an account");
    let waits = new_job(&account);
    ledger.accept(waits.clone()).await.expect("accept");
    let mut jobs = Vec::new();
    for reason in [FailureReason::NoConsensus, FailureReason::Poison] {
        let job = new_job(&account);
        ledger.accept(job.clone()).await.expect("accept");
        let NewJob { id: job_id, model, gateway, .. } = job;
        let end = End::Failed { reason, message: "\0".to_owned() };
        let settlement = Settlement {
            job_id,
            account: account.clone(),
            model,
            gateway,
            end,
            group: None,
            settled_ms: now(),
        };
        ledger.settle(&settlement).await.expect("settle");
        jobs.push(job_id);
    }
    drop(ledger);
    rusqlite::Connection::open(&path)
        .expect("a database")
        .execute_batch(TO_VERSION_3)
        .expect("an older schema");
    let ledger = SqliteLedger::open(&path).expect("it opens again");
    let found = ledger.poisoned(None, 9).await.expect("poison");
    assert_eq!(found.iter().map(|job| job.id).collect::<Vec<_>>(), jobs[1..]);
    // Jobs of before count as offered, and accounts of before as proven.
    let waiting = ledger.waiting(9).await.expect("what waits");
    assert_eq!(waiting.iter().map(|kind| (kind.offered, kind.held)).collect::<Vec<_>>(), [(1, 0)]);
    let key = ledger.key(Digest::of(b"key")).await.expect("the key").expect("it is there");
    assert!(key.proven && !key.may_prioritise && key.weight == 1, "{key:?}");
    ledger.cancel(&account, waits.id, now()).await.expect("cancel");
    // The migration counted its bodies.
    let full = NewJob { room: Room { account_max_bytes: 4_000, ..Room::UNBOUNDED }, ..new_job(&account) };
    let accepted = ledger.accept(full).await.expect("accept");
    assert_eq!(accepted, Accepted::NoRoomForAccount { stored: 3_072 });
    let full =
        NewJob { room: Room { all_max_bytes: 4_000, ..Room::UNBOUNDED }, ..new_job(&AccountId::fresh()) };
    assert_eq!(ledger.accept(full).await.expect("accept"), Accepted::NoRoom { stored: 3_072 });
}
