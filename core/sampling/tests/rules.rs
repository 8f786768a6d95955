//! Tests sampling version 2 against its definition, computed without any shortcut.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::collections::BTreeMap;

use infera_sampling::{Noise, Rules, Said, Terms, choose, noised};
use infera_types::ids::Digest;
use infera_types::knobs::Knobs;
use infera_types::messages::TOP_COUNT;
use infera_types::numbers::{Rest, Row, TokenId};
use proptest::prelude::*;

/// The plain definition: penalties, bias, masks, top_k, top_p, min_p, then noise.
fn by_definition(row: &[f32], case: &Case, noise: &Noise) -> Vec<(TokenId, f32)> {
    let Knobs { top_p, top_k, min_p, logit_bias, .. } = &case.knobs;
    let knob = |value: Option<f64>, neutral: f64| value.unwrap_or(neutral);
    let position = u32::try_from(case.said.len()).unwrap();
    let mut left: Vec<(f64, TokenId, f32)> = Vec::new();
    for (token, &raw) in (0..).zip(row) {
        let raw = if raw.is_nan() { f32::MIN } else { raw.clamp(f32::MIN, f32::MAX) };
        let times = case.said.iter().filter(|said| **said == token).count();
        let mut logit = f64::from(raw);
        if times > 0 || case.prompt.contains(&token) {
            let penalty = knob(case.knobs.repetition_penalty, 1.0);
            logit = if logit > 0.0 { logit / penalty } else { logit * penalty };
        }
        if times > 0 {
            logit -= times as f64 * knob(case.knobs.frequency_penalty, 0.0);
            logit -= knob(case.knobs.presence_penalty, 0.0);
        }
        logit += logit_bias.get(&token).copied().unwrap_or_default();
        left.push((logit, token, raw));
    }
    let masks = case.knobs.ignore_eos || position < case.knobs.min_tokens;
    let is_masked = |token: TokenId| masks && case.end_tokens.contains(&token);
    if left.iter().any(|(_, token, _)| !is_masked(*token)) {
        left.retain(|(_, token, _)| !is_masked(*token));
    }
    let descending = |one: &(f64, TokenId, f32), other: &(f64, TokenId, f32)| {
        other.0.partial_cmp(&one.0).unwrap().then(one.1.cmp(&other.1))
    };
    left.sort_by(descending);
    if let Some(count) = top_k {
        left.truncate(*count as usize);
    }
    let highest = left[0].0;
    let weight = |logit: f64| if highest - logit > 64.0 { 0.0 } else { libm::exp(logit - highest) };
    if let Some(share) = top_p.filter(|share| *share < 1.0) {
        let mut by_id = left.clone();
        by_id.sort_by_key(|entry| entry.1);
        let all: f64 = by_id.iter().map(|entry| weight(entry.0)).sum();
        let mut reached = 0.0;
        let enough = left.iter().position(|entry| {
            reached += weight(entry.0);
            reached >= share * all
        });
        left.truncate(enough.map_or(left.len(), |last| last + 1));
    }
    if let Some(min_p) = min_p.filter(|min_p| *min_p > 0.0) {
        left.retain(|entry| entry.0 >= highest + libm::log(min_p));
    }
    for entry in &mut left {
        if case.temperature > 0.0 {
            entry.0 += case.temperature * noise.gumbel(position, entry.1);
        }
    }
    left.sort_by(descending);
    left.truncate(TOP_COUNT);
    left.into_iter().map(|(_, token, raw)| (token, raw)).collect()
}

#[derive(Clone, Debug)]
struct Case {
    knobs: Knobs,
    temperature: f64,
    prompt: Vec<TokenId>,
    said: Vec<TokenId>,
    end_tokens: Vec<TokenId>,
    top_logprobs: Option<u8>,
}

impl Case {
    fn rules(&self) -> Rules {
        Rules::new(&Terms {
            temperature: self.temperature,
            knobs: &self.knobs,
            top_logprobs: self.top_logprobs,
            end_tokens: &self.end_tokens,
            prompt: &self.prompt,
        })
    }
}

prop_compose! {
    fn leaving_out()(
        top_p in prop::option::of(prop_oneof![Just(0.0), Just(1.0), 0.01_f64..1.0]),
        top_k in prop::option::of(1_u32..60),
        min_p in prop::option::of(prop_oneof![Just(0.0), Just(1.0), 0.0001_f64..1.0]),
    ) -> Knobs {
        Knobs { top_p, top_k, min_p, ..Knobs::default() }
    }
}

prop_compose! {
    fn knobs()(
        left in prop_oneof![Just(Knobs::default()), leaving_out()],
        frequency_penalty in prop::option::of(-2.0_f64..2.0),
        presence_penalty in prop::option::of(-2.0_f64..2.0),
        repetition_penalty in prop::option::of(0.1_f64..2.0),
        logit_bias in prop::collection::btree_map(0_u32..420, -100.0_f64..100.0, 0..4),
        min_tokens in 0_u32..6,
        ignore_eos in prop::bool::weighted(0.2),
    ) -> Knobs {
        Knobs { frequency_penalty, presence_penalty, repetition_penalty, logit_bias, min_tokens, ignore_eos, ..left }
    }
}

prop_compose! {
    fn cases()(
        knobs in prop_oneof![1 => Just(Knobs::default()), 6 => knobs()],
        temperature in prop_oneof![Just(0.0), 0.01_f64..2.0],
        prompt in prop::collection::vec(0_u32..400, 0..20),
        said in prop::collection::vec(0_u32..400, 0..10),
        end_tokens in prop::collection::vec(0_u32..5, 0..4),
        top_logprobs in prop::option::of(0_u8..21),
    ) -> Case {
        Case { knobs, temperature, prompt, said, end_tokens, top_logprobs }
    }
}

/// Generates rows with ties, few distinct values, wide and narrow spreads, and odd values.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    let odd = prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0]);
    let logit = prop_oneof![
        8 => -30.0_f32..30.0,
        4 => prop::sample::select(vec![0.0_f32, -0.0, 1.0, 1.0, 5.5]),
        1 => odd,
    ];
    prop_oneof![
        prop::collection::vec(logit, 1..400),
        prop::collection::vec(-1.0_f32..1.0, 1..400),
        (1_usize..50).prop_map(|length| vec![3.0; length])
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_choice_is_by_the_definition(row in rows(), case in cases(), seed in any::<u64>()) {
        let noise = Noise::new(&Digest::of(&seed.to_le_bytes()), 3);
        let (rules, said) = (case.rules(), Said::of(&case.said));
        let chosen = rules.choose(Row::Full(&row), &said, &noise);
        let expected = by_definition(&row, &case, &noise);
        prop_assert_eq!(&chosen.numbers.top, &expected);
        prop_assert_eq!(chosen.token, expected[0].0);
        // The order is that of the scores, which who checks a replica recomputes.
        let scores: Vec<f64> =
            expected.iter().map(|(token, raw)| rules.score(*token, *raw, &said, &noise)).collect();
        prop_assert!(scores.is_sorted_by(|one, other| one >= other), "{:?}", scores);
        // Numbers are raw whatever the knobs.
        let plain = choose(&row, 0.0, &noise, 0).numbers;
        prop_assert_eq!(chosen.numbers.log_sum_exp.to_bits(), plain.log_sum_exp.to_bits());
        prop_assert_eq!(chosen.numbers.logit_max, plain.top.first().map(|entry| entry.1));
        prop_assert_eq!(chosen.numbers.likeliest.len(), row.len().min(rules.likeliest_count()));
        let shared = chosen.numbers.likeliest.len().min(TOP_COUNT);
        prop_assert_eq!(&chosen.numbers.likeliest[..shared], &plain.top[..shared]);
        // All of a row as a list of the likeliest gives the same.
        let mut entries: Vec<(TokenId, f32)> = (0..).zip(row.iter().copied()).collect();
        entries.reverse();
        let rest = Rest { logit_max: f32::MIN, log_sum_exp: f64::NEG_INFINITY };
        let listed = rules.choose(Row::Top { entries: &entries, rest }, &said, &noise);
        prop_assert_eq!(listed.numbers.top, chosen.numbers.top);
    }

    #[test]
    fn without_knobs_it_is_the_first_version(row in rows(), temperature in 0.0_f64..2.0, said in prop::collection::vec(0_u32..400, 0..10)) {
        let noise = Noise::new(&Digest::of(b"noise"), 0);
        let terms = Terms { temperature, knobs: &Knobs::default(), top_logprobs: None, end_tokens: &[1], prompt: &[] };
        let said = Said::of(&said);
        let chosen = Rules::new(&terms).choose(Row::Full(&row), &said, &noise);
        prop_assert_eq!(chosen, choose(&row, temperature, &noise, said.position()));
        prop_assert_eq!(
            Rules::new(&terms).score(3, 1.5, &said, &noise).to_bits(),
            noised(1.5, temperature, &noise, said.position(), 3).to_bits()
        );
    }
}

#[test]
fn knobs_that_mean_nothing_change_nothing() {
    let row: Vec<f32> = (0_u8..200).map(|token| f32::from(token % 17)).collect();
    let noise = Noise::new(&Digest::of(b"noise"), 0);
    let knobs = Knobs {
        top_p: Some(f64::NAN),
        top_k: Some(0),
        min_p: Some(-1.0),
        frequency_penalty: Some(f64::INFINITY),
        presence_penalty: Some(f64::NAN),
        repetition_penalty: Some(-1.0),
        logit_bias: BTreeMap::from([(1, f64::NAN)]),
        ..Knobs::default()
    };
    let terms = Terms { temperature: 0.8, knobs: &knobs, top_logprobs: None, end_tokens: &[1], prompt: &[1] };
    let said = Said::of(&[1, 2, 3]);
    let chosen = Rules::new(&terms).choose(Row::Full(&row), &said, &noise);
    assert_eq!(chosen, choose(&row, 0.8, &noise, 3));
}

#[test]
fn rules_keep_the_prompt_only_where_they_look_at_it() {
    let keeps = |repetition_penalty| {
        let knobs = Knobs { repetition_penalty, top_k: Some(3), ..Knobs::default() };
        let prompt = &[7, 3, 7, 1];
        let terms = Terms { temperature: 0.8, knobs: &knobs, top_logprobs: None, end_tokens: &[1], prompt };
        Rules::new(&terms).prompt().to_vec()
    };
    assert_eq!(keeps(Some(1.2)), [1, 3, 7]);
    assert_eq!(keeps(None), [0; 0]);
}
