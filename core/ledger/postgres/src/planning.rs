//! Tells the planner how large the tables are while a ledger is young. Not the server's own upkeep, which does that once a
//! minute and goes on with it.
//!
//! A prepared statement keeps the plan that was right when it was made. On empty tables that is to read them whole, and
//! until the server looks for the first time the tables grow: with 64 clients one gateway accepted 3,600 jobs a second, then
//! 1,800, then 1,200, and 8,400 once the tables had been measured (two cores, 2026-11-22).

use std::time::Duration;

use super::pool::Pool;
use super::values::get;
use infera_ledger::LedgerError;

/// When it is looked, after the one before: within the first two minutes of a process, in which the server's own
/// upkeep has come at least once.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(32),
];

/// Tables of which half is new since they were measured. A hundred rows are read whole in no time.
const GROWN: &str = "SELECT quote_ident(relname::text) FROM pg_stat_user_tables
    WHERE schemaname = current_schema() AND n_mod_since_analyze > 100 AND n_mod_since_analyze * 2 > n_live_tup";

/// Measures what has grown, a few times; after each, every session makes its plans again.
pub(super) async fn learn(pool: Pool) {
    for pause in PAUSES {
        tokio::time::sleep(pause).await;
        if let Err(error) = measure(&pool).await {
            tracing::debug!(%error, "the tables' sizes can't be measured now; the server does it within a minute");
        }
    }
}

async fn measure(pool: &Pool) -> Result<(), LedgerError> {
    for row in pool.query(GROWN, &[]).await? {
        let table: String = get(&row, 0)?;
        // A name can be no parameter; this one is the server's own, quoted by it.
        pool.put(&format!("ANALYZE {table}"), &[]).await?;
    }
    Ok(())
}
