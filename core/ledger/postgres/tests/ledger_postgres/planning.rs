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

/// However many jobs have ended, each question about waiting jobs begins at its place in the index of those that wait.
#[tokio::test]
async fn questions_about_waiting_jobs_are_answered_by_one_index() {
    let schema = Schema::make().await;
    let _ledger = schema.ledger().await;
    let client = connect(&schema.within(&server())).await;
    let rows = "INSERT INTO jobs (id, account, model, quorum, replicas, gateway, synchronous, accepted_ms, deadline_ms,
            epoch, state, handouts, is_handed_out, lost_handouts, misses, share, held)
        SELECT decode(md5(n::text), 'hex'), 'acct' || n % 700, 'm', 2, 3, 'g', 0, n, n, 1,
            CASE WHEN n % 50 = 0 THEN 0 ELSE 2 END, 0, 0, 0, '[]', 's' || n % 700, n % 2
        FROM generate_series(1, 40000) AS n";
    client.batch_execute(rows).await.expect("rows");
    client.batch_execute("ANALYZE jobs").await.expect("measured");
    for (columns, condition) in [
        ("model", "model > 'a' ORDER BY model"),
        ("1", "model = 'm' AND held = 0 AND lane = 0 AND share = 's50'"),
        (
            "share, tier, account",
            "model = 'm' AND held = 1 AND lane = 0 AND (share, tier, account COLLATE \"C\") > ('s5', 1::smallint, 'acct5')
            ORDER BY share, tier, account COLLATE \"C\"",
        ),
        (
            "id",
            "model = 'm' AND held = 1 AND lane = 0 AND share = 's50' AND tier = 1
                AND account COLLATE \"C\" = 'acct50' AND deadline_ms > 5 ORDER BY accepted_ms",
        ),
    ] {
        let sql = format!("EXPLAIN SELECT {columns} FROM jobs WHERE state = 0 AND {condition} LIMIT 8");
        let rows = client.query(&sql, &[]).await.expect("a plan");
        let plan = rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n");
        assert!(plan.contains("jobs_queued"), "{condition}:\n{plan}");
        assert!(!plan.contains("Seq Scan") && !plan.contains("Sort"), "{condition}:\n{plan}");
    }
}
