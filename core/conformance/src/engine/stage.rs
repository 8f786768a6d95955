//! What the checks of engines share: sequences with all tokens that they will be given, their rows, and how closely rows must
//! agree.

use infera_engine::whole::{self, Logits};
use infera_engine::{Engine, EngineError, Prompt, SequenceId};
use infera_types::numbers::TokenId;

/// How closely rows agree that the trait calls equal: the largest difference of two logits.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// The largest difference between a sequence alone and the same sequence in any batch. 0 is equality to the bit.
    pub batch_tolerance: f32,
    /// The largest difference between `score` and `prefill` with `decode`.
    pub score_tolerance: f32,
}

impl Promise {
    /// The promise of equality to the bit, in any batch and of scores.
    pub const EXACT: Self = Self { batch_tolerance: 0.0, score_tolerance: 0.0 };
}

#[expect(clippy::panic, reason = "a broken promise must end the test that found it")]
pub(super) fn done<T>(result: Result<T, EngineError>) -> T {
    result.unwrap_or_else(|error| panic!("the engine refused what it must do: {error}"))
}

pub(super) fn assert_misuse<T>(result: Result<T, EngineError>, what: &str) {
    assert!(matches!(result, Err(EngineError::Misuse(_))), "{what} must be refused as misuse");
}

/// A sequence with all tokens that it will ever be given.
pub(super) struct Script {
    pub(super) prompt: Vec<TokenId>,
    pub(super) steps: Vec<TokenId>,
}

/// The rows of a script: after the prompt, and after each step.
pub(super) type Rows = Vec<Vec<f32>>;

/// Makes scripts of different lengths whose tokens look random and are the same at each call.
pub(super) fn scripts(engine: &dyn Engine, count: usize, steps: usize) -> Vec<Script> {
    let description = engine.description();
    let (mut state, vocabulary) = (0x9E37_79B9_7F4A_7C15_u64, description.vocabulary as u64);
    let mut token = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        TokenId::try_from((state >> 33) % vocabulary).unwrap_or_default()
    };
    let longest = description.context_max.saturating_sub(steps).clamp(1, 40);
    let lengths = (0..count).map(|index| (index * 7) % longest + 1);
    let mut tokens = |length: usize| (0..length).map(|_| token()).collect::<Vec<_>>();
    lengths.map(|length| Script { prompt: tokens(length), steps: tokens(steps) }).collect()
}

pub(super) fn name(index: usize) -> SequenceId {
    SequenceId(1000 + index as u64)
}

pub(super) fn prompts(scripts: &[Script]) -> Vec<Prompt<'_>> {
    scripts.iter().enumerate().map(|(index, script)| Prompt::new(name(index), &script.prompt)).collect()
}

pub(super) fn only_row(logits: &Logits) -> Vec<f32> {
    assert_eq!(logits.rows().len(), 1, "one row for one sequence");
    logits.values.clone()
}

/// Runs each script with nothing beside it and returns its rows.
pub(super) fn rows_alone(engine: &mut dyn Engine, scripts: &[Script]) -> Vec<Rows> {
    let mut all = Vec::new();
    for script in scripts {
        let prompt = Prompt::new(name(0), &script.prompt);
        let mut rows = vec![only_row(&done(whole::prefill(engine, &[prompt])))];
        for &token in &script.steps {
            rows.push(only_row(&done(whole::decode(engine, &[(name(0), token)]))));
        }
        engine.release(&[name(0)]);
        all.push(rows);
    }
    all
}

/// Returns the largest difference of two rows' logits; infinite for rows of different length.
#[must_use]
pub fn difference(one: &[f32], other: &[f32]) -> f32 {
    if one.len() != other.len() {
        return f32::INFINITY;
    }
    let apart =
        |(one, other): (&f32, &f32)| if one.to_bits() == other.to_bits() { 0.0 } else { (one - other).abs() };
    // NaN, which a maximum drops, is as wrong as a difference can be.
    one.iter()
        .zip(other)
        .map(apart)
        .fold(0.0, |most, one| if one.is_nan() { f32::INFINITY } else { most.max(one) })
}

pub(super) fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    let difference = difference(found, expected);
    assert!(difference <= tolerance, "{what}: logits differ by {difference}, more than {tolerance}");
}

/// Decodes one step of the chosen scripts and compares their rows.
pub(super) fn check_step(
    engine: &mut dyn Engine,
    (scripts, expected): (&[Script], &[Rows]),
    taken: &mut [usize],
    chosen: &[usize],
    promise: Promise,
) {
    let steps: Vec<_> =
        chosen.iter().map(|&index| (name(index), scripts[index].steps[taken[index]])).collect();
    let logits = done(whole::decode(engine, &steps));
    assert_eq!(logits.rows().len(), chosen.len(), "a row for each step");
    for (&index, row) in chosen.iter().zip(logits.rows()) {
        taken[index] += 1;
        assert_close(row, &expected[index][taken[index]], promise.batch_tolerance, "decode in a batch");
    }
}
