//! L1 and L1n.

use infera_sampling::{Noise, choose};
use infera_types::job::{Numbers, ReplicaSummary};
use infera_types::numbers::TokenNumbers;
use infera_verifier::decisions::compare::{Agreement, Comparison, Context, Scored, compare, compare_scored};
use infera_verifier::decisions::thresholds::Thresholds;
use proptest::prelude::*;

use super::sample::{END, HONEST, Sampling, THRESHOLDS, Toy, class};

fn compared(a: &ReplicaSummary, b: &ReplicaSummary, sampling: &Sampling) -> Comparison {
    let thresholds = Thresholds::parse(THRESHOLDS).unwrap();
    let context = Context { rules: &sampling.rules(), noise: sampling.noise(), thresholds: &thresholds };
    compare(a, b, &context)
}

/// What `referee` says of a replica's tokens: as the other class of the thresholds, or as the replica's own.
fn scored(replica: &ReplicaSummary, referee: &Toy, hardware: &str, sampling: &Sampling) -> Comparison {
    let noise = Noise::new(&sampling.key, 0);
    // One row more than an answer that was cut has.
    let rows = (0..=replica.tokens.len()).map(|position| {
        let row = referee.row(&replica.tokens[..position]);
        choose(&row, sampling.temperature, &noise, u32::try_from(position).unwrap()).numbers
    });
    let numbers: Vec<_> = rows.collect();
    let thresholds = Thresholds::parse(THRESHOLDS).unwrap();
    let context = Context { rules: &sampling.rules(), noise: sampling.noise(), thresholds: &thresholds };
    let numeric_class = class("toy", hardware);
    compare_scored(replica, &Scored { numbers: &numbers, numeric_class: &numeric_class }, &context)
}

/// The largest true change of any token's raw logit over the positions compared. No log-sum-exp changes by more.
fn true_distance(a: &Toy, b: &Toy, tokens: &[u32], positions: usize) -> f64 {
    let each = (0..positions).flat_map(|position| {
        let prefix = &tokens[..position];
        let pairs = a.row(prefix).into_iter().zip(b.row(prefix));
        pairs.map(|(first, second)| f64::from((first - second).abs())).collect::<Vec<_>>()
    });
    each.fold(0.0, f64::max)
}

proptest! {
    #[test]
    fn one_class_is_identical_to_the_bit(job: u64, temperature in 0.0..2.0_f64, max_tokens in 1..40_usize) {
        let sampling = Sampling::new(job, temperature, max_tokens);
        let comparison =
            compared(&HONEST.summary(&sampling, "a"), &HONEST.summary(&sampling, "a"), &sampling);
        prop_assert_eq!(comparison.agreement, Agreement::Identical);
        prop_assert_eq!(comparison.numbers, Numbers::Inside);
        prop_assert_eq!(comparison.distance.max, 0.0);
        prop_assert!(comparison.pair.is_one_class());
    }

    #[test]
    fn the_order_of_the_two_plays_no_part(job: u64, temperature in 0.0..2.0_f64, error in 0.0..1.0_f32) {
        let sampling = Sampling::new(job, temperature, 30);
        let (a, b) = (HONEST.summary(&sampling, "a"), Toy { error, ..HONEST }.summary(&sampling, "b"));
        prop_assert_eq!(compared(&a, &b, &sampling), compared(&b, &a, &sampling));
    }

    /// What is reported never exaggerates: an honest pair's distance and gap are bounded by what truly changed, so
    /// tolerances measured on honest machines hold for tokens that only one list has, too.
    #[test]
    fn distances_are_bounded_by_the_truth(job: u64, temperature in 0.0..2.0_f64, error in 0.0..1.0_f32) {
        let sampling = Sampling::new(job, temperature, 30);
        let other = Toy { error, ..HONEST };
        let (a, b) = (HONEST.summary(&sampling, "a"), other.summary(&sampling, "b"));
        let comparison = compared(&a, &b, &sampling);
        let truth = true_distance(&HONEST, &other, &a.tokens, comparison.distance.positions) + 1e-5;
        prop_assert!(comparison.distance.max <= truth, "{:?} over {truth}", comparison.distance);
        prop_assert!(comparison.distance.mean <= comparison.distance.max);
        prop_assert!(comparison.gap.unwrap_or(0.0) <= 2.0 * truth);
    }

    #[test]
    fn a_little_error_is_benign_and_inside(job: u64, temperature in 0.0..2.0_f64) {
        let sampling = Sampling::new(job, temperature, 30);
        // Off by 0.02 at most: no logit moves by more than 0.02, no gap is over 0.04.
        let other = Toy { error: 0.02, ..HONEST };
        let comparison = compared(&HONEST.summary(&sampling, "a"), &other.summary(&sampling, "b"), &sampling);
        prop_assert!(!matches!(comparison.agreement, Agreement::Conflict { .. }), "{:?}", comparison);
        prop_assert_eq!(comparison.numbers, Numbers::Inside);
    }

    #[test]
    fn another_model_is_outside(job: u64, temperature in 0.0..2.0_f64) {
        let sampling = Sampling::new(job, temperature, 30);
        let other = Toy { weights: 2, ..HONEST };
        let comparison = compared(&HONEST.summary(&sampling, "a"), &other.summary(&sampling, "b"), &sampling);
        prop_assert_eq!(comparison.numbers, Numbers::Outside);
    }
}

proptest! {
    #[test]
    fn an_exact_score_confirms_each_choice(job: u64, temperature in 0.0..2.0_f64, max_tokens in 1..40_usize) {
        let sampling = Sampling::new(job, temperature, max_tokens);
        let honest = HONEST.summary(&sampling, "a");
        let comparison = scored(&honest, &HONEST, "a", &sampling);
        prop_assert_eq!(comparison.agreement, Agreement::Identical);
        prop_assert_eq!(comparison.gap, None);
        prop_assert_eq!(comparison.distance.max, 0.0);
        prop_assert_eq!(comparison.distance.positions, honest.numbers.len());
    }

    /// A score follows the replica's tokens, so every position counts, those after another choice too.
    #[test]
    fn a_score_goes_on_behind_another_choice(job: u64, temperature in 0.0..2.0_f64, error in 0.0..1.0_f32) {
        let sampling = Sampling::new(job, temperature, 30);
        let (honest, referee) = (HONEST.summary(&sampling, "a"), Toy { error, ..HONEST });
        let comparison = scored(&honest, &referee, "b", &sampling);
        prop_assert_eq!(comparison.distance.positions, honest.numbers.len());
        let truth = true_distance(&HONEST, &referee, &honest.tokens, honest.numbers.len()) + 1e-5;
        prop_assert!(comparison.distance.max <= truth, "{:?} over {truth}", comparison.distance);
        prop_assert!(comparison.gap.unwrap_or(0.0) <= 2.0 * truth);
        if truth < 0.1 {
            prop_assert!(!matches!(comparison.agreement, Agreement::Conflict { .. }), "{:?}", comparison);
        }
    }

    #[test]
    fn a_score_tells_another_model(job: u64, temperature in 0.0..2.0_f64) {
        let sampling = Sampling::new(job, temperature, 30);
        let other = Toy { weights: 2, ..HONEST }.summary(&sampling, "b");
        prop_assert_eq!(scored(&other, &HONEST, "a", &sampling).numbers, Numbers::Outside);
    }
}

/// A conflict is where it is, whatever was excused before it; the gap is the largest of all.
#[test]
fn a_score_names_the_first_choice_that_nothing_excuses() {
    let sampling = Sampling::new(0, 0.0, 4);
    let mut one = HONEST.summary(&sampling, "a");
    one.tokens = vec![1; 4];
    let row = |best: (u32, f32), second: (u32, f32)| TokenNumbers {
        top: vec![best, second],
        log_sum_exp: 10.0,
        logit_max: None,
        likeliest: Vec::new(),
    };
    one.numbers = vec![row((1, 9.0), (2, 8.9)); 4];
    let confirms = row((1, 9.0), (2, 8.9));
    let (excused, refuses, lists) =
        (row((2, 9.0), (1, 8.9)), row((2, 9.0), (1, 8.5)), row((2, 9.0), (3, 8.9)));
    let benign = |position| Agreement::Benign { position };
    let conflict = |position| Agreement::Conflict { position };
    let cases = [
        ([&confirms, &confirms, &confirms, &confirms], Agreement::Identical, None),
        ([&confirms, &excused, &excused, &confirms], benign(1), Some(0.1)),
        ([&excused, &confirms, &refuses, &excused], conflict(2), Some(0.5)),
        ([&excused, &lists, &refuses, &confirms], conflict(1), None),
    ];
    for (rows, agreement, gap) in cases {
        let numbers: Vec<_> = rows.into_iter().cloned().collect();
        let numeric_class = class("toy", "b");
        let thresholds = Thresholds::parse(THRESHOLDS).unwrap();
        let context = Context { rules: &sampling.rules(), noise: sampling.noise(), thresholds: &thresholds };
        let found =
            compare_scored(&one, &Scored { numbers: &numbers, numeric_class: &numeric_class }, &context);
        assert_eq!(found.agreement, agreement);
        assert_eq!(found.gap.map(|gap| (gap * 10.0).round()), gap.map(|gap: f64| gap * 10.0));
    }
    // A token that its own numbers don't name is judged by itself.
    one.tokens[3] = 9_999;
    let numbers = vec![confirms; 4];
    let (thresholds, numeric_class) = (Thresholds::parse(THRESHOLDS).unwrap(), class("toy", "b"));
    let context = Context { rules: &sampling.rules(), noise: sampling.noise(), thresholds: &thresholds };
    let found = compare_scored(&one, &Scored { numbers: &numbers, numeric_class: &numeric_class }, &context);
    assert_eq!(found.agreement, conflict(3));
}

#[test]
fn a_coarse_model_is_told_by_its_numbers_alone() {
    let coarse = Toy { grid: 0.25, ..HONEST };
    let mut identical = 0;
    for job in 0..200 {
        let sampling = Sampling::new(job, 0.0, 6);
        let comparison =
            compared(&HONEST.summary(&sampling, "a"), &coarse.summary(&sampling, "a"), &sampling);
        assert_eq!(comparison.numbers, Numbers::Outside, "job {job}");
        identical += u32::from(comparison.agreement == Agreement::Identical);
    }
    assert!(identical > 20, "only {identical} of 200 kept their tokens: the case isn't tried");
}

#[test]
fn small_errors_do_lead_to_benign_divergences() {
    let other = Toy { error: 0.05, ..HONEST };
    let mut benign = 0;
    for job in 0..300 {
        let sampling = Sampling::new(job, 0.7, 30);
        let comparison = compared(&HONEST.summary(&sampling, "a"), &other.summary(&sampling, "b"), &sampling);
        if let Agreement::Benign { position } = comparison.agreement {
            assert_eq!(comparison.distance.positions, position + 1, "compared up to the divergence");
            benign += 1;
        }
    }
    assert!(benign > 10, "only {benign} of 300 diverged: the case isn't tried");
}

/// A job whose honest answer has at least three tokens and ends by itself.
fn ended() -> (Sampling, ReplicaSummary) {
    let jobs = (0..).map(|job| Sampling::new(job, 0.8, 60));
    let made = jobs.map(|sampling| (sampling, HONEST.summary(&sampling, "a")));
    let mut ended = made.filter(|(_, one)| one.numbers.len() > one.tokens.len() && one.tokens.len() >= 3);
    ended.next().unwrap()
}

#[test]
fn the_end_counts_as_a_token() {
    let (sampling, whole) = ended();
    let length = whole.tokens.len();
    let mut cut = whole.clone();
    cut.tokens.truncate(length - 1);
    cut.numbers.truncate(length - 1);
    // It goes on where the other ran out: nothing to excuse it.
    let comparison = compared(&whole, &cut, &sampling);
    assert_eq!(comparison.agreement, Agreement::Conflict { position: length - 1 });

    let mut early = whole.clone();
    early.tokens.truncate(1);
    early.numbers.truncate(2);
    early.numbers[1].top.pop();
    early.numbers[1].top.insert(0, (END, 99.0));
    assert_eq!(compared(&whole, &early, &sampling).agreement, Agreement::Conflict { position: 1 });
}

#[test]
fn a_changed_token_with_honest_numbers_is_a_conflict() {
    let (sampling, whole) = ended();
    for position in 0..whole.tokens.len() {
        let mut altered = whole.clone();
        altered.tokens[position] = 9_999;
        let comparison = compared(&whole, &altered, &sampling);
        assert_eq!(comparison.agreement, Agreement::Conflict { position });
        assert_eq!(comparison.gap, None, "the token is in nobody's list");
    }
}

/// Both lists hold both tokens; only how far apart they are decides, and the larger of the two gaps.
#[test]
fn the_gap_decides() {
    let sampling = Sampling::new(0, 0.0, 1);
    let replica = |first: (u32, f32), second: (u32, f32), hardware: &str| {
        let mut one = HONEST.summary(&sampling, hardware);
        one.tokens = vec![first.0];
        one.numbers.truncate(1);
        one.numbers[0].top = vec![first, second];
        one.numbers[0].log_sum_exp = 10.0;
        one
    };
    for (gap_a, gap_b, benign) in
        [(0.0, 0.0, true), (0.25, 0.25, true), (0.2, 0.3, false), (0.3, 0.2, false), (2.0, 0.0, false)]
    {
        let a = replica((1, 9.0), (2, 9.0 - gap_a), "a");
        let b = replica((2, 9.0), (1, 9.0 - gap_b), "b");
        let expected =
            if benign { Agreement::Benign { position: 0 } } else { Agreement::Conflict { position: 0 } };
        assert_eq!(compared(&a, &b, &sampling).agreement, expected, "gaps {gap_a} and {gap_b}");
        // Within one class nothing is excused.
        let b = replica((2, 9.0), (1, 8.999), "a");
        assert_eq!(compared(&a, &b, &sampling).agreement, Agreement::Conflict { position: 0 });
    }
}

#[test]
fn no_numbers_are_not_inside() {
    let (sampling, whole) = ended();
    let mut bare = whole.clone();
    bare.numbers.clear();
    assert_eq!(compared(&whole, &bare, &sampling).numbers, Numbers::Outside);
}
