//! L0 of answers to requests with knobs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use infera_model::chat::ChatModel;
use infera_types::ids::{AssignmentId, Digest, JobId};
use infera_types::job::FinishReason;
use infera_types::knobs::Knobs;
use infera_types::messages::{Replica, ReplicaTiming};
use infera_types::numbers::TokenId;
use infera_verifier::decisions::integrity::{Expected, Fault, Spelled, check};
use proptest::prelude::*;

use super::sample::{Decoded, END, Sampling, Wish, class, uniform, wishes};

static CHAT: LazyLock<ChatModel> = LazyLock::new(|| {
    ChatModel::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/infera-tiny")).unwrap()
});

/// A text and the token that completed a stop string.
type Text = (String, Option<usize>);

fn words(tokens: &[TokenId]) -> Text {
    (tokens.iter().map(|token| format!("w{token} ")).collect(), None)
}

fn spelled(tokens: &[TokenId], knobs: &Knobs) -> Text {
    let text = CHAT.answer_text(tokens, knobs).unwrap();
    (text.text, text.stopped_at)
}

fn replica(decoded: &Decoded, text: &str) -> Replica {
    Replica {
        attempt: None,
        assignment_id: AssignmentId::from_bytes([1; 16]),
        job_id: JobId::from_bytes([2; 16]),
        numeric_class: class("toy", "a"),
        prompt_hash: Digest::of(b"prompt"),
        prompt_tokens: 5,
        cached_tokens: 0,
        rendering: 2,
        text: text.to_owned(),
        tokens: decoded.tokens.clone(),
        finish_reason: decoded.finish_reason,
        numbers: decoded.numbers.clone(),
        timing: ReplicaTiming::default(),
    }
}

/// Checks a replica against what was wished; its text by the verifier is `text`.
fn checked(replica: &Replica, wish: &Wish, end_tokens: &[TokenId], text: &Text) -> Result<(), Fault> {
    check(
        replica,
        &Expected {
            assignment: replica.assignment_id,
            job: replica.job_id,
            model_digest: &Digest::of(b"toy"),
            prompt_hash: &Digest::of(b"prompt"),
            prompt_tokens: 5,
            max_tokens: u32::try_from(wish.sampling.max_tokens).unwrap(),
            context_max: 64,
            end_tokens,
            spelled: Some(Spelled { text: &text.0, stopped_at: text.1 }),
            rules: &wish.rules_ended_by(end_tokens),
            noise: wish.noise(),
            has_logit_max: true,
        },
    )
}

/// Rows of any spread, with ties where they are coarse.
#[derive(Clone, Copy, Debug)]
struct Rows {
    seed: u64,
    spread: f32,
    grid: f32,
    vocabulary: u32,
}

impl Rows {
    fn row(&self, prefix: &[TokenId]) -> Vec<f32> {
        let at = [prefix.len() as u64, prefix.last().map_or(0, |token| u64::from(*token) + 1)];
        let logit = |token: TokenId| {
            let exact = self.spread * (uniform([self.seed, at[0], at[1], u64::from(token)]) - 0.5);
            if self.grid > 0.0 { (exact / self.grid).round() * self.grid } else { exact }
        };
        (0..self.vocabulary).map(logit).collect()
    }
}

fn rows(vocabulary: impl Strategy<Value = u32>) -> impl Strategy<Value = Rows> {
    let spread = prop_oneof![Just(0.0_f32), 0.1_f32..60.0];
    let grid = prop_oneof![2 => Just(0.0_f32), 1 => Just(0.5_f32)];
    (any::<u64>(), spread, grid, vocabulary).prop_map(|(seed, spread, grid, vocabulary)| Rows {
        seed,
        spread,
        grid,
        vocabulary,
    })
}

/// Asserts that an honest answer passes, also after the way over the broker, and that one that is changed at `at` doesn't.
fn assert_judged(
    decoded: &Decoded,
    wish: &Wish,
    (end_tokens, at): (&[TokenId], usize),
    text_of: impl Fn(&[TokenId]) -> Text,
) -> Result<(), TestCaseError> {
    let text = text_of(&decoded.tokens);
    let honest = replica(decoded, &text.0);
    prop_assert_eq!(checked(&honest, wish, end_tokens, &text), Ok(()), "{:?}", decoded);
    let arrived: Replica = serde_json::from_slice(&serde_json::to_vec(&honest).unwrap()).unwrap();
    prop_assert_eq!(checked(&arrived, wish, end_tokens, &text), Ok(()));

    let row = at % honest.numbers.len();
    let found = |change: &dyn Fn(&mut Replica)| {
        let mut changed = honest.clone();
        change(&mut changed);
        let text = text_of(&changed.tokens);
        changed.text.clone_from(&text.0);
        checked(&changed, wish, end_tokens, &text)
    };
    if honest.numbers[row].top.len() > 1 {
        let swapped = found(&|one| one.numbers[row].top.swap(0, 1));
        prop_assert!(swapped.is_err(), "{:?}", swapped);
    }
    if row < honest.tokens.len() {
        let other = (0..9).find(|token| *token != honest.tokens[row] && !end_tokens.contains(token)).unwrap();
        let altered = found(&|one| one.tokens[row] = other);
        prop_assert!(altered.is_err(), "{:?}", altered);
    }
    prop_assert_eq!(found(&|one| one.numbers[row].logit_max = None), Err(Fault::LogitMax { position: row }));
    if wish.top_logprobs.is_some_and(|count| count > 0) {
        let fault = Err(Fault::Likeliest { position: row });
        prop_assert_eq!(found(&|one| one.numbers[row].likeliest.truncate(0)), fault);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn honest_answers_pass_whatever_the_knobs(wish in wishes(8), rows in rows(40_u32..120), at: usize) {
        let decoded = wish.answer(&[END, 7], |prefix| rows.row(prefix), |_| false);
        assert_judged(&decoded, &wish, (&[END, 7], at), words)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// The same with a real tokenizer and stop strings.
    #[test]
    fn honest_answers_that_a_stop_string_ends_pass(
        wish in wishes(12),
        rows in rows(Just(512)),
        stop in prop::collection::vec(prop::sample::select(vec!["e", "a", " t", "in", "er", "\n", "s", "o"]), 0..4),
        at: usize,
    ) {
        let mut wish = wish;
        wish.knobs.stop = stop.into_iter().map(str::to_owned).collect();
        let mut stream = CHAT.answer_stream(&wish.knobs);
        let decoded = wish.answer(CHAT.end_tokens(), |prefix| rows.row(prefix), |token| {
            stream.push(token).unwrap().is_complete
        });
        assert_judged(&decoded, &wish, (CHAT.end_tokens(), at), |tokens| spelled(tokens, &wish.knobs))?;
    }
}

/// The same row at every position: `END` is likely, and 1 is the likeliest.
const ROW: [f32; 12] = [4.0, 6.0, 5.5, 5.0, 4.5, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0];
/// The same, but `END` is the likeliest.
const ENDING: [f32; 12] = [9.0, 6.0, 5.5, 5.0, 4.5, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0];

fn greedy(knobs: Knobs) -> Wish {
    Sampling::new(1, 0.0, 4).wishing(knobs)
}

fn of(wish: &Wish, row: &[f32]) -> Replica {
    let decoded = wish.answer(&[END], |_| row.to_vec(), |_| false);
    replica(&decoded, &words(&decoded.tokens).0)
}

fn judged(replica: &Replica, wish: &Wish) -> Result<(), Fault> {
    checked(replica, wish, &[END], &words(&replica.tokens))
}

/// What L0 says of a node that passes over the knobs.
#[test]
fn a_node_that_passes_over_a_knob_is_found_where_its_numbers_show_it() {
    let bias = |token, value| BTreeMap::from([(token, value)]);
    let order = |position| Err(Fault::Order { position });
    let plain = Knobs::default;
    for (row, knobs, found) in [
        (ROW, Knobs { frequency_penalty: Some(1.0), ..plain() }, order(1)),
        (ROW, Knobs { presence_penalty: Some(1.0), ..plain() }, order(1)),
        (ROW, Knobs { repetition_penalty: Some(2.0), ..plain() }, order(0)),
        (ROW, Knobs { logit_bias: bias(1, -100.0), ..plain() }, order(0)),
        (ROW, Knobs { logit_bias: bias(4, 9.0), ..plain() }, order(0)),
        (ENDING, Knobs { min_tokens: 1, ..plain() }, Err(Fault::Masked { position: 0 })),
        (ENDING, Knobs { ignore_eos: true, ..plain() }, Err(Fault::Masked { position: 0 })),
        (ROW, Knobs { top_k: Some(3), ..plain() }, Err(Fault::List { position: 0 })),
        (ROW, Knobs { min_p: Some(0.5), ..plain() }, Err(Fault::LeftOut { position: 0 })),
        // Of these the four best tell nothing: a token that no list has, and the share of the likeliest.
        (ROW, Knobs { logit_bias: bias(9, 100.0), ..plain() }, Ok(())),
        (ROW, Knobs { top_p: Some(0.5), ..plain() }, Ok(())),
    ] {
        let wish = Wish { prompt: vec![1], ..greedy(knobs) };
        assert_eq!(judged(&of(&wish, &row), &wish), Ok(()), "honest: {:?}", wish.knobs);
        assert_eq!(judged(&of(&greedy(plain()), &row), &wish), found, "{:?}", wish.knobs);
        // Without the prompt's tokens, the verifier could not know.
        let blind = Wish { prompt: Vec::new(), ..wish.clone() };
        let is_prompts = wish.knobs.look_at_prompt();
        assert_eq!(judged(&of(&wish, &row), &blind).is_err(), is_prompts, "{:?}", wish.knobs);
    }
}

#[test]
fn what_the_likeliest_and_the_highest_show_of_knobs_is_found() {
    let with = |top_logprobs, knobs| Wish { top_logprobs, ..greedy(knobs) };
    let bias = Knobs { logit_bias: BTreeMap::from([(9, 100.0)]), ..Knobs::default() };
    let (wish, passes_over) = (with(Some(12), bias), with(Some(12), Knobs::default()));
    assert_eq!(judged(&of(&passes_over, &ROW), &wish), Err(Fault::Order { position: 0 }));

    // The two best are 1 and 2.
    let two = Knobs { top_k: Some(2), ..Knobs::default() };
    for (top_logprobs, found) in [(None, Ok(())), (Some(3), Err(Fault::LeftOut { position: 0 }))] {
        let wish = with(top_logprobs, two.clone());
        let mut lies = of(&wish, &ROW);
        lies.numbers[0].top[1] = (3, ROW[3]);
        assert_eq!(judged(&lies, &wish), found, "{top_logprobs:?}");
    }
    for (knobs, temperature, token, found) in [
        // Greedy, the best is the highest.
        (Knobs { top_k: Some(1), ..Knobs::default() }, 0.0, 2, Fault::LogitMax { position: 0 }),
        (Knobs { top_k: Some(1), ..Knobs::default() }, 1.0, 2, Fault::LeftOut { position: 0 }),
        (Knobs { min_p: Some(0.5), ..Knobs::default() }, 1.0, 3, Fault::LeftOut { position: 0 }),
    ] {
        let mut wish = greedy(knobs);
        wish.sampling.temperature = temperature;
        let mut lies = of(&wish, &ROW);
        lies.numbers[0].top = vec![(token, ROW[token as usize])];
        lies.tokens[0] = token;
        lies.text = words(&lies.tokens).0;
        assert_eq!(judged(&lies, &wish), Err(found), "{:?}", wish.knobs);
    }
}

/// Each of a request's answers has noise of its own.
#[test]
fn another_choice_is_found() {
    let mut wish = Sampling::new(3, 1.0, 30).wishing(Knobs { ignore_eos: true, ..Knobs::default() });
    let first = of(&wish, &ROW);
    wish.choice = 1;
    assert_eq!(judged(&of(&wish, &ROW), &wish), Ok(()));
    let found = judged(&first, &wish);
    assert!(matches!(found, Err(Fault::Order { .. } | Fault::LogitMax { .. })), "{found:?}");
}

type Change = fn(&mut infera_types::numbers::TokenNumbers);

#[test]
fn a_false_number_is_named() {
    let wish = Wish { top_logprobs: Some(6), ..greedy(Knobs::default()) };
    let likeliest = Fault::Likeliest { position: 1 };
    let (highest, infinite) = (Fault::LogitMax { position: 1 }, Fault::NotFinite { position: 1 });
    let table: [(Fault, Change); 17] = [
        (likeliest, |row| row.likeliest.clear()),
        (likeliest, |row| row.likeliest.push((7, -3.0))),
        (likeliest, |row| row.likeliest.swap(0, 1)),
        (likeliest, |row| row.likeliest[5] = row.likeliest[4]),
        // Says another logit of a token than the list of the best does.
        (likeliest, |row| row.likeliest[1].1 += 0.25),
        // Leaves out 2, which is among the best.
        (likeliest, |row| {
            row.likeliest.remove(1);
            row.likeliest.push((6, -2.0));
        }),
        (likeliest, |row| row.likeliest[5].1 = 4.25),
        (infinite, |row| row.likeliest[5].1 = f32::NEG_INFINITY),
        (infinite, |row| row.logit_max = Some(f32::NAN)),
        (infinite, |row| row.log_sum_exp = f64::NAN),
        (highest, |row| row.logit_max = None),
        (highest, |row| row.logit_max = Some(5.9)),
        (highest, |row| row.logit_max = Some(6.1)),
        (highest, |row| row.logit_max = Some(90.0)),
        // Both first ones are higher than the highest.
        (highest, |row| {
            row.likeliest[0].1 += 0.5;
            row.top[0].1 += 0.5;
            row.log_sum_exp += 0.5;
        }),
        (Fault::LogSumExp { position: 1 }, |row| row.log_sum_exp = 6.01),
        (Fault::Order { position: 1 }, |row| row.top[3] = row.likeliest[5]),
    ];
    for (number, (expected, change)) in table.into_iter().enumerate() {
        let mut replica = of(&wish, &ROW);
        assert_eq!(judged(&replica, &wish), Ok(()));
        change(&mut replica.numbers[1]);
        assert_eq!(judged(&replica, &wish), Err(expected), "number {number} of the table");
    }
    // Where no likeliest tokens were asked for, the highest logit is held to the best token's score alone.
    let bare = greedy(Knobs::default());
    for (logit_max, is_found) in [(5.9, true), (6.0, false), (6.1, true)] {
        let mut replica = of(&bare, &ROW);
        replica.numbers[1].logit_max = Some(logit_max);
        assert_eq!(judged(&replica, &bare), if is_found { Err(highest) } else { Ok(()) });
    }
    let mut replica = of(&bare, &ROW);
    replica.numbers[1].likeliest = vec![(1, 6.0)];
    assert_eq!(judged(&replica, &bare), Err(likeliest), "not asked for");
}

#[test]
fn a_node_that_announced_no_highest_logit_need_not_tell_it() {
    let wish = Sampling::new(5, 0.8, 8).wishing(Knobs::default());
    let mut older = of(&wish, &ROW);
    older.numbers.iter_mut().for_each(|row| row.logit_max = None);
    assert_eq!(judged(&older, &wish), Err(Fault::LogitMax { position: 0 }));
    let text = words(&older.tokens);
    let expected = Expected {
        assignment: older.assignment_id,
        job: older.job_id,
        model_digest: &Digest::of(b"toy"),
        prompt_hash: &Digest::of(b"prompt"),
        prompt_tokens: 5,
        max_tokens: 8,
        context_max: 64,
        end_tokens: &[END],
        spelled: Some(Spelled { text: &text.0, stopped_at: None }),
        rules: &wish.rules(),
        noise: wish.noise(),
        has_logit_max: false,
    };
    assert_eq!(check(&older, &expected), Ok(()));
}

#[test]
fn an_end_by_a_stop_string_is_held_to_the_text() {
    let said: [TokenId; 3] = [300, 301, 302];
    let stop = CHAT.decode(&said[1..2]).unwrap();
    assert!(!CHAT.decode(&said[..1]).unwrap().contains(&stop), "the first token doesn't complete it");
    let end = CHAT.end_tokens();
    let wish = greedy(Knobs { stop: vec![stop], ..Knobs::default() });
    // What a node answers that says these tokens and then ends its turn, unless `stops` after a token.
    let answer = |stops_after: usize, max_tokens: usize, finish_reason| {
        let mut wish = wish.clone();
        wish.sampling.max_tokens = max_tokens;
        let row = |prefix: &[TokenId]| {
            let wanted = said.get(prefix.len()).copied().unwrap_or(end[0]);
            (0..512).map(|token| if token == wanted { 20.0 } else { 0.0 }).collect()
        };
        let mut count = 0;
        let stops = |_| {
            count += 1;
            count == stops_after
        };
        let decoded = Decoded { finish_reason, ..wish.answer(end, row, stops) };
        let text = spelled(&decoded.tokens, &wish.knobs);
        (replica(&decoded, &text.0), wish, text)
    };
    let (stop, length) = (FinishReason::Stop, FinishReason::Length);
    for (stops_after, max_tokens, finish_reason, expected) in [
        (2, 8, stop, Ok(())),
        // It is complete with the last token that was allowed.
        (2, 2, stop, Ok(())),
        (2, 2, length, Err(Fault::Length)),
        // It goes on.
        (3, 8, stop, Err(Fault::StopInside { position: 1 })),
        (9, 8, stop, Err(Fault::StopInside { position: 1 })),
        (9, 3, length, Err(Fault::StopInside { position: 1 })),
        // None is complete.
        (1, 8, stop, Err(Fault::NumbersCount)),
        (9, 1, length, Ok(())),
    ] {
        let (replica, wish, text) = answer(stops_after, max_tokens, finish_reason);
        let found = checked(&replica, &wish, end, &text);
        assert_eq!(found, expected, "{stops_after} {max_tokens} {finish_reason:?}");
    }
    // A row behind it, and the text with the stop string.
    let (honest, wish, text) = answer(2, 8, stop);
    let mut longer = honest.clone();
    longer.numbers.push(honest.numbers[1].clone());
    assert_eq!(checked(&longer, &wish, end, &text), Err(Fault::NumbersCount));
    let whole = Replica { text: CHAT.decode(&honest.tokens).unwrap(), ..honest.clone() };
    assert_eq!(checked(&whole, &wish, end, &text), Err(Fault::Text));
    // Says an end of the turn behind one token, which the row doesn't show.
    let mut cut = answer(1, 8, stop).0;
    cut.numbers.push(honest.numbers[1].clone());
    assert_eq!(checked(&cut, &wish, end, &spelled(&cut.tokens, &wish.knobs)), Err(Fault::Stop));
    // Before the fewest tokens it is text like any other.
    let patient = Wish { knobs: Knobs { min_tokens: 3, ..wish.knobs.clone() }, ..wish };
    let text = spelled(&honest.tokens, &patient.knobs);
    assert_eq!(text.1, None);
    let early = Replica { text: text.0.clone(), ..honest };
    assert_eq!(checked(&early, &patient, end, &text), Err(Fault::NumbersCount));
}
