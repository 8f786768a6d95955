//! Checks that the sums per day that a migration makes are the projector's.

use infera_ledger::{JobOwner as _, Posting, PostingEntry, Standing as _, Verdict};
use infera_types::ids::{AssignmentId, JobId, ModelName, NodeId};
use infera_types::time::Timestamp;

use super::schema::{Schema, connect, server};

const NODES: &str = include_str!("../../migrations/0011_nodes.sql");

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

/// A ledger of before has no sums per day. The migration makes those of what was folded, and the projector adds the rest.
#[tokio::test]
async fn days_of_an_older_ledger_are_what_the_projector_would_have_made() {
    let schema = Schema::make().await;
    let ledger = schema.ledger().await;
    for number in 0..120 {
        let posting = posting(number);
        ledger.post(posting.job_id, std::slice::from_ref(&posting), false).await.expect("post");
    }
    assert_eq!(ledger.project(100, Timestamp::from_millis(0)).await.expect("project"), 100);
    let client = connect(&schema.within(&server())).await;
    let days = async || {
        let rows = client.query("SELECT node_days::text FROM node_days ORDER BY node, day", &[]).await;
        rows.expect("rows").iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    };
    let folded = days().await;
    assert!(folded.len() >= 4, "two nodes, two days at least");
    client
        .batch_execute(
            "DROP TABLE node_days; DROP INDEX nodes_owner; ALTER TABLE nodes DROP COLUMN withdrawn_ms,
             DROP COLUMN version, DROP COLUMN models",
        )
        .await
        .expect("as before the migration");
    client.batch_execute(NODES).await.expect("the migration");
    assert_eq!(days().await, folded);
}
