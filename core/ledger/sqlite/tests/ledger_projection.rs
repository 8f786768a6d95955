//! Compares what the projector stores with folding the postings one by one.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::Arc;

use infera_ledger::fold::{fold_balance, fold_standing};
use infera_ledger::{Balance, JobOwner as _, NodeStanding, Posting, PostingEntry, Standing as _, Verdict};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{JobId, ModelName, NodeId};
use infera_types::time::Timestamp;
use proptest::prelude::*;

const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;

fn posting(verdict: Verdict, posted_ms: u64, on_time: bool, tokens: u64) -> Posting {
    let entry = PostingEntry::Verdict {
        node: NodeId::new("n1"),
        model: ModelName::new("m"),
        verdict,
        millipoints: if verdict == Verdict::Valid { 1_500 } else { 0 },
        elapsed_ms: 2_000,
        tokens,
        on_time,
        numbers_outside: false,
        is_for_chosen_nodes: false,
    };
    let job_id = JobId::from_bytes([1; 16]);
    Posting { id: "verdict:1".to_owned(), job_id, posted_ms: Timestamp::from_millis(posted_ms), entry }
}

fn any_posting() -> impl Strategy<Value = Posting> {
    let verdict = prop_oneof![
        Just(Verdict::Valid),
        Just(Verdict::Invalid),
        Just(Verdict::Missed),
        Just(Verdict::Neutral),
        Just(Verdict::Inconclusive),
    ];
    (verdict, 0..8 * WEEK_MS, any::<bool>(), 0..5_000_u64)
        .prop_map(|(verdict, posted_ms, on_time, tokens)| posting(verdict, posted_ms, on_time, tokens))
}

/// Returns everything that the projector stores after folding `postings` in batches of these sizes in turn.
async fn fold_in_batches(
    postings: &[Posting],
    sizes: &[u32],
) -> (Vec<NodeStanding>, Balance, Vec<(String, Balance)>) {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger: Arc<SqliteLedger> =
        SqliteLedger::open(&folder.path().join("ledger.sqlite")).expect("a ledger");
    let now = Timestamp::from_millis(0);
    let mut sizes = sizes.iter().cycle();
    // Folding goes on while postings come.
    for part in postings.chunks(7) {
        ledger.post(JobId::from_bytes([1; 16]), part, false).await.expect("post");
        let size = *sizes.next().expect("a cycle");
        ledger.project(size, now).await.expect("project");
    }
    while ledger.project(*sizes.next().expect("a cycle"), now).await.expect("project") > 0 {}
    let standings = ledger.standings().await.expect("standings");
    let balance = ledger.balance("n1").await.expect("balance");
    (standings, balance, ledger.replay().await.expect("replay"))
}

proptest! {
    // Each case opens three databases.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    /// However the postings are split into batches, the standings are the same to the last bit, and the balances are
    /// those of a replay.
    #[test]
    fn batches_do_not_matter(
        postings in prop::collection::vec(any_posting(), 1..60),
        sizes in prop::collection::vec(1..20_u32, 1..5),
    ) {
        let postings: Vec<Posting> = postings
            .into_iter()
            .enumerate()
            .map(|(number, posting)| {
                // Each posting has a job of its own, because a node has one VALID for a job.
                let job_id = JobId::from_bytes((number as u128).to_be_bytes());
                Posting { id: format!("verdict:{number}"), job_id, ..posting }
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut expected = None;
        let mut balance = Balance::default();
        for posting in &postings {
            fold_standing(&mut expected, posting);
            fold_balance(&mut balance, &posting.entry);
        }
        let all = u32::try_from(postings.len()).expect("few");
        for sizes in [&sizes[..], &[1], &[all]] {
            let (standings, folded, replayed) = runtime.block_on(fold_in_batches(&postings, sizes));
            prop_assert_eq!(standings, expected.iter().cloned().collect::<Vec<_>>());
            prop_assert_eq!(folded, balance);
            prop_assert_eq!(replayed, vec![("n1".to_owned(), balance)]);
        }
    }
}
