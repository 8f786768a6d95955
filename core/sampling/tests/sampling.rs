//! Tests job-bound sampling against vectors from a second implementation (`vectors/check_sampling.py`), and its
//! properties.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use infera_sampling::{
    GUMBEL_MAX, GUMBEL_MIN, Noise, Rules, Said, Terms, cache_scope, choose, choose_among, draw_key, noised,
    sample_key,
};
use infera_types::ids::{AccountId, Digest, JobId};
use infera_types::job::{JobRequest, Seed};
use infera_types::knobs::Knobs;
use infera_types::messages::TOP_COUNT;
use infera_types::numbers::{Rest, Row, TokenId};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    keys: Vec<KeyCase>,
    gumbels: Vec<GumbelCase>,
    rows: Vec<Vec<Logit>>,
    choices: Vec<ChoiceCase>,
    knobs: Vec<KnobsCase>,
}

#[derive(Deserialize)]
struct KeyCase {
    secret: Digest,
    job: String,
    model: Digest,
    request: JobRequest,
    sample_key: Digest,
    draw_key: Digest,
}

#[derive(Deserialize)]
struct GumbelCase {
    key: Digest,
    choice: u32,
    position: u32,
    token: TokenId,
    /// The f64's bytes, highest first, in hexadecimal.
    gumbel: String,
}

/// A finite number, or `nan`, `inf`, `-inf`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Logit {
    Finite(f32),
    Odd(String),
}

#[derive(Deserialize)]
struct ChoiceCase {
    key: Digest,
    choice: u32,
    position: u32,
    temperature: f64,
    row: usize,
    top: Vec<(TokenId, f32)>,
    log_sum_exp: String,
}

#[derive(Deserialize)]
struct KnobsCase {
    key: Digest,
    choice: u32,
    temperature: f64,
    row: usize,
    knobs: Knobs,
    top_logprobs: u8,
    prompt: Vec<TokenId>,
    said: Vec<TokenId>,
    end_tokens: Vec<TokenId>,
    top: Vec<(TokenId, f32)>,
    log_sum_exp: String,
    logit_max: f32,
    likeliest: Vec<(TokenId, f32)>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors/sampling.json")).expect("the vectors are JSON")
}

fn bits(hexadecimal: &str) -> u64 {
    u64::from_str_radix(hexadecimal, 16).expect("hexadecimal")
}

fn values(row: &[Logit]) -> Vec<f32> {
    let value = |logit: &Logit| match logit {
        Logit::Finite(value) => *value,
        Logit::Odd(word) => word.parse().expect("a float's word"),
    };
    row.iter().map(value).collect()
}

#[test]
fn keys_match_the_vectors() {
    for case in vectors().keys {
        let mut job = [0; 16];
        hex::decode_to_slice(&case.job, &mut job).expect("sixteen bytes");
        let job = JobId::from_bytes(job);
        assert_eq!(
            sample_key(&case.secret, job, &case.request, &case.model),
            case.sample_key,
            "{:?}",
            case.request
        );
        assert_eq!(draw_key(&case.secret, job), case.draw_key);
    }
}

#[test]
fn noise_matches_the_vectors_to_the_bit() {
    for case in vectors().gumbels {
        let gumbel = Noise::new(&case.key, case.choice).gumbel(case.position, case.token);
        assert_eq!(gumbel.to_bits(), bits(&case.gumbel), "{gumbel} for token {}", case.token);
    }
}

#[test]
fn choices_match_the_vectors_to_the_bit() {
    let Vectors { rows, choices, .. } = vectors();
    for case in choices {
        let row = values(&rows[case.row]);
        let chosen = choose(&row, case.temperature, &Noise::new(&case.key, case.choice), case.position);
        let where_it_is = format!("row {} at temperature {}", case.row, case.temperature);
        assert_eq!(chosen.token, case.top[0].0, "{where_it_is}");
        assert_eq!(chosen.numbers.top, case.top, "{where_it_is}");
        assert_eq!(chosen.numbers.log_sum_exp.to_bits(), bits(&case.log_sum_exp), "{where_it_is}");
    }
}

#[test]
fn choices_by_knobs_match_the_vectors_to_the_bit() {
    let Vectors { rows, knobs, .. } = vectors();
    assert!(knobs.len() > 60);
    let exact = |list: &[(TokenId, f32)]| -> Vec<(TokenId, u32)> {
        list.iter().map(|&(token, logit)| (token, logit.to_bits())).collect()
    };
    for case in knobs {
        let rules = Rules::new(&Terms {
            temperature: case.temperature,
            knobs: &case.knobs,
            top_logprobs: Some(case.top_logprobs),
            end_tokens: &case.end_tokens,
            prompt: &case.prompt,
        });
        let (row, said) = (values(&rows[case.row]), Said::of(&case.said));
        let chosen = rules.choose(Row::Full(&row), &said, &Noise::new(&case.key, case.choice));
        let case_name = format!("row {} at {} with {:?}", case.row, case.temperature, case.knobs);
        assert_eq!(chosen.token, case.top[0].0, "{case_name}");
        assert_eq!(exact(&chosen.numbers.top), exact(&case.top), "{case_name}");
        assert_eq!(exact(&chosen.numbers.likeliest), exact(&case.likeliest), "{case_name}");
        assert_eq!(chosen.numbers.logit_max, Some(case.logit_max), "{case_name}");
        assert_eq!(chosen.numbers.log_sum_exp.to_bits(), bits(&case.log_sum_exp), "{case_name}");
    }
}

#[test]
fn a_seed_replaces_secret_and_job() {
    let mut request = vectors().keys.swap_remove(0).request;
    let (model, jobs) = (Digest::of(b"model"), [JobId::new(), JobId::new()]);
    let keys = |request: &JobRequest| {
        [Digest::of(b"one"), Digest::of(b"two")]
            .iter()
            .flat_map(|secret| jobs.map(|job| sample_key(secret, job, request, &model)))
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(keys(&request).len(), 4, "each secret and each job has its own");
    request.seed = Some(Seed::Signed(7));
    let seeded = keys(&request);
    assert_eq!(seeded.len(), 1);
    request.seed = Some(Seed::Signed(8));
    assert!(keys(&request).is_disjoint(&seeded));
    request.seed = Some(Seed::Signed(7));
    request.max_tokens += 1;
    assert!(keys(&request).is_disjoint(&seeded), "another request draws other noise");
}

/// Returns all noised scores, sorted: the plain definition, which skips nothing and does not rely on the order of
/// ids.
fn by_definition(row: &[f32], temperature: f64, noise: &Noise, position: u32) -> Vec<TokenId> {
    let mut scored: Vec<(f64, TokenId)> = Vec::new();
    for (token, &logit) in (0..).zip(row) {
        scored.insert(0, (noised(logit, temperature, noise, position, token), token));
    }
    scored.sort_by(|one, other| other.0.partial_cmp(&one.0).expect("finite").then(one.1.cmp(&other.1)));
    scored.truncate(TOP_COUNT);
    scored.into_iter().map(|(_, token)| token).collect()
}

/// Generates rows that make pruning hard: ties, few distinct values, wide and narrow spreads, odd values.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![
        8 => -30.0_f32..30.0,
        4 => prop::sample::select(vec![0.0_f32, 1.0, 1.0, 5.5]),
        1 => prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN, f32::MAX, -0.0]),
    ];
    let narrow = prop::collection::vec(-1.0_f32..1.0, 1..400);
    prop_oneof![
        prop::collection::vec(logit, 1..400),
        narrow,
        (1_usize..50).prop_map(|length| vec![3.0; length])
    ]
}

proptest! {
    #[test]
    fn pruning_changes_nothing(
        row in rows(),
        temperature in prop_oneof![Just(0.0), 1e-9..3.0_f64, Just(1e-300), Just(1e6)],
        key in any::<[u8; 32]>(),
        position in any::<u32>(),
    ) {
        let noise = Noise::new(&Digest::from_bytes(key), 0);
        let chosen = choose(&row, temperature, &noise, position);
        let tokens: Vec<TokenId> = chosen.numbers.top.iter().map(|entry| entry.0).collect();
        prop_assert_eq!(&tokens, &by_definition(&row, temperature, &noise, position));
        prop_assert_eq!(chosen.token, tokens[0]);
    }

    #[test]
    fn logits_left_out_of_the_sum_change_nothing_that_is_compared(row in prop::collection::vec(-200.0_f32..200.0, 1..400)) {
        let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        let numbers = choose(&row, 0.0, &Noise::new(&Digest::of(b"key"), 0), 0).numbers;
        prop_assert!((numbers.log_sum_exp - sum.ln()).abs() <= 1e-12, "{} is not {}", numbers.log_sum_exp, sum.ln());
    }

    #[test]
    fn noise_stays_in_its_range(key in any::<[u8; 32]>(), token in any::<u32>(), position in any::<u32>()) {
        let gumbel = Noise::new(&Digest::from_bytes(key), 0).gumbel(position, token);
        prop_assert!((GUMBEL_MIN..=GUMBEL_MAX).contains(&gumbel));
    }

    #[test]
    fn reported_numbers_are_finite(row in rows(), temperature in -1.0..3.0_f64) {
        let numbers = choose(&row, temperature, &Noise::new(&Digest::of(b"key"), 0), 0).numbers;
        prop_assert!(numbers.log_sum_exp.is_finite());
        prop_assert!(numbers.top.iter().all(|entry| entry.1.is_finite()));
        prop_assert_eq!(numbers.top.len(), row.len().min(TOP_COUNT));
    }
}

#[test]
fn greedy_takes_the_highest_logit_and_the_lowest_id_of_equals() {
    let noise = Noise::new(&Digest::of(b"key"), 0);
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let chosen = choose(&[1.0, 4.0, 4.0, 2.0, 4.0, 3.0], temperature, &noise, 9);
        assert_eq!(chosen.numbers.top, [(1, 4.0), (2, 4.0), (4, 4.0), (5, 3.0)], "temperature {temperature}");
    }
}

/// Returns Pearson's statistic of 20,000 choices at `temperature` against softmax(logits / expected_temperature).
fn chi_square(logits: &[f32], temperature: f64, expected_temperature: f64) -> f64 {
    let draws = 20_000;
    let noise = Noise::new(&Digest::of(b"distribution"), 0);
    let mut counts = vec![0_u32; logits.len()];
    for position in 0..draws {
        counts[choose(logits, temperature, &noise, position).token as usize] += 1;
    }
    let weights: Vec<f64> =
        logits.iter().map(|&logit| (f64::from(logit) / expected_temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    let term = |(count, weight): (&u32, &f64)| {
        let expected = f64::from(draws) * weight / total;
        (f64::from(*count) - expected).powi(2) / expected
    };
    counts.iter().zip(&weights).map(term).sum()
}

#[test]
fn choices_are_drawn_from_softmax() {
    let logits = [0.0, 0.5, 1.0, -0.5, 1.5, 0.2, -1.0, 0.9];
    // With seven degrees of freedom, 29.9 is exceeded once in 10,000 keys, and this key is fixed.
    for temperature in [0.5, 1.0, 2.0] {
        let statistic = chi_square(&logits, temperature, temperature);
        assert!(statistic < 29.9, "{statistic} at temperature {temperature}");
    }
    assert!(chi_square(&logits, 1.0, 1.2) > 29.9, "the statistic tells temperatures apart");
}

#[test]
fn a_scope_is_one_accounts_in_one_epoch() {
    let [first, second] = [b"one", b"two"].map(|secret| Digest::of(secret));
    let [ours, theirs] = ["acct1", "acct2"].map(AccountId::new);
    assert_eq!(cache_scope(&first, &ours), cache_scope(&first, &ours));
    assert_ne!(cache_scope(&first, &ours), cache_scope(&first, &theirs));
    assert_ne!(cache_scope(&first, &ours), cache_scope(&second, &ours));
    // HMAC-SHA256 under 32 bytes of 7, by Python: hmac.digest(bytes([7] * 32), b"cache" + b"acct1", "sha256").hex()
    let known = cache_scope(&Digest::from_bytes([7; 32]), &ours);
    assert_eq!(known.to_string(), "b3252e9c2f958787358f20e1301831ffca7726d0b6107fe9b7252788371dc32b");
}

proptest! {
    #[test]
    fn a_row_of_the_likeliest_tokens_gives_what_the_whole_row_gives_where_the_others_cannot_win(
        listed in prop::collection::btree_map(0_u32..400, 30.0_f32..60.0, 4..12),
        key in any::<[u8; 32]>(),
        temperature in prop_oneof![Just(0.0), 0.01..1.0],
        position in 0_u32..100,
    ) {
        // The others are so low that no noise lifts them: 25.3 apart at most.
        let mut row = vec![-1.0_f32; 400];
        for (&token, &logit) in &listed { row[token as usize] = logit; }
        let others = (400 - listed.len()) as f64;
        let rest = Rest { logit_max: -1.0, log_sum_exp: others.ln() - 1.0 };
        let mut entries: Vec<(TokenId, f32)> = listed.into_iter().collect();
        entries.reverse();
        let noise = Noise::new(&Digest::from_bytes(key), 0);
        let (whole, known) =
            (choose(&row, temperature, &noise, position), choose_among(&entries, rest, temperature, &noise, position));
        prop_assert_eq!(whole.token, known.token);
        prop_assert_eq!(whole.numbers.top, known.numbers.top);
        prop_assert!((whole.numbers.log_sum_exp - known.numbers.log_sum_exp).abs() < 1e-9);
    }
}

#[test]
fn odd_rests_give_finite_numbers() {
    let noise = Noise::new(&Digest::of(b"key"), 0);
    for log_sum_exp in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
        let rest = Rest { logit_max: f32::NAN, log_sum_exp };
        for entries in [vec![], vec![(7, f32::NAN), (9, 1.0)]] {
            let choice = choose_among(&entries, rest, 1.0, &noise, 0);
            assert!(choice.numbers.log_sum_exp.is_finite(), "{log_sum_exp}");
        }
    }
}
