//! Tests of the stub engine: the promises of every engine, and that it answers and takes time as configured.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::{Duration, Instant};

use infera_conformance::engine::Promise;
use infera_engine::stub::{StubConfig, StubEngine};
use infera_engine::{Engine, EngineError, Prompt, SequenceId, whole};
use infera_sampling::{GUMBEL_MAX, GUMBEL_MIN, Noise, choose};
use infera_types::ids::Digest;
use infera_types::numbers::TokenId;

/// The highest temperature at which noise cannot lift another token over the canned one, which leads by 128.
const TEMPERATURE_MAX: f64 = 128.0 / (GUMBEL_MAX - GUMBEL_MIN);

fn stub(config: StubConfig) -> StubEngine {
    StubEngine::new(config).expect("a sound configuration")
}

infera_conformance::engine_conformance!(stub(StubConfig::default()), Promise::EXACT);

/// The same in chunks of three tokens, and with rows that hold the four highest logits alone.
mod in_chunks {
    use super::*;
    infera_conformance::engine_conformance!(
        stub(StubConfig { chunk_tokens: 3, top_rows: true, ..StubConfig::default() }),
        Promise::EXACT
    );
}

/// Decodes until the end token, as a worker does.
fn answer(engine: &mut StubEngine, prompt: &[TokenId], temperature: f64, key: &[u8]) -> Vec<TokenId> {
    let (sequence, noise) = (SequenceId(5), Noise::new(&Digest::of(key), 0));
    let mut logits = whole::prefill(engine, &[Prompt::new(sequence, prompt)]).expect("room");
    let mut tokens = Vec::new();
    for position in 0.. {
        let token = choose(&logits.values, temperature, &noise, position).token;
        if token == StubConfig::default().end_token {
            break;
        }
        tokens.push(token);
        logits = whole::decode(engine, &[(sequence, token)]).expect("within the context");
    }
    engine.release(&[sequence]);
    tokens
}

#[test]
fn stubs_agree_on_an_answer_that_depends_on_the_prompt_alone() {
    let spread = StubConfig { decode_us: 10, spread: 1.0, spread_seed: 9, ..StubConfig::default() };
    let mut engines = [stub(StubConfig::default()), stub(spread), stub(StubConfig::default())];
    let _ = whole::prefill(&mut engines[2], &[Prompt::new(SequenceId(1), &[1])]);
    let [one, two, three] = engines.each_mut().map(|engine| answer(engine, &[10, 11, 12], 0.0, b"one"));
    assert_eq!(one.len(), StubConfig::default().answer_tokens);
    assert!(one.iter().all(|token| (7..768).contains(token)));
    assert_eq!(one, two);
    assert_eq!(one, three);
    assert_ne!(one, answer(&mut engines[0], &[10, 11, 13], 0.0, b"one"));
    assert_eq!(one, answer(&mut engines[0], &[10, 11, 12], TEMPERATURE_MAX, b"another key"));
}

#[test]
fn a_step_takes_its_time_whatever_is_in_it() {
    let mut engine = stub(StubConfig { prefill_us: 20_000, decode_us: 5_000, ..StubConfig::default() });
    let prompts: Vec<_> = (0..8).map(|index| Prompt::new(SequenceId(index), &[1, 2])).collect();
    let begin = Instant::now();
    let _ = engine.prefill(&prompts, &mut |_| ()).expect("room");
    assert!(begin.elapsed() >= Duration::from_millis(20));
    let begin = Instant::now();
    let steps: Vec<_> = (0..8).map(|index| (SequenceId(index), 9)).collect();
    for _ in 0..4 {
        engine.decode(&steps, &mut |_| ()).expect("running");
    }
    assert!(begin.elapsed() >= Duration::from_millis(20), "four steps of five milliseconds");
}

#[test]
fn unsound_configurations_are_refused() {
    let sound = StubConfig::default();
    for config in [
        StubConfig { vocabulary: 767, ..sound.clone() },
        StubConfig { end_token: 768, ..sound.clone() },
        StubConfig { end_token: 7, ..sound.clone() },
        StubConfig { token_min: 9, token_max: 8, ..sound.clone() },
        StubConfig { sequences_max: 0, ..sound.clone() },
        StubConfig { context_max: 0, ..sound.clone() },
        StubConfig { chunk_tokens: 0, ..sound.clone() },
        StubConfig { spread: 1.1, ..sound.clone() },
        StubConfig { spread: f64::NAN, ..sound },
    ] {
        assert!(matches!(StubEngine::new(config.clone()), Err(EngineError::Load(_))), "{config:?}");
    }
    assert!(serde_json::from_str::<StubConfig>(r#"{"decode_us": 5, "unknown": 1}"#).is_err());
    let partial: StubConfig = serde_json::from_str(r#"{"decode_us": 5}"#).expect("the rest by default");
    assert_eq!(partial, StubConfig { decode_us: 5, ..StubConfig::default() });
}
