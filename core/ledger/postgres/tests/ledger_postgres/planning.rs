//! Tests the plans for growing tables.

use std::time::Duration;

use infera_ledger::JobIntake as _;
use infera_types::ids::AccountId;
use tokio::task::JoinSet;

use super::new_job;
use super::schema::{Schema, connect, server};

/// We measure a young ledger's tables as they grow, before the server's upkeep, which runs each minute.
#[tokio::test]
async fn tables_that_grow_are_measured() {
    let schema = Schema::make().await;
    let ledger = schema.ledger().await;
    // The server's upkeep runs once a minute, at any moment. If it measured the table first, nothing would be left to
    // us and the test would wait in vain.
    let upkeep = "ALTER TABLE jobs SET (autovacuum_enabled = off)";
    connect(&schema.within(&server())).await.batch_execute(upkeep).await.expect(upkeep);
    let account = AccountId::fresh();
    let mut callers = JoinSet::new();
    for _ in 0..400 {
        let (ledger, job) = (ledger.clone(), new_job(&account));
        callers.spawn(async move { ledger.accept(job).await.expect("accept") });
    }
    callers.join_all().await;
    let measured = "SELECT COUNT(*) FROM pg_stat_user_tables WHERE schemaname = current_schema()
        AND relname = 'jobs' AND last_analyze IS NOT NULL";
    // Six measurements within 63 s.
    for _ in 0..120 {
        if schema.number(measured).await == 1 {
            let known = "SELECT reltuples::bigint FROM pg_class WHERE oid = 'jobs'::regclass";
            assert!(schema.number(known).await > 0, "the planner knows that there are rows");
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("nobody measured the table of jobs");
}
