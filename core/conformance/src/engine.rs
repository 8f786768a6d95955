//! Checks what every [`Engine`] promises, one promise at a time. The checks use the trait alone; the caller says how
//! exactly rows must agree ([`Promise`]), because not every engine promises equality to the bit.
//!
//! An implementation runs all checks with [`engine_conformance!`](crate::engine_conformance). Each check is given an
//! engine without sequences and leaves it without; prompts are arbitrary tokens, so any model will do.

mod chunks;
mod rows;
mod stage;

use infera_engine::whole;
use infera_engine::{Engine, Prompt, Scoring, SequenceId};
use infera_types::numbers::TokenId;

pub use stage::{Promise, difference};
use stage::{assert_close, assert_misuse, check_step, done, name, only_row, prompts, rows_alone, scripts};

pub use chunks::{
    every_remainder_of_a_chunk_is_the_same_however_it_is_batched,
    only_prompts_of_one_scope_share_what_is_cached, prompts_and_scores_go_on_between_steps,
};
pub use rows::rows_are_whole_where_it_is_said;

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
            every_remainder_of_a_chunk_is_the_same_however_it_is_batched
            prompts_and_scores_go_on_between_steps
            only_prompts_of_one_scope_share_what_is_cached
            rows_are_whole_where_it_is_said
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

/// A sequence's rows do not depend on the batch: in batches of 4 and 16 (as many as fit), in any order, and when only
/// some of the running sequences take a step.
pub fn a_row_does_not_depend_on_the_batch(engine: &mut dyn Engine, promise: Promise) {
    let most = engine.description().sequences_max;
    for batch in [4, 16].map(|batch: usize| batch.min(most)) {
        let scripts = scripts(engine, batch, 6);
        let expected = rows_alone(engine, &scripts);
        for (index, row) in done(whole::prefill(engine, &prompts(&scripts))).rows().enumerate() {
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
            let prompt = Prompt::new(name(joined), &scripts[joined].prompt);
            let row = only_row(&done(whole::prefill(engine, &[prompt])));
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
    let _ = done(whole::prefill(engine, &prompts(&scripts)));
    let extra = [Prompt::new(SequenceId(1), &scripts[0].prompt)];
    assert_misuse(whole::prefill(engine, &extra), "a sequence too many");
    engine.release(&[SequenceId(77), name(0)]);
    let again = [Prompt::new(name(0), &scripts[most - 1].prompt)];
    let row = only_row(&done(whole::prefill(engine, &again)));
    assert_close(&row, &expected[most - 1][0], promise.batch_tolerance, "a reused name");
    let row = only_row(&done(whole::decode(engine, &[(name(0), scripts[most - 1].steps[0])])));
    assert_close(&row, &expected[most - 1][1], promise.batch_tolerance, "a reused name's step");
    engine.release(&(0..most).map(name).collect::<Vec<_>>());
    assert_misuse(whole::decode(engine, &[(name(0), scripts[0].steps[0])]), "a released sequence");
}

/// Every refusal leaves the running sequences, their tokens and the free places as they were.
pub fn misuse_changes_nothing(engine: &mut dyn Engine, promise: Promise) {
    let scripts = scripts(engine, 2, 3);
    let expected = rows_alone(engine, &scripts);
    let outside = TokenId::try_from(engine.description().vocabulary).unwrap_or(TokenId::MAX);
    let _ = done(whole::prefill(engine, &prompts(&scripts)));
    let (here, free) = (name(0), SequenceId(1));
    let step = |index: usize| (name(index), scripts[index].steps[0]);
    for wrong in [vec![step(0), step(0)], vec![step(0), (free, 0)], vec![step(0), (name(1), outside)]] {
        assert_misuse(whole::decode(engine, &wrong), "a step");
    }
    let prompt = Prompt::new;
    let tokens: &[TokenId] = &scripts[0].prompt;
    for wrong in [
        [prompt(free, tokens), prompt(free, tokens)],
        [prompt(free, tokens), prompt(here, tokens)],
        [prompt(free, tokens), prompt(SequenceId(2), &[])],
        [prompt(free, tokens), prompt(SequenceId(2), &[outside])],
    ] {
        assert_misuse(whole::prefill(engine, &wrong), "a prompt");
    }
    assert_misuse(whole::score(engine, &[], &[0]), "an empty prompt to score");
    assert_misuse(whole::score(engine, tokens, &[outside]), "an answer outside the vocabulary");
    let taken = Scoring { sequence: here, prompt: tokens, answer: &[] };
    assert_misuse(engine.score(&taken, &mut |_, _| ()), "a score under a sequence's name");
    for step in 0..3 {
        check_step(engine, (&scripts, &expected), &mut [step, step], &[1, 0], promise);
    }
    assert_misuse(whole::decode(engine, &[(free, 0)]), "a sequence whose start was refused");
    engine.release(&[name(0), name(1)]);
}

/// `score` returns the rows that `prefill` and `decode` returned on the way to the same answer.
pub fn scores_agree_with_decoding(engine: &mut dyn Engine, promise: Promise) {
    let scripts = scripts(engine, 6, 8);
    let expected = rows_alone(engine, &scripts);
    for (script, expected) in scripts.iter().zip(expected) {
        let scores = done(whole::score(engine, &script.prompt, &script.steps));
        assert_eq!(scores.rows().len(), script.steps.len() + 1, "a row for each token, and one more");
        for (row, expected) in scores.rows().zip(&expected) {
            assert_close(row, expected, promise.score_tolerance, "a score");
        }
    }
    let none = done(whole::score(engine, &scripts[0].prompt, &[]));
    assert_eq!(none.rows().len(), 1, "an empty answer has the row that precedes its end");
}

/// A score between two steps changes neither the running sequences nor the room for more.
pub fn scoring_leaves_sequences_alone(engine: &mut dyn Engine, promise: Promise) {
    let most = engine.description().sequences_max;
    let scripts = scripts(engine, most, 3);
    let expected = rows_alone(engine, &scripts);
    let _ = done(whole::prefill(engine, &prompts(&scripts)));
    let all: Vec<usize> = (0..most).collect();
    let mut taken = vec![0; most];
    for script in scripts.iter().take(3) {
        let _ = done(whole::score(engine, &script.prompt, &script.steps));
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
    assert_misuse(whole::prefill(engine, &[Prompt::new(name(1), &over)]), "a prompt over the context");
    assert_misuse(whole::score(engine, &full, &script.prompt[..1]), "an answer over the context");
    let both = [Prompt::new(name(0), &script.prompt), Prompt::new(name(1), &full[..context_max - 1])];
    let first = done(whole::prefill(engine, &both));
    assert_close(
        &first.values[..first.vocabulary],
        &alone[0][0],
        promise.batch_tolerance,
        "beside a long one",
    );
    let last = done(whole::decode(engine, &[(name(0), script.steps[0]), (name(1), full[context_max - 1])]));
    let scores = done(whole::score(engine, &full[..context_max - 1], &full[context_max - 1..]));
    let (found, expected) = (&last.values[last.vocabulary..], &scores.values[last.vocabulary..]);
    assert_close(found, expected, promise.score_tolerance, "the context's last row");
    assert_misuse(whole::decode(engine, &[(name(1), 0)]), "a step over the context's end");
    let row = only_row(&done(whole::decode(engine, &[(name(0), script.steps[1])])));
    assert_close(&row, &alone[0][2], promise.batch_tolerance, "after another's end");
    engine.release(&[name(0), name(1)]);
}

/// Calls without sequences return no rows.
pub fn nothing_asked_is_nothing_done(engine: &mut dyn Engine, _: Promise) {
    assert_eq!(done(engine.prefill(&[], &mut |_| ())).len(), 0);
    assert_eq!(done(whole::decode(engine, &[])).rows().len(), 0);
    engine.release(&[]);
}
