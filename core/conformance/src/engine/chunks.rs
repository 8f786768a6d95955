//! Checks what an engine promises of prompts and scores that take several calls, and of what it keeps of them.

use infera_engine::whole;
use infera_engine::{Engine, Prompt, Row, Scoring, SequenceId};
use infera_types::ids::Digest;
use infera_types::numbers::TokenId;

use super::stage::{
    Promise, Script, assert_close, assert_misuse, check_step, done, name, only_row, prompts, rows_alone,
    scripts,
};

/// Makes `count` tokens that look random and are the same at each call with the same `seed`.
fn tokens(engine: &dyn Engine, seed: usize, count: usize) -> Vec<TokenId> {
    let vocabulary = engine.description().vocabulary;
    let token =
        |place: usize| TokenId::try_from((seed * 7_919 + place * 104_729 + place * place) % vocabulary);
    (0..count).map(|place| token(place).unwrap_or_default()).collect()
}

/// The lengths of prompts that end with each remainder of a chunk: in the second chunk, where the context has room for it,
/// and else in the first.
fn remainders(engine: &dyn Engine) -> Vec<usize> {
    let description = engine.description();
    let chunk = description.chunk_tokens.min(description.context_max.saturating_sub(2)).max(1);
    let begin = if 2 * chunk + 2 <= description.context_max { chunk } else { 0 };
    (begin + 1..=begin + chunk).collect()
}

/// Prompts that end with every remainder of a chunk, one token to a whole chunk, have the same row and the same next
/// step alone, beside others, and beside the next longer prompts in one call.
pub fn every_remainder_of_a_chunk_is_the_same_however_it_is_batched(
    engine: &mut dyn Engine,
    promise: Promise,
) {
    let most = engine.description().sequences_max.min(8);
    for lengths in remainders(engine).chunks(most) {
        let scripts: Vec<Script> = lengths
            .iter()
            .map(|&length| Script { prompt: tokens(engine, length, length), steps: vec![1] })
            .collect();
        let expected = rows_alone(engine, &scripts);
        let rows = done(whole::prefill(engine, &prompts(&scripts)));
        for ((row, expected), length) in rows.rows().zip(&expected).zip(lengths) {
            let what = format!("a prompt of {length} tokens in a batch");
            assert_close(row, &expected[0], promise.batch_tolerance, &what);
        }
        let all: Vec<usize> = (0..scripts.len()).rev().collect();
        check_step(engine, (&scripts, &expected), &mut vec![0; scripts.len()], &all, promise);
        engine.release(&(0..scripts.len()).map(name).collect::<Vec<_>>());
    }
}

/// A long prompt and a score advance by at most a chunk a call. Steps, starts and releases in between change neither them
/// nor the others, and a step of a sequence whose prompt is not complete is refused.
pub fn prompts_and_scores_go_on_between_steps(engine: &mut dyn Engine, promise: Promise) {
    let description = engine.description();
    let (chunk, context_max, vocabulary) =
        (description.chunk_tokens, description.context_max, description.vocabulary);
    let length = (chunk.saturating_mul(3) + 1).min(context_max - 1);
    let long = Script { prompt: tokens(engine, 3, length), steps: vec![2] };
    let scripts = scripts(engine, 2, 9);
    let (expected, expected_long) =
        (rows_alone(engine, &scripts), rows_alone(engine, std::slice::from_ref(&long)));
    let (scored_prompt, scored_answer) = long.prompt.split_at(length / 2);
    let expected_scores = done(whole::score(engine, scored_prompt, scored_answer));
    let _ = done(whole::prefill(engine, &prompts(&scripts)));
    let (joins, scored) = (SequenceId(5), SequenceId(6));
    let scoring = Scoring { sequence: scored, prompt: scored_prompt, answer: scored_answer };
    let other = Scoring { sequence: SequenceId(7), ..scoring };
    let (mut taken, mut first, mut rows) = (vec![0; 2], Vec::new(), Vec::new());
    let (mut left, mut left_to_score) = (length, length);
    while left > 0 || left_to_score > 0 {
        if left > 0 {
            let prompt = [Prompt::new(joins, &long.prompt)];
            let progress = done(engine.prefill(&prompt, &mut |rows| {
                rows.iter().for_each(|(_, row)| row.write(vocabulary, &mut first))
            }));
            left = advanced(left, progress[0].tokens_left, chunk);
        }
        if left_to_score > 0 {
            let mut visit = |place: usize, row: Row<'_>| {
                let mut values = Vec::new();
                row.write(vocabulary, &mut values);
                rows.push((place, values));
            };
            let progress = done(engine.score(&scoring, &mut visit));
            left_to_score = advanced(left_to_score, progress.tokens_left, chunk);
        }
        if left > 0 {
            assert_misuse(whole::decode(engine, &[(joins, 0)]), "a step before the prompt's end");
        }
        if left_to_score > 0 {
            assert_misuse(engine.score(&other, &mut |_, _| ()), "a second score");
        }
        if taken[0] < 9 {
            check_step(engine, (&scripts, &expected), &mut taken, &[1, 0], promise);
        } else {
            // Leaving moves what lies behind.
            engine.release(&[name(0), name(1)]);
        }
    }
    for ((place, row), expected) in rows.iter().zip(expected_scores.rows()) {
        assert_close(
            row,
            expected,
            promise.batch_tolerance,
            &format!("row {place} of a score between steps"),
        );
    }
    assert_eq!(
        rows.iter().map(|row| row.0).collect::<Vec<_>>(),
        (0..=scored_answer.len()).collect::<Vec<_>>()
    );
    assert_close(&first, &expected_long[0][0], promise.batch_tolerance, "a prompt between steps");
    let row = only_row(&done(whole::decode(engine, &[(joins, long.steps[0])])));
    assert_close(
        &row,
        &expected_long[0][1],
        promise.batch_tolerance,
        "the step after a prompt between steps",
    );
    engine.release(&[name(0), name(1), joins, scored]);
}

/// Returns what is left, after checking that a call advanced by one token at least and a chunk at most.
fn advanced(before: usize, left: usize, chunk: usize) -> usize {
    assert!(left < before && before - left <= chunk, "{left} tokens of {before} are left after one call");
    left
}

/// A prompt that begins like an earlier one of its scope has the same row, with whole chunks taken from the cache where the
/// engine has one. Other scopes, and prompts without one, find nothing; nor is anything found that decoding wrote.
pub fn only_prompts_of_one_scope_share_what_is_cached(engine: &mut dyn Engine, promise: Promise) {
    let description = engine.description().clone();
    let chunk = description.chunk_tokens;
    let length = (2 * chunk + chunk / 2 + 1).min(description.context_max - 1);
    let prompt = tokens(engine, 11, length);
    // The last token is always computed, for its row.
    let whole_chunks = (length - 1) / chunk * chunk;
    let found_at_most = if description.caches_prefixes { whole_chunks } else { 0 };
    let expected = rows_alone(engine, &[Script { prompt: prompt.clone(), steps: vec![3] }]);
    let [ours, theirs] = [b"ours", b"they"].map(|scope| Some(Digest::of(scope)));
    for (scope, found, what) in [
        (ours, 0, "the first of a scope"),
        (ours, found_at_most, "the second"),
        (theirs, 0, "another scope"),
        (None, 0, "no scope"),
        (ours, found_at_most, "the third"),
    ] {
        let prompt = Prompt { scope, ..Prompt::new(name(0), &prompt) };
        let (cached, row) = prefill_counted(engine, prompt);
        assert_eq!(cached, found, "cached tokens of {what}");
        assert_close(&row, &expected[0][0], promise.batch_tolerance, what);
        let row = only_row(&done(whole::decode(engine, &[(name(0), 3)])));
        assert_close(&row, &expected[0][1], promise.batch_tolerance, what);
        engine.release(&[name(0)]);
    }
    // The first part alone is computed as a prompt; what decoding adds up to the chunk's end must not be found.
    let short = tokens(engine, 13, chunk.min(description.context_max - 2) - 1);
    let scope = Some(Digest::of(b"decoded"));
    let _ = prefill_counted(engine, Prompt { scope, ..Prompt::new(name(0), &short) });
    let _ = done(whole::decode(engine, &[(name(0), 5)]));
    engine.release(&[name(0)]);
    let longer = [short.as_slice(), &[5, 6]].concat();
    let (cached, _) = prefill_counted(engine, Prompt { scope, ..Prompt::new(name(0), &longer) });
    assert_eq!(cached, 0, "decoding writes nothing that prompts may use");
    engine.release(&[name(0)]);
}

/// Computes a prompt to its end. Returns how much of it was cached, and its row.
fn prefill_counted(engine: &mut dyn Engine, prompt: Prompt<'_>) -> (usize, Vec<f32>) {
    let (vocabulary, mut row) = (engine.description().vocabulary, Vec::new());
    loop {
        let progress = done(engine.prefill(&[prompt], &mut |rows| {
            rows.iter().for_each(|(_, found)| found.write(vocabulary, &mut row))
        }))[0];
        if progress.is_complete() {
            return (progress.cached_tokens, row);
        }
    }
}
