//! Tests folding postings: tables for the weight of each, properties for order and batches.

use infera_ledger::fold::{HALF_LIFE, counts, decay, fold_balance, fold_standing, subject};
use infera_ledger::{Balance, NodeStanding, Posting, PostingEntry, Verdict};
use infera_types::ids::{AccountId, JobId, ModelName, NodeId};
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

fn standing(postings: &[Posting]) -> Option<NodeStanding> {
    let mut standing = None;
    for posting in postings {
        fold_standing(&mut standing, posting);
    }
    standing
}

fn sums(standing: &NodeStanding) -> [f64; 6] {
    [standing.good, standing.bad, standing.on_time, standing.asked, standing.tokens, standing.seconds]
}

#[test]
fn each_verdict_weighs_what_it_should() {
    // The verdict and whether it was in time; then good, bad, on time, asked, tokens, seconds.
    let table = [
        (Verdict::Valid, true, [1.0, 0.0, 1.0, 1.0, 40.0, 2.0]),
        (Verdict::Valid, false, [1.0, 0.0, 0.0, 1.0, 40.0, 2.0]),
        (Verdict::Invalid, true, [0.0, 20.0, 1.0, 1.0, 0.0, 0.0]),
        (Verdict::Missed, false, [0.0, 2.0, 0.0, 1.0, 0.0, 0.0]),
        // A missed assignment is never in time, whatever the posting says.
        (Verdict::Missed, true, [0.0, 2.0, 0.0, 1.0, 0.0, 0.0]),
    ];
    for (verdict, on_time, expected) in table {
        let found = standing(&[posting(verdict, 5, on_time, 40)]).expect("it counts");
        assert_eq!(sums(&found), expected, "{verdict:?}");
        assert_eq!(found.updated_ms.as_millis(), 5);
    }
    for verdict in [Verdict::Neutral, Verdict::Inconclusive] {
        assert_eq!(standing(&[posting(verdict, 5, true, 40)]), None);
    }
}

#[test]
fn silence_does_not_touch_a_standing() {
    let valid = posting(Verdict::Valid, 5, true, 40);
    let silent = posting(Verdict::Neutral, 5 + WEEK_MS, true, 40);
    assert_eq!(standing(&[valid.clone(), silent]), standing(&[valid]));
}

#[test]
fn a_weight_halves_every_seven_days() {
    assert_eq!(decay(HALF_LIFE), 0.5);
    assert_eq!(decay(HALF_LIFE * 3), 0.125);
    assert_eq!(decay(std::time::Duration::ZERO), 1.0);
    let found = standing(&[
        posting(Verdict::Invalid, 0, true, 0),
        posting(Verdict::Valid, WEEK_MS, true, 8),
        posting(Verdict::Valid, 2 * WEEK_MS, true, 8),
    ]);
    let found = found.expect("it counts");
    assert_eq!(sums(&found), [1.5, 5.0, 1.75, 1.75, 12.0, 3.0]);
    assert_eq!((found.valid_count, found.first_valid_ms), (2, Some(Timestamp::from_millis(WEEK_MS))));
}

#[test]
fn usage_is_the_accounts_and_pay_the_nodes() {
    let usage =
        PostingEntry::Usage { account: AccountId::new("acct1"), prompt_tokens: 11, completion_tokens: 3 };
    assert_eq!((subject(&usage), counts(&usage)), ("acct1", false));
    let mut balance = Balance::default();
    fold_balance(&mut balance, &usage);
    fold_balance(&mut balance, &usage);
    let expected = Balance { millipoints: 0, prompt_tokens: 22, completion_tokens: 6, postings: 2 };
    assert_eq!(balance, expected);

    let mut balance = Balance::default();
    for verdict in [Verdict::Valid, Verdict::Invalid, Verdict::Missed, Verdict::Neutral] {
        let posting = posting(verdict, 5, true, 40);
        assert_eq!(subject(&posting.entry), "n1");
        fold_balance(&mut balance, &posting.entry);
    }
    let expected = Balance { millipoints: 1_500, prompt_tokens: 0, completion_tokens: 40, postings: 4 };
    assert_eq!(balance, expected);
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

proptest! {
    // Counterexamples are printed; storing them would need a folder beside the tests.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The order of postings changes nothing but the last bits: an older posting is decayed as if it had come first.
    #[test]
    fn order_does_not_matter(
        (sorted, shuffled) in prop::collection::vec(any_posting(), 1..40).prop_flat_map(|postings| {
            let mut sorted = postings.clone();
            sorted.sort_by_key(|posting| posting.posted_ms);
            (Just(sorted), Just(postings).prop_shuffle())
        })
    ) {
        match (standing(&sorted), standing(&shuffled)) {
            (None, None) => {}
            (Some(left), Some(right)) => {
                for (left, right) in sums(&left).iter().zip(sums(&right)) {
                    prop_assert!((left - right).abs() <= 1e-9 * left.abs().max(1.0), "{left} {right}");
                }
                prop_assert_eq!(left.valid_count, right.valid_count);
                prop_assert_eq!(left.first_valid_ms, right.first_valid_ms);
                prop_assert_eq!(left.updated_ms, right.updated_ms);
            }
            other => prop_assert!(false, "one has a standing and one has none: {other:?}"),
        }
    }

    /// Each posting is decayed by its own age, as a sum computed from the definition.
    #[test]
    fn folding_is_the_sum_of_decayed_weights(postings in prop::collection::vec(any_posting(), 1..40)) {
        let Some(found) = standing(&postings) else { return Ok(()) };
        let (mut good, mut bad) = (0.0, 0.0);
        for posting in &postings {
            let PostingEntry::Verdict { verdict, .. } = &posting.entry else { continue };
            let age_ms = found.updated_ms.since(posting.posted_ms).as_millis() as f64;
            let weight = (-age_ms / WEEK_MS as f64).exp2();
            match verdict {
                Verdict::Valid => good += weight,
                Verdict::Invalid => bad += 20.0 * weight,
                Verdict::Missed => bad += 2.0 * weight,
                Verdict::Inconclusive | Verdict::Neutral => {}
            }
        }
        prop_assert!((found.good - good).abs() < 1e-9, "{} {good}", found.good);
        prop_assert!((found.bad - bad).abs() < 1e-9, "{} {bad}", found.bad);
    }
}
