//! Checks that migrations keep what older ledgers know.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use infera_ledger::{JobOwner as _, Posting, PostingEntry, Standing as _, Verdict};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{AssignmentId, JobId, ModelName, NodeId};
use infera_types::time::Timestamp;
use rusqlite::Connection;

#[path = "support/unpacking.rs"]
mod unpacking;

const NODES: &str = include_str!("../migrations/0012_nodes.sql");

fn posting(number: u64) -> Posting {
    let verdicts = [
        Verdict::Valid,
        Verdict::Valid,
        Verdict::Missed,
        Verdict::Invalid,
        Verdict::Neutral,
        Verdict::Inconclusive,
    ];
    let verdict = verdicts[usize::try_from(number).expect("small") % verdicts.len()];
    let entry = PostingEntry::Verdict {
        node: NodeId::new(format!("n{}", number % 2)),
        model: ModelName::new("a \"model\""),
        verdict,
        millipoints: if verdict == Verdict::Valid { 500 } else { 0 },
        elapsed_ms: 250,
        tokens: 3,
        on_time: true,
        numbers_outside: false,
        is_for_chosen_nodes: false,
    };
    Posting {
        id: format!("verdict:{}", AssignmentId::new()),
        job_id: JobId::new(),
        // Three postings an hour, over more than a day.
        posted_ms: Timestamp::from_millis(1_790_000_000_000 + number * 1_200_000),
        entry,
    }
}

fn days(connection: &Connection) -> Vec<Vec<String>> {
    let mut statement = connection.prepare("SELECT * FROM node_days ORDER BY node, day").expect("a table");
    let columns = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| {
        (0..columns).map(|index| row.get_ref(index).map(|value| format!("{value:?}"))).collect()
    };
    statement.query_map([], row).expect("rows").collect::<Result<_, _>>().expect("readable rows")
}

/// A ledger of before has no sums per day. The migration makes those of what was folded, and the projector adds the rest.
#[tokio::test]
async fn days_of_an_older_ledger_are_what_the_projector_would_have_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    for number in 0..120 {
        let posting = posting(number);
        ledger.post(posting.job_id, std::slice::from_ref(&posting), false).await.expect("post");
    }
    assert_eq!(ledger.project(100, Timestamp::from_millis(0)).await.expect("project"), 100);
    drop(ledger);
    let connection = Connection::open(&path).expect("the file");
    unpacking::unpack(&connection);
    let folded = days(&connection);
    assert!(folded.len() >= 4, "two nodes, two days at least");
    connection
        .execute_batch(
            "DROP TABLE node_days; DROP INDEX nodes_owner; ALTER TABLE nodes DROP COLUMN withdrawn_ms;
             ALTER TABLE nodes DROP COLUMN version; ALTER TABLE nodes DROP COLUMN models;",
        )
        .expect("as before the migration");
    connection.execute_batch(NODES).expect("the migration");
    assert_eq!(days(&connection), folded);
}
