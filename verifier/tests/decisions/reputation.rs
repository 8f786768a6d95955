//! Reputation, on records that the ledger's own folding makes.

use std::time::Duration;

use infera_ledger::fold::{INVALID_WEIGHT, VALID_WEIGHT, fold_standing};
use infera_ledger::{NodeStanding, Posting, PostingEntry, Verdict};
use infera_types::ids::{JobId, ModelName, NodeId};
use infera_types::time::Timestamp;
use infera_verifier::decisions::reputation::{Circumstances, Reputation, Tier, tokens_per_second};
use proptest::prelude::*;

const START: Timestamp = Timestamp::from_millis(1_000_000_000_000);
const DAY: Duration = Duration::from_secs(24 * 3600);
const ORDINARY: Circumstances = Circumstances { reference_tokens_per_second: 50.0, uptime: 1.0 };

fn posting(verdict: Verdict, posted_ms: Timestamp) -> Posting {
    let entry = PostingEntry::Verdict {
        node: NodeId::new("n1"),
        model: ModelName::new("m"),
        verdict,
        millipoints: 0,
        elapsed_ms: 1_000,
        tokens: 50,
        on_time: verdict != Verdict::Missed,
        numbers_outside: false,
        is_for_chosen_nodes: false,
    };
    Posting { id: "verdict:x".to_owned(), job_id: JobId::from_bytes([0; 16]), posted_ms, entry }
}

fn record(good: f64, bad: f64) -> NodeStanding {
    NodeStanding {
        node: NodeId::new("n1"),
        model: ModelName::new("m"),
        good,
        bad,
        on_time: good,
        asked: good,
        tokens: 50.0 * good,
        seconds: good,
        valid_count: good as u64,
        first_valid_ms: Some(START),
        updated_ms: START,
    }
}

fn worth(record: &NodeStanding, now: Timestamp) -> Reputation {
    Reputation::of(record, &ORDINARY, now)
}

#[test]
fn table() {
    // Q of n clean answers is 0.05^(1 / (n + 1)); S is a half (punctual, of ordinary speed), U is 1.
    let share = 0.7 + 0.2 * 0.5 + 0.1;
    for good in [0.0, 1.0, 10.0, 100.0, 1_000.0, 100_000.0] {
        let reputation = worth(&record(good, 0.0), START);
        let quality = 0.05_f64.powf(1.0 / (good + 1.0));
        assert!((reputation.quality - quality).abs() < 1e-9, "{good}: {reputation:?}");
        let expected = (1000.0 * quality * quality * share).round() as u16;
        assert_eq!(reputation.value, expected, "{good}");
        assert_eq!(reputation.is_newcomer(), good < 10.0, "{good}");
        assert!(!reputation.is_ejected());
    }
    assert_eq!(Reputation::unknown(&ORDINARY).value, worth(&record(0.0, 0.0), START).value);
}

#[test]
fn speed_and_uptime_are_a_part_only() {
    let at = |tokens: f64, on_time: f64, uptime: f64| {
        let one = NodeStanding { tokens: tokens * 100.0, on_time, ..record(100.0, 0.0) };
        let circumstances = Circumstances { uptime, ..ORDINARY };
        Reputation::of(&one, &circumstances, START)
    };
    for (tokens, on_time, uptime, speed, share) in [
        (50.0, 100.0, 1.0, 0.5, 0.9),
        (200.0, 100.0, 1.0, 1.0, 1.0),
        (100.0, 100.0, 1.0, 0.75, 0.95),
        (900.0, 100.0, 1.0, 1.0, 1.0),
        (5.0, 0.0, 0.0, 0.0, 0.7),
        (200.0, 0.0, f64::NAN, 0.5, 0.8),
    ] {
        let reputation = at(tokens, on_time, uptime);
        assert!((reputation.speed - speed).abs() < 1e-9, "{reputation:?}");
        let expected = 1000.0 * reputation.quality.powi(2) * share;
        assert!((f64::from(reputation.value) - expected).abs() <= 0.5, "{reputation:?}");
    }
    assert_eq!(tokens_per_second(&record(100.0, 0.0)), Some(50.0));
    assert_eq!(tokens_per_second(&record(0.0, 9.0)), None);
}

#[test]
fn tiers() {
    let later = START.after(14 * DAY);
    let table = [
        (record(49.0, 0.0), START, Tier::New),
        (record(70.0, 0.0), START, Tier::Verified),
        (record(70.0, 8.0), START, Tier::New),
        (record(2_000.0, 0.0), START, Tier::Verified),
        (NodeStanding { updated_ms: later, ..record(2_000.0, 0.0) }, later, Tier::Trusted),
        (NodeStanding { updated_ms: later, valid_count: 499, ..record(2_000.0, 0.0) }, later, Tier::Verified),
        (NodeStanding { updated_ms: later, ..record(2_000.0, 40.0) }, later, Tier::Verified),
    ];
    for (record, now, expected) in table {
        assert_eq!(worth(&record, now).tier, expected, "{record:?}");
    }
}

/// One objective fault ejects a node that has proven nothing, for days; one that has proven much only pays for it.
#[test]
fn one_fault() {
    let mut fresh = None;
    fold_standing(&mut fresh, &posting(Verdict::Invalid, START));
    let fresh = fresh.unwrap();
    assert!(worth(&fresh, START).is_ejected());
    assert!(worth(&fresh, START.after(7 * DAY)).is_ejected());
    assert!(!worth(&fresh, START.after(14 * DAY)).is_ejected(), "forgiven, on the newcomers' terms");
    assert!(worth(&fresh, START.after(14 * DAY)).is_newcomer());

    let proven = record(500.0, 0.0);
    let mut faulted = Some(proven.clone());
    fold_standing(&mut faulted, &posting(Verdict::Invalid, START));
    let (before, after) = (worth(&proven, START), worth(&faulted.unwrap(), START));
    assert!(!after.is_ejected());
    assert!(after.value + 50 < before.value, "{} after {}", after.value, before.value);
}

#[test]
fn misses_alone_eject_only_who_does_nothing_else() {
    let mut standing = None;
    for misses in 1..=4 {
        fold_standing(&mut standing, &posting(Verdict::Missed, START));
        let ejected = worth(standing.as_ref().unwrap(), START).is_ejected();
        assert_eq!(ejected, misses > 3, "{misses} misses and nothing else");
    }
    let mut proven = Some(record(20.0, 0.0));
    for _ in 0..4 {
        fold_standing(&mut proven, &posting(Verdict::Missed, START));
    }
    assert!(!worth(&proven.unwrap(), START).is_ejected());
}

proptest! {
    /// Newcomers who did nothing wrong are never ejected, however little they did.
    #[test]
    fn the_faultless_are_never_ejected(good in 0.0..1e6_f64, idle_days in 0..2_000_u32) {
        prop_assert!(!worth(&record(good, 0.0), START.after(idle_days * DAY)).is_ejected());
    }

    /// Idling ejects no node: evidence fades, and with it the certainty that ejection needs.
    #[test]
    fn the_idle_are_never_ejected(good in 0.0..1e4_f64, bad in 0.0..1e4_f64, idle_days in 0..400_u32) {
        let one = record(good, bad);
        prop_assume!(!worth(&one, START).is_ejected());
        prop_assert!(!worth(&one, START.after(idle_days * DAY)).is_ejected());
    }

    #[test]
    fn every_record_has_a_reputation(good: f64, bad: f64, tokens: f64, seconds: f64, age_ms: u64) {
        let one = NodeStanding { tokens, seconds, ..record(good, bad) };
        let reputation = worth(&one, START.after(Duration::from_millis(age_ms)));
        prop_assert!(reputation.value <= 1000 && reputation.value <= reputation.value_upper);
        prop_assert!((0.0..=1.0).contains(&reputation.speed) && (0.0..=1.0).contains(&reputation.quality));
    }

    /// An honest answer never costs, a fault never pays.
    #[test]
    fn verdicts_move_it_the_right_way(good in 0.0..1e4_f64, bad in 0.0..1e3_f64) {
        let before = worth(&record(good, bad), START).quality;
        for (verdict, rises) in [(Verdict::Valid, true), (Verdict::Invalid, false), (Verdict::Missed, false)] {
            let mut folded = Some(record(good, bad));
            fold_standing(&mut folded, &posting(verdict, START));
            let after = worth(&folded.unwrap(), START).quality;
            prop_assert!(if rises { after >= before } else { after <= before }, "{verdict:?}");
        }
        for neutral in [Verdict::Inconclusive, Verdict::Neutral] {
            let mut folded = Some(record(good, bad));
            fold_standing(&mut folded, &posting(neutral, START));
            prop_assert_eq!(folded.unwrap(), record(good, bad));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A node that cheats in every job, of which audits see one in twenty: each job it does makes its expected
    /// record worse, whatever honest past it begins with.
    #[test]
    fn an_always_cheater_only_sinks(past in 60.0..1e5_f64, seen in 0.05..1.0_f64) {
        let (mut good, mut bad) = (past, 0.0);
        let mut before = worth(&record(good, bad), START).quality;
        for _ in 0..200 {
            good += (1.0 - seen) * VALID_WEIGHT;
            bad += seen * INVALID_WEIGHT;
            let after = worth(&record(good, bad), START).quality;
            prop_assert!(after < before, "{after} after {before}");
            before = after;
        }
    }
}
