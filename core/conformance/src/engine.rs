//! Checks what every [`Engine`] promises, one promise at a time. The checks use the trait alone; the caller says how
//! exactly rows must agree ([`Promise`]), because not every engine promises equality to the bit.
//!
//! An implementation runs all checks with [`engine_conformance!`](crate::engine_conformance). Each check is given an
//! engine without sequences and leaves it without; prompts are arbitrary tokens, so any model will do.

use infera_engine::{Engine, EngineError, Logits, Prompt, SequenceId};
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

/// Makes one test per promise. The arguments are an expression for an engine, and a [`Promise`].
///
/// ```
/// use infera_conformance::engine::Promise;
/// use infera_engine::stub::{StubConfig, StubEngine};
///
/// infera_conformance::engine_conformance!(StubEngine::new(StubConfig::default()).unwrap(), Promise::EXACT);
/// ```
#[macro_export]
macro_rules! engine_conformance {
    ($make:expr, $promise:expr) => {
        $crate::engine_conformance!(@each $make, $promise;
            a_row_does_not_depend_on_the_batch
            sequences_join_and_leave_between_any_two_steps
            names_and_places_are_free_after_release
            misuse_changes_nothing
            scores_agree_with_decoding
            scoring_leaves_sequences_alone
            the_context_ends_where_it_is_said_to
            nothing_asked_is_nothing_done
        );
    };
    (@each $make:expr, $promise:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                $crate::engine::$check(&mut $make, $promise);
            }
        )*
    };
}

#[expect(clippy::panic, reason = "a broken promise must end the test that found it")]
fn done<T>(result: Result<T, EngineError>) -> T {
    result.unwrap_or_else(|error| panic!("the engine refused what it must do: {error}"))
}

fn assert_misuse<T>(result: Result<T, EngineError>, what: &str) {
    assert!(matches!(result, Err(EngineError::Misuse(_))), "{what} must be refused as misuse");
}

/// A sequence with all tokens that it will ever be given.
struct Script {
    prompt: Vec<TokenId>,
    steps: Vec<TokenId>,
}

/// The rows of a script: after the prompt, and after each step.
type Rows = Vec<Vec<f32>>;

/// Makes scripts of different lengths whose tokens look random and are the same at each call.
fn scripts(engine: &dyn Engine, count: usize, steps: usize) -> Vec<Script> {
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

fn name(index: usize) -> SequenceId {
    SequenceId(1000 + index as u64)
}

fn prompts(scripts: &[Script]) -> Vec<Prompt<'_>> {
    scripts
        .iter()
        .enumerate()
        .map(|(index, script)| Prompt { sequence: name(index), tokens: &script.prompt })
        .collect()
}

fn only_row(logits: &Logits) -> Vec<f32> {
    assert_eq!(logits.rows().len(), 1, "one row for one sequence");
    logits.values.clone()
}

/// Runs each script with nothing beside it and returns its rows.
fn rows_alone(engine: &mut dyn Engine, scripts: &[Script]) -> Vec<Rows> {
    let mut all = Vec::new();
    for script in scripts {
        let prompt = Prompt { sequence: name(0), tokens: &script.prompt };
        let mut rows = vec![only_row(&done(engine.prefill(&[prompt])))];
        for &token in &script.steps {
            rows.push(only_row(&done(engine.decode(&[(name(0), token)]))));
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

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    let difference = difference(found, expected);
    assert!(difference <= tolerance, "{what}: logits differ by {difference}, more than {tolerance}");
}

/// A sequence's rows do not depend on the batch: in batches of 4 and 16 (as many as fit), in any order, and when only
/// some of the running sequences take a step.
pub fn a_row_does_not_depend_on_the_batch(engine: &mut dyn Engine, promise: Promise) {
    let most = engine.description().sequences_max;
    for batch in [4, 16].map(|batch: usize| batch.min(most)) {
        let scripts = scripts(engine, batch, 6);
        let expected = rows_alone(engine, &scripts);
        for (index, row) in done(engine.prefill(&prompts(&scripts))).rows().enumerate() {
            assert_close(row, &expected[index][0], promise.batch_tolerance, "prefill in a batch");
        }
        let mut taken = vec![0; batch];
        for step in 0..12 {
            // Each step takes another half of the sequences, in another order; after twelve steps all have taken six.
            let mut chosen: Vec<usize> = (0..batch).filter(|index| (index + step) % 2 == 0).collect();
            let turn = step % chosen.len().max(1);
            chosen.rotate_left(turn);
            check_step(engine, (&scripts, &expected), &mut taken, &chosen, promise);
        }
        assert!(taken.iter().all(|&steps| steps == 6));
        engine.release(&(0..batch).map(name).collect::<Vec<_>>());
    }
}

/// Decodes one step of the chosen scripts and compares their rows.
fn check_step(
    engine: &mut dyn Engine,
    (scripts, expected): (&[Script], &[Rows]),
    taken: &mut [usize],
    chosen: &[usize],
    promise: Promise,
) {
    let steps: Vec<_> =
        chosen.iter().map(|&index| (name(index), scripts[index].steps[taken[index]])).collect();
    let logits = done(engine.decode(&steps));
    assert_eq!(logits.rows().len(), chosen.len(), "a row for each step");
    for (&index, row) in chosen.iter().zip(logits.rows()) {
        taken[index] += 1;
        assert_close(row, &expected[index][taken[index]], promise.batch_tolerance, "decode in a batch");
    }
}

/// One sequence joins before each step, and each leaves when its script is over; none affects the others.
pub fn sequences_join_and_leave_between_any_two_steps(engine: &mut dyn Engine, promise: Promise) {
    let mut scripts = scripts(engine, 12, 9);
    for (index, script) in scripts.iter_mut().enumerate() {
        script.steps.truncate(1 + (index * 5) % 9);
    }
    let expected = rows_alone(engine, &scripts);
    let (mut taken, mut joined, mut running) = (vec![0; scripts.len()], 0, Vec::new());
    while joined < scripts.len() || !running.is_empty() {
        if joined < scripts.len() && running.len() < engine.description().sequences_max {
            let prompt = Prompt { sequence: name(joined), tokens: &scripts[joined].prompt };
            let row = only_row(&done(engine.prefill(&[prompt])));
            assert_close(&row, &expected[joined][0], promise.batch_tolerance, "prefill beside others");
            running.push(joined);
            joined += 1;
        }
        check_step(engine, (&scripts, &expected), &mut taken, &running, promise);
        let (over, still): (Vec<usize>, Vec<usize>) =
            running.iter().partition(|&&index| taken[index] == scripts[index].steps.len());
        engine.release(&over.into_iter().map(name).collect::<Vec<_>>());
        running = still;
    }
}

/// A full engine refuses; a release makes room, the released name can be used again, and unknown names are ignored.
pub fn names_and_places_are_free_after_release(engine: &mut dyn Engine, promise: Promise) {
    let most = engine.description().sequences_max;
    let scripts = scripts(engine, most, 2);
    let expected = rows_alone(engine, &scripts);
    let _ = done(engine.prefill(&prompts(&scripts)));
    let extra = [Prompt { sequence: SequenceId(1), tokens: &scripts[0].prompt }];
    assert_misuse(engine.prefill(&extra), "a sequence too many");
    engine.release(&[SequenceId(77), name(0)]);
    let again = [Prompt { sequence: name(0), tokens: &scripts[most - 1].prompt }];
    let row = only_row(&done(engine.prefill(&again)));
    assert_close(&row, &expected[most - 1][0], promise.batch_tolerance, "a reused name");
    let row = only_row(&done(engine.decode(&[(name(0), scripts[most - 1].steps[0])])));
    assert_close(&row, &expected[most - 1][1], promise.batch_tolerance, "a reused name's step");
    engine.release(&(0..most).map(name).collect::<Vec<_>>());
    assert_misuse(engine.decode(&[(name(0), scripts[0].steps[0])]), "a released sequence");
}

/// Every refusal leaves the running sequences, their tokens and the free places as they were.
pub fn misuse_changes_nothing(engine: &mut dyn Engine, promise: Promise) {
    let scripts = scripts(engine, 2, 3);
    let expected = rows_alone(engine, &scripts);
    let outside = TokenId::try_from(engine.description().vocabulary).unwrap_or(TokenId::MAX);
    let _ = done(engine.prefill(&prompts(&scripts)));
    let (here, free) = (name(0), SequenceId(1));
    let step = |index: usize| (name(index), scripts[index].steps[0]);
    for wrong in [vec![step(0), step(0)], vec![step(0), (free, 0)], vec![step(0), (name(1), outside)]] {
        assert_misuse(engine.decode(&wrong), "a step");
    }
    let prompt = |sequence, tokens| Prompt { sequence, tokens };
    let tokens: &[TokenId] = &scripts[0].prompt;
    for wrong in [
        [prompt(free, tokens), prompt(free, tokens)],
        [prompt(free, tokens), prompt(here, tokens)],
        [prompt(free, tokens), prompt(SequenceId(2), &[])],
        [prompt(free, tokens), prompt(SequenceId(2), &[outside])],
    ] {
        assert_misuse(engine.prefill(&wrong), "a prompt");
    }
    assert_misuse(engine.score(&[], &[0]), "an empty prompt to score");
    assert_misuse(engine.score(tokens, &[outside]), "an answer outside the vocabulary");
    for step in 0..3 {
        check_step(engine, (&scripts, &expected), &mut [step, step], &[1, 0], promise);
    }
    assert_misuse(engine.decode(&[(free, 0)]), "a sequence whose start was refused");
    engine.release(&[name(0), name(1)]);
}

/// `score` returns the rows that `prefill` and `decode` returned on the way to the same answer.
pub fn scores_agree_with_decoding(engine: &mut dyn Engine, promise: Promise) {
    let scripts = scripts(engine, 6, 8);
    let expected = rows_alone(engine, &scripts);
    for (script, expected) in scripts.iter().zip(expected) {
        let scores = done(engine.score(&script.prompt, &script.steps));
        assert_eq!(scores.rows().len(), script.steps.len() + 1, "a row for each token, and one more");
        for (row, expected) in scores.rows().zip(&expected) {
            assert_close(row, expected, promise.score_tolerance, "a score");
        }
    }
    let none = done(engine.score(&scripts[0].prompt, &[]));
    assert_eq!(none.rows().len(), 1, "an empty answer has the row that precedes its end");
}

/// A score between two steps changes neither the running sequences nor the room for more.
pub fn scoring_leaves_sequences_alone(engine: &mut dyn Engine, promise: Promise) {
    let most = engine.description().sequences_max;
    let scripts = scripts(engine, most, 3);
    let expected = rows_alone(engine, &scripts);
    let _ = done(engine.prefill(&prompts(&scripts)));
    let all: Vec<usize> = (0..most).collect();
    let mut taken = vec![0; most];
    for script in scripts.iter().take(3) {
        let _ = done(engine.score(&script.prompt, &script.steps));
        check_step(engine, (&scripts, &expected), &mut taken, &all, promise);
    }
    engine.release(&all.into_iter().map(name).collect::<Vec<_>>());
}

/// A prompt may fill the context; then no step can follow, whatever other sequences run. One token more is refused.
pub fn the_context_ends_where_it_is_said_to(engine: &mut dyn Engine, promise: Promise) {
    let context_max = engine.description().context_max;
    let script = &scripts(engine, 1, 4)[0];
    let alone = rows_alone(engine, std::slice::from_ref(script));
    let full: Vec<TokenId> = script.prompt.iter().copied().cycle().take(context_max).collect();
    let over = [full.as_slice(), &script.prompt[..1]].concat();
    assert_misuse(
        engine.prefill(&[Prompt { sequence: name(1), tokens: &over }]),
        "a prompt over the context",
    );
    assert_misuse(engine.score(&full, &script.prompt[..1]), "an answer over the context");
    let both = [
        Prompt { sequence: name(0), tokens: &script.prompt },
        Prompt { sequence: name(1), tokens: &full[..context_max - 1] },
    ];
    let first = done(engine.prefill(&both));
    assert_close(
        &first.values[..first.vocabulary],
        &alone[0][0],
        promise.batch_tolerance,
        "beside a long one",
    );
    let last = done(engine.decode(&[(name(0), script.steps[0]), (name(1), full[context_max - 1])]));
    let scores = done(engine.score(&full[..context_max - 1], &full[context_max - 1..]));
    let (found, expected) = (&last.values[last.vocabulary..], &scores.values[last.vocabulary..]);
    assert_close(found, expected, promise.score_tolerance, "the context's last row");
    assert_misuse(engine.decode(&[(name(1), 0)]), "a step over the context's end");
    let row = only_row(&done(engine.decode(&[(name(0), script.steps[1])])));
    assert_close(&row, &alone[0][2], promise.batch_tolerance, "after another's end");
    engine.release(&[name(0), name(1)]);
}

/// Calls without sequences return no rows.
pub fn nothing_asked_is_nothing_done(engine: &mut dyn Engine, _: Promise) {
    assert_eq!(done(engine.prefill(&[])).rows().len(), 0);
    assert_eq!(done(engine.decode(&[])).rows().len(), 0);
    engine.release(&[]);
}
