//! Measures the tables for the planner while a ledger is young. The server's own upkeep does that once a minute, and
//! continues afterwards.
//!
//! A prepared statement keeps the plan that was right when it was prepared. On empty tables that plan is a sequential
//! scan, and the tables grow until the server analyses them for the first time: with 64 clients one gateway accepted
//! 3,600 jobs a second, then 1,800, then 1,200, and 8,400 once the tables had been measured (two cores, 2026-11-22).

use std::time::Duration;

use super::pool::Pool;
use super::values::get;
use infera_ledger::LedgerError;

/// The pauses between the measurements, within the first two minutes of a process; by their end the server's own
/// upkeep has run at least once.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(32),
];

/// Finds tables of which half is new since they were measured. A hundred rows are scanned in no time.
const GROWN: &str = "SELECT quote_ident(relname::text) FROM pg_stat_user_tables
    WHERE schemaname = current_schema() AND n_mod_since_analyze > 100 AND n_mod_since_analyze * 2 > n_live_tup";

/// Measures grown tables a few times; after each time every session makes its plans again.
pub(super) async fn learn(pool: Pool) {
    for pause in PAUSES {
        tokio::time::sleep(pause).await;
        if let Err(error) = measure(&pool).await {
            tracing::debug!(%error, "the tables could not be measured; the server does it within a minute");
        }
    }
}

async fn measure(pool: &Pool) -> Result<(), LedgerError> {
    for row in pool.query(GROWN, &[]).await? {
        let table: String = get(&row, 0)?;
        // A name cannot be a parameter; this name is the server's own, quoted by the server.
        pool.put(&format!("ANALYZE {table}"), &[]).await?;
    }
    Ok(())
}
