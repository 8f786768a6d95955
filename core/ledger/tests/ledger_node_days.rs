//! Checks what uptime is worth, and that adding up in parts gives the same as adding up at once.

use infera_ledger::{NodeDay, Posting, PostingEntry, Verdict, node_days};
use infera_types::day::Day;
use infera_types::ids::{JobId, ModelName, NodeId};
use infera_types::time::Timestamp;
use proptest::prelude::*;

fn day(intervals: u32, millipoints: i64) -> NodeDay {
    let bits = (1_u64 << intervals) - 1;
    NodeDay { millipoints, valid_intervals: [bits, 0, 0], ..NodeDay::empty(Day::new(1)) }
}

#[test]
fn uptime_is_paid_by_interval_and_capped_at_fifteen_percent_of_the_day() {
    for (intervals, task_millipoints, uptime) in [
        (0, 1_000_000_000, 0),
        (1, 1_000_000_000, 6_000_000),
        (3, 1_000_000_000, 18_000_000),
        // 15 % of the whole day is 15/85 of its work.
        (1, 850, 150),
        (40, 8_500, 1_500),
        (5, 0, 0),
        (5, -7, 0),
        (1, i64::MAX, 6_000_000),
    ] {
        assert_eq!(
            day(intervals, task_millipoints).uptime_millipoints(),
            uptime,
            "{intervals} {task_millipoints}"
        );
    }
}

#[test]
fn a_verdict_on_chosen_nodes_is_counted_but_is_no_uptime() {
    let posting = |chosen| Posting {
        id: "verdict:1".to_owned(),
        job_id: JobId::from_bytes([1; 16]),
        posted_ms: Timestamp::from_millis(5),
        entry: PostingEntry::Verdict {
            node: NodeId::new("n1"),
            model: ModelName::new("m"),
            verdict: Verdict::Valid,
            millipoints: 0,
            elapsed_ms: 1,
            tokens: 2,
            on_time: true,
            numbers_outside: false,
            is_for_chosen_nodes: chosen,
        },
    };
    let (strangers, chosen) = (sum(&[posting(false)]), sum(&[posting(true)]));
    assert_eq!((strangers.valid_intervals, chosen.valid_intervals), ([1, 0, 0], [0, 0, 0]));
    assert_eq!((chosen.verdicts, chosen.tokens), (strangers.verdicts, 2));
}

fn any_posting() -> impl Strategy<Value = Posting> {
    let verdict = prop_oneof![Just(Verdict::Valid), Just(Verdict::Missed), Just(Verdict::Invalid)];
    (verdict, 0..24 * 3_600_000_u64, 0..9_999_i64).prop_map(|(verdict, posted_ms, millipoints)| Posting {
        id: "verdict:1".to_owned(),
        job_id: JobId::from_bytes([1; 16]),
        posted_ms: Timestamp::from_millis(posted_ms),
        entry: PostingEntry::Verdict {
            node: NodeId::new("n1"),
            model: ModelName::new("m"),
            verdict,
            millipoints,
            elapsed_ms: 1,
            tokens: 2,
            on_time: true,
            numbers_outside: false,
            is_for_chosen_nodes: false,
        },
    })
}

fn sum(postings: &[Posting]) -> NodeDay {
    let mut sums = NodeDay::empty(Day::new(0));
    for (_, part) in postings.iter().filter_map(node_days::of_posting) {
        sums.add(&part);
    }
    sums
}

proptest! {
    #[test]
    fn parts_add_up_to_the_whole(postings in prop::collection::vec(any_posting(), 0..40), cut in 0..40_usize) {
        let (left, right) = postings.split_at(cut.min(postings.len()));
        let mut parts = sum(left);
        parts.add(&sum(right));
        prop_assert_eq!(parts, sum(&postings));
    }

    #[test]
    fn every_interval_with_a_valid_verdict_has_its_bit(postings in prop::collection::vec(any_posting(), 0..40)) {
        let expected: std::collections::BTreeSet<u64> = postings
            .iter()
            .filter(|posting| posting.entry.valid_node().is_some())
            .map(|posting| posting.posted_ms.as_secs() / node_days::INTERVAL.as_secs())
            .collect();
        let found: u32 = sum(&postings).valid_intervals.iter().map(|bits| bits.count_ones()).sum();
        prop_assert_eq!(usize::try_from(found).ok(), Some(expected.len()));
    }
}
