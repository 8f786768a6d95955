//! Points.

use infera_ledger::NodeStanding;
use infera_types::ids::{ModelName, NodeId};
use infera_types::time::Timestamp;
use infera_verifier::decisions::points::{Work, earns_bonus, millipoints};
use proptest::prelude::*;

const WORK: Work = Work {
    is_paid: true,
    prompt_tokens: 0,
    own_tokens: 100,
    canonical_tokens: 100,
    reference_token_us: 5_000,
    elapsed_ms: 1_000,
    budget_ms: 10_000,
    bonus: false,
};

const DAY_MS: u64 = 24 * 3600 * 1000;

#[test]
fn table() {
    let table = [
        // kappa 5 ms * 100 tokens * ctx(0) = 1.2, in thousandths.
        (WORK, 600_000),
        (Work { is_paid: false, ..WORK }, 0),
        // Padding isn't paid, and neither is what a shorter answer left out.
        (Work { own_tokens: 500, ..WORK }, 600_000),
        (Work { own_tokens: 50, ..WORK }, 300_000),
        // ctx(1024) = 1.2 + 1; 5 ms * (0.15 * 1024 + 100) * 2.2.
        (Work { prompt_tokens: 1_024, ..WORK }, 2_789_600),
        // ctx(4096) = 1.2 + 2.2^2; 5 ms * (0.15 * 4096 + 100) * 6.04.
        (Work { prompt_tokens: 4_096, ..WORK }, 21_574_880),
        // Quicker than a fifth of the budget, with and without the right to a bonus.
        (Work { elapsed_ms: 1_600, bonus: true, ..WORK }, 670_820),
        (Work { elapsed_ms: 1, bonus: true, ..WORK }, 750_000),
        (Work { elapsed_ms: 0, bonus: true, ..WORK }, 750_000),
        (Work { elapsed_ms: 9_000, bonus: true, ..WORK }, 600_000),
        (Work { elapsed_ms: 1, ..WORK }, 600_000),
        // Late.
        (Work { elapsed_ms: 10_000, ..WORK }, 600_000),
        (Work { elapsed_ms: 10_001, bonus: true, ..WORK }, 150_000),
        (Work { elapsed_ms: DAY_MS + 1, ..WORK }, 0),
    ];
    for (work, expected) in table {
        assert_eq!(millipoints(&work), expected, "{work:?}");
    }
}

proptest! {
    #[test]
    fn nothing_is_ever_owed_by_a_node_and_more_work_never_pays_less(
        prompt_tokens in 0..100_000_u32,
        own_tokens in 0..100_000_u64,
        canonical_tokens in 0..100_000_u64,
        elapsed_ms in 0..200_000_000_u64,
        bonus: bool,
    ) {
        let work = Work { prompt_tokens, own_tokens, canonical_tokens, elapsed_ms, bonus, ..WORK };
        prop_assert!(millipoints(&work) >= 0);
        let longer =
            Work { own_tokens: own_tokens + 1, canonical_tokens: canonical_tokens + 1, ..work };
        prop_assert!(millipoints(&longer) >= millipoints(&work));
        let later = Work { elapsed_ms: elapsed_ms + 1, ..work };
        prop_assert!(millipoints(&later) <= millipoints(&work));
    }
}

#[test]
fn the_bonus_asks_for_a_clean_record() {
    let record = NodeStanding {
        node: NodeId::new("n1"),
        model: ModelName::new("m"),
        good: 10.0,
        bad: 0.0,
        on_time: 10.0,
        asked: 10.0,
        tokens: 100.0,
        seconds: 1.0,
        valid_count: 10,
        first_valid_ms: Some(Timestamp::from_millis(1)),
        updated_ms: Timestamp::from_millis(1),
    };
    let table = [
        (record.clone(), false, true),
        (record.clone(), true, false),
        (NodeStanding { valid_count: 9, ..record.clone() }, false, false),
        (NodeStanding { asked: 13.0, ..record.clone() }, false, false),
        (NodeStanding { bad: 2.0, ..record }, false, false),
    ];
    for (record, numbers_outside, expected) in table {
        assert_eq!(earns_bonus(Some(&record), numbers_outside), expected, "{record:?}");
    }
    assert!(!earns_bonus(None, false));
}
