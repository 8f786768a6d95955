//! The schema's versions, and migrating an older ledger. It does not know what the tables mean.

use rusqlite::Connection;

/// The schema's versions in order; the first is version 1.
const MIGRATIONS: [&str; 20] = [
    include_str!("../migrations/0001_ledger.sql"),
    include_str!("../migrations/0002_idempotency_job.sql"),
    include_str!("../migrations/0003_fleet.sql"),
    include_str!("../migrations/0004_reason.sql"),
    include_str!("../migrations/0005_valid_node.sql"),
    include_str!("../migrations/0006_hashes.sql"),
    include_str!("../migrations/0007_taken.sql"),
    include_str!("../migrations/0008_stored.sql"),
    include_str!("../migrations/0009_probe.sql"),
    include_str!("../migrations/0010_fairness.sql"),
    include_str!("../migrations/0011_ends.sql"),
    include_str!("../migrations/0012_nodes.sql"),
    include_str!("../migrations/0013_keys.sql"),
    include_str!("../migrations/0014_mail.sql"),
    include_str!("../migrations/0015_own_nodes.sql"),
    include_str!("../migrations/0016_erasing.sql"),
    include_str!("../migrations/0017_money.sql"),
    include_str!("../migrations/0018_bounds.sql"),
    include_str!("../migrations/0019_choices.sql"),
    include_str!("../migrations/0020_bytes.sql"),
];

/// How many of the schema's versions this program knows.
pub(super) const KNOWN_VERSIONS: usize = MIGRATIONS.len();

/// Returns the version of the stored schema.
pub(super) fn stored_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT COALESCE(MAX(version), 0) FROM schema_versions", [], |row| row.get(0))
}

/// Migrates a ledger that passed its checks.
pub(super) fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    let stored = stored_version(connection)?;
    for (version, migration) in (1_i64..).zip(MIGRATIONS).filter(|(version, _)| *version > stored) {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(migration)?;
        transaction.execute("INSERT INTO schema_versions (version) VALUES (?1)", [version])?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use infera_ledger::job_state;

    use super::*;

    /// Migrations are history and write the states' numbers out; statements take them from [`job_state`].
    #[test]
    fn statements_that_name_states_use_the_partial_indexes() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE schema_versions (version BIGINT NOT NULL PRIMARY KEY)")
            .unwrap();
        migrate(&connection).unwrap();
        for (condition, index) in [
            (concat!("state = ", job_state!(queued)), "jobs_queued"),
            (concat!("state = ", job_state!(queued), " AND unconfirmed_ms > 5"), "jobs_unconfirmed"),
            (concat!("state = ", job_state!(running)), "jobs_running"),
            (concat!("state < ", job_state!(ended), " AND deadline_ms <= 5"), "jobs_live_deadline"),
        ] {
            let sql = format!("EXPLAIN QUERY PLAN SELECT COUNT(*) FROM jobs WHERE {condition}");
            let plan: String = connection.query_row(&sql, [], |row| row.get("detail")).unwrap();
            assert!(plan.contains(index), "{condition}: {plan}");
        }
    }

    /// However many jobs wait, each question about them begins at its place in the index and needs no sorting.
    #[test]
    fn questions_about_waiting_jobs_are_answered_by_one_index() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE schema_versions (version BIGINT NOT NULL PRIMARY KEY)")
            .unwrap();
        migrate(&connection).unwrap();
        for (columns, condition, place) in [
            ("model", "model > 'm' ORDER BY model", "model>?"),
            ("1", "model = 'm' AND held = 0 AND lane = 1", "model=? AND held=? AND lane=?"),
            (
                "1",
                "model = 'm' AND held = 0 AND lane = 0 AND share = 's'",
                "model=? AND held=? AND lane=? AND share=?",
            ),
            (
                "share, tier, account",
                "model = 'm' AND held = 1 AND lane = 1 AND (share, tier, account) > ('s', 1, 'a')
                 ORDER BY share, tier, account",
                "model=? AND held=? AND lane=? AND (share,tier,account)>(?,?,?)",
            ),
            (
                "id",
                "model = 'm' AND held = 1 AND lane = 1 AND share = 's' AND tier = 1 AND account = 'a'
                 AND deadline_ms > 5 ORDER BY accepted_ms",
                "model=? AND held=? AND lane=? AND share=? AND tier=? AND account=?",
            ),
        ] {
            let state = job_state!(queued);
            let sql = format!(
                "EXPLAIN QUERY PLAN SELECT {columns} FROM jobs WHERE state = {state} AND {condition} LIMIT 8"
            );
            let mut statement = connection.prepare(&sql).unwrap();
            let steps = statement.query_map([], |row| row.get::<_, String>("detail")).unwrap();
            let plan = steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ");
            assert!(plan.contains(&format!("jobs_queued ({place})")), "{condition}: {plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{condition}: {plan}");
        }
    }
}
