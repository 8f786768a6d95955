//! L1 and L1n of answers to requests with knobs.

use infera_types::job::{Numbers, ReplicaSummary};
use infera_types::knobs::Knobs;
use infera_types::numbers::{TokenId, TokenNumbers};
use infera_verifier::decisions::compare::{Agreement, Comparison, Context, Scored, compare, compare_scored};
use infera_verifier::decisions::thresholds::Thresholds;
use proptest::prelude::*;

use super::sample::{END, HONEST, Sampling, THRESHOLDS, Toy, Wish, class, wishes};

fn with_context<T>(wish: &Wish, run: impl Fn(&Context<'_>) -> T) -> T {
    let (rules, thresholds) = (wish.rules(), Thresholds::parse(THRESHOLDS).unwrap());
    run(&Context { rules: &rules, noise: wish.noise(), thresholds: &thresholds })
}

fn compared(a: &ReplicaSummary, b: &ReplicaSummary, wish: &Wish) -> Comparison {
    with_context(wish, |context| compare(a, b, context))
}

fn summary(toy: &Toy, wish: &Wish, hardware: &str) -> ReplicaSummary {
    wish.answer(&[END], |prefix| toy.row(prefix), |_| false).summary(hardware)
}

/// The largest true change of a raw logit over the first positions.
fn true_distance(a: &Toy, b: &Toy, tokens: &[TokenId], positions: usize) -> f64 {
    let of = |position: usize| {
        let prefix = &tokens[..position];
        let pairs = a.row(prefix).into_iter().zip(b.row(prefix));
        pairs.map(|(one, other)| f64::from((one - other).abs())).fold(0.0, f64::max)
    };
    (0..positions).map(of).fold(0.0, f64::max)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn one_class_is_identical_to_the_bit_whatever_the_knobs(wish in wishes(12)) {
        let (a, b) = (summary(&HONEST, &wish, "a"), summary(&HONEST, &wish, "a"));
        let comparison = compared(&a, &b, &wish);
        prop_assert_eq!(comparison.agreement, Agreement::Identical);
        prop_assert_eq!((comparison.numbers, comparison.distance.max), (Numbers::Inside, 0.0));
        let scored = Scored { numbers: &b.numbers, numeric_class: &class("toy", "b") };
        let comparison = with_context(&wish, |context| compare_scored(&a, &scored, context));
        prop_assert_eq!((comparison.agreement, comparison.gap), (Agreement::Identical, None));
        prop_assert_eq!(comparison.distance.positions, a.numbers.len());
    }

    /// What is reported never exaggerates what truly changed, for tokens that only one list has either, and whichever of the two
    /// comes first.
    #[test]
    fn distances_are_bounded_by_the_truth_whatever_the_knobs(wish in wishes(12), error in 0.0..1.0_f32) {
        let other = Toy { error, ..HONEST };
        let (a, b) = (summary(&HONEST, &wish, "a"), summary(&other, &wish, "b"));
        let comparison = compared(&a, &b, &wish);
        let truth = true_distance(&HONEST, &other, &a.tokens, comparison.distance.positions) + 1e-5;
        prop_assert!(comparison.distance.max <= truth, "{:?} over {truth}", comparison.distance);
        prop_assert_eq!(&comparison, &compared(&b, &a, &wish));
    }
}

fn row(top: &[(TokenId, f32)], likeliest: &[(TokenId, f32)], logit_max: f32) -> TokenNumbers {
    TokenNumbers {
        top: top.to_vec(),
        log_sum_exp: 10.0,
        logit_max: Some(logit_max),
        likeliest: likeliest.to_vec(),
    }
}

fn one_token(row: TokenNumbers, hardware: &str) -> ReplicaSummary {
    let mut one = HONEST.summary(&Sampling::new(0, 0.0, 1), hardware);
    (one.tokens, one.numbers) = (vec![row.top[0].0], vec![row]);
    one
}

fn greedy(knobs: Knobs) -> Wish {
    Sampling::new(0, 0.0, 4).wishing(knobs)
}

/// Numbers that have the same log-probabilities, which a client could know, are not the same numbers.
#[test]
fn numbers_with_the_same_log_probabilities_are_told_apart() {
    let wish = greedy(Knobs::default());
    let honest = summary(&HONEST, &wish, "a");
    let mut shifted = summary(&HONEST, &wish, "b");
    for row in &mut shifted.numbers {
        row.top.iter_mut().for_each(|entry| entry.1 += 0.5);
        row.log_sum_exp += 0.5;
        row.logit_max = row.logit_max.map(|logit| logit + 0.5);
    }
    let comparison = compared(&honest, &shifted, &wish);
    assert_eq!((comparison.agreement, comparison.numbers), (Agreement::Identical, Numbers::Outside));
    assert!((comparison.distance.max - 0.5).abs() < 1e-4, "{:?}", comparison.distance);
    // The sum alone, and the highest alone.
    let changes: [fn(&mut TokenNumbers); 2] =
        [|row| row.log_sum_exp += 0.5, |row| row.logit_max = row.logit_max.map(|logit| logit + 0.5)];
    for change in changes {
        let mut changed = summary(&HONEST, &wish, "b");
        changed.numbers.iter_mut().for_each(change);
        assert_eq!(compared(&honest, &changed, &wish).numbers, Numbers::Outside);
    }
    // Older nodes tell no highest logit: then the others decide.
    let mut older = summary(&HONEST, &wish, "b");
    older.numbers.iter_mut().for_each(|row| row.logit_max = None);
    assert_eq!(compared(&honest, &older, &wish).distance.max, 0.0);
}

#[test]
fn what_a_list_lacks_counts_only_where_nothing_is_left_out() {
    let a = one_token(row(&[(1, 9.0), (2, 8.0)], &[], 9.0), "a");
    let b = one_token(row(&[(1, 9.0), (3, 7.0)], &[], 9.0), "b");
    // In `b`, 2 scores no more than 3: at most 7. In `a`, 3 scores no more than 2, and it may be as it is in `b`.
    for (knobs, max) in [
        (Knobs::default(), 1.0),
        // After its penalty, 2 scores 4 in `a`, where 3 scores no more, which has 7 in `b`. There, 2 may have up to 14.
        (Knobs { repetition_penalty: Some(2.0), ..Knobs::default() }, 3.0),
        (Knobs { logit_bias: [(2, 0.75)].into(), ..Knobs::default() }, 1.75),
        (Knobs { top_k: Some(3), ..Knobs::default() }, 0.0),
        (Knobs { top_p: Some(0.5), ..Knobs::default() }, 0.0),
        (Knobs { min_p: Some(0.5), ..Knobs::default() }, 0.0),
        (Knobs { top_p: Some(1.0), min_p: Some(0.0), ..Knobs::default() }, 1.0),
    ] {
        let mut wish = greedy(knobs);
        wish.prompt = vec![2];
        let distance = compared(&a, &b, &wish).distance;
        assert!((distance.max - max).abs() < 1e-12, "{:?}: {distance:?}", wish.knobs);
    }
}

#[test]
fn the_likeliest_are_compared_whatever_is_left_out() {
    let wish = greedy(Knobs { top_p: Some(0.5), ..Knobs::default() });
    let with = |likeliest: &[(TokenId, f32)], hardware| one_token(row(&[(1, 9.0)], likeliest, 9.0), hardware);
    let a = with(&[(1, 9.0), (2, 8.0), (3, 7.0)], "a");
    for (likeliest, max) in [
        ([(1, 9.0), (2, 8.0), (3, 7.0)], 0.0),
        ([(1, 9.0), (2, 7.5), (3, 7.0)], 0.5),
        // It has 4 where the other has 3, which is at most 6.75 there.
        ([(1, 9.0), (2, 8.0), (4, 6.75)], 0.25),
    ] {
        let distance = compared(&a, &with(&likeliest, "b"), &wish).distance;
        assert!((distance.max - max).abs() < 1e-12, "{likeliest:?}: {distance:?}");
    }
}

/// What is near is told after penalties and bias.
#[test]
fn the_gap_is_that_of_scores_after_penalties() {
    let said_one = |second: [(TokenId, f32); 2], hardware| {
        let mut one = one_token(row(&[(1, 9.0), (2, 7.0)], &[], 9.0), hardware);
        one.tokens.push(second[0].0);
        one.numbers.push(row(&second, &[], 9.0));
        one
    };
    // 1 was said once, and 2 wins by a hair after its penalty, or loses.
    let (a, b) = (said_one([(2, 8.0), (1, 8.9)], "a"), said_one([(1, 9.0), (2, 7.9)], "b"));
    let benign = Agreement::Benign { position: 1 };
    let conflict = Agreement::Conflict { position: 1 };
    for (knobs, expected) in [
        (Knobs { presence_penalty: Some(1.0), ..Knobs::default() }, benign),
        (Knobs { frequency_penalty: Some(1.0), ..Knobs::default() }, benign),
        (Knobs { logit_bias: [(1, -1.0)].into(), ..Knobs::default() }, benign),
        (Knobs { repetition_penalty: Some(1.13), ..Knobs::default() }, benign),
        (Knobs::default(), conflict),
    ] {
        let wish = greedy(knobs);
        assert_eq!(compared(&a, &b, &wish).agreement, expected, "{:?}", wish.knobs);
        assert_eq!(compared(&b, &a, &wish).agreement, expected);
        let scored = Scored { numbers: &b.numbers, numeric_class: &b.numeric_class };
        let found = with_context(&wish, |context| compare_scored(&a, &scored, context));
        assert_eq!(found.agreement, expected, "scored: {:?}", wish.knobs);
    }
}

/// Answers that a stop string ends have no row behind their last token.
#[test]
fn the_same_tokens_that_a_stop_string_ends_are_identical() {
    let wish = Sampling::new(4, 0.8, 30).wishing(Knobs { ignore_eos: true, ..Knobs::default() });
    let stopped = |hardware| {
        let mut count = 0;
        let stops = |_| {
            count += 1;
            count == 5
        };
        wish.answer(&[END], |prefix| HONEST.row(prefix), stops).summary(hardware)
    };
    let (a, b) = (stopped("a"), stopped("b"));
    assert_eq!((a.tokens.len(), a.numbers.len()), (5, 5));
    let comparison = compared(&a, &b, &wish);
    assert_eq!((comparison.agreement, comparison.numbers), (Agreement::Identical, Numbers::Inside));
    assert_eq!(comparison.distance.positions, 5);
}
