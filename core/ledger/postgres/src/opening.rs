//! A connection's settings, and migrating the schema before anything else is asked.

use std::time::Duration;

use tokio_postgres::config::TargetSessionAttrs;

use super::failure::Failure;
use super::pool::Pool;
use super::transport::known_words;
use infera_ledger::LedgerError;

/// The schema's versions in order; the first is version 1.
const MIGRATIONS: [&str; 19] = [
    include_str!("../migrations/0001_ledger.sql"),
    include_str!("../migrations/0002_fleet.sql"),
    include_str!("../migrations/0003_reason.sql"),
    include_str!("../migrations/0004_valid_node.sql"),
    include_str!("../migrations/0005_hashes.sql"),
    include_str!("../migrations/0006_taken.sql"),
    include_str!("../migrations/0007_stored.sql"),
    include_str!("../migrations/0008_probe.sql"),
    include_str!("../migrations/0009_fairness.sql"),
    include_str!("../migrations/0010_ends.sql"),
    include_str!("../migrations/0011_nodes.sql"),
    include_str!("../migrations/0012_keys.sql"),
    include_str!("../migrations/0013_mail.sql"),
    include_str!("../migrations/0014_own_nodes.sql"),
    include_str!("../migrations/0015_erasing.sql"),
    include_str!("../migrations/0016_money.sql"),
    include_str!("../migrations/0017_bounds.sql"),
    include_str!("../migrations/0018_choices.sql"),
    include_str!("../migrations/0019_bytes.sql"),
];

/// The limits that the server enforces on every connection. A statement of ours takes milliseconds: 10 s means an
/// outage. Locks are held for a commit: 5 s means a deadlock or an operator's session. A transaction of ours waits
/// only for the server: if it is idle for 10 s, its client is gone.
const SETTINGS: &str = "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=10s \
                        -c default_transaction_isolation=read\\ committed -c client_min_messages=warning";

/// How long connecting may take. A server that is slower counts as away; the pool waits no longer either.
const CONNECT_WAIT: Duration = Duration::from_secs(2);

/// How long sent bytes may go unacknowledged before the connection counts as broken.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// Raises the limits for a migration, which holds everything up and may take longer than a statement.
const MIGRATION_WAIT: &str = "SET LOCAL statement_timeout = '10min'; SET LOCAL lock_timeout = '10min'";

/// Returns how connections are made: to a writable server, under [`SETTINGS`].
pub(super) fn connections(url: &str) -> Result<tokio_postgres::Config, LedgerError> {
    // The parser's error quotes no part of the URL, which holds a password.
    let mut connections: tokio_postgres::Config = known_words(url)
        .parse()
        .map_err(|error| LedgerError::Refused(format!("the database's URL cannot be parsed: {error}")))?;
    let given = connections.get_options().unwrap_or_default();
    let options = format!("{SETTINGS} {given}");
    connections
        .options(options)
        .connect_timeout(CONNECT_WAIT)
        .tcp_user_timeout(UNACKNOWLEDGED)
        .keepalives_idle(UNACKNOWLEDGED)
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    if connections.get_application_name().is_none() {
        connections.application_name("infera");
    }
    Ok(connections)
}

/// Draws the share of the totals' rows that this process adds to. Of sixty-four shares two processes seldom draw the
/// same, and few must be summed.
pub(super) fn share() -> Result<i16, LedgerError> {
    let mut byte = [0; 1];
    getrandom::fill(&mut byte).map_err(|error| {
        LedgerError::Unavailable(format!("no randomness from the operating system: {error}"))
    })?;
    Ok(i16::from(byte[0] % 64))
}

/// Migrates the schema in one transaction, so that an interrupted migration leaves nothing. Of several processes, one
/// does it under an advisory lock, and the others find it done.
pub(super) async fn migrate(pool: &Pool) -> Result<(), LedgerError> {
    let mut connection = pool.lend().await.map_err(|failure| failure.error)?;
    let migrated = async {
        let transaction = connection.transaction().await?;
        transaction.batch_execute(MIGRATION_WAIT).await?;
        // The class is ours alone; the schema's hash distinguishes ledgers in one database.
        transaction
            .batch_execute("SELECT pg_advisory_xact_lock(1229866573, hashtext(current_schema()))")
            .await?;
        transaction
            .batch_execute("CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT NOT NULL PRIMARY KEY)")
            .await?;
        let row = transaction.query_one("SELECT COALESCE(MAX(version), 0) FROM schema_versions", &[]).await?;
        let stored: i64 = row.try_get(0)?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        if stored > known {
            return Err(LedgerError::Refused(format!(
                "the database was written by a newer program (schema {stored}, this one knows {known}); run that one"
            ))
            .into());
        }
        for (version, migration) in (1_i64..).zip(MIGRATIONS).filter(|(version, _)| *version > stored) {
            transaction.batch_execute(migration).await?;
            transaction.execute("INSERT INTO schema_versions (version) VALUES ($1)", &[&version]).await?;
            tracing::info!(version, "the ledger's schema was migrated");
        }
        transaction.commit().await.map_err(Failure::of_commit)
    };
    migrated.await.map_err(|failure: Failure| match failure.error {
        LedgerError::Damaged(text) => LedgerError::Damaged(format!(
            "the tables in this database are not a ledger's ({text}); give it a database or a schema of its own"
        )),
        other => other,
    })
}

/// Warns if the server answers before a commit is on its disk, which breaks the ledger's promise; only its operator
/// can know whether that is intended.
pub(super) async fn check_durability(pool: &Pool) -> Result<(), LedgerError> {
    let sql = "SELECT name || '=' || setting FROM pg_settings
               WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes') AND setting = 'off'";
    for row in pool.query(sql, &[]).await? {
        let setting: String = super::values::get(&row, 0)?;
        tracing::warn!(
            setting,
            "the database may lose commits when its machine fails; use it for tests only"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use infera_ledger::job_state;

    use super::*;

    /// Migrations are history and write the states' numbers out; statements take them from [`job_state`].
    #[test]
    fn partial_indexes_say_the_numbers_of_the_states() {
        let indexes = [
            concat!("jobs_unconfirmed ON jobs (unconfirmed_ms) WHERE state = ", job_state!(queued), " AND"),
            concat!("account COLLATE \"C\", accepted_ms) WHERE state = ", job_state!(queued), ";"),
            concat!("jobs_running ON jobs (accepted_ms, owner) WHERE state = ", job_state!(running), ";"),
            concat!("jobs_live_deadline ON jobs (deadline_ms) WHERE state < ", job_state!(ended), ";"),
        ];
        for index in indexes {
            assert!(MIGRATIONS.iter().any(|migration| migration.contains(index)), "{index}");
        }
    }
}
