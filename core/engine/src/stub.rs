//! An engine without a model: it takes the time and gives the answers that its configuration says. It serves to
//! measure and test everything around an engine: benchmarks of gateway, verifier and broker, and whole-path tests
//! that need no ONNX Runtime.
//!
//! It does not imitate a model: its logits are one high number and three lower ones in a row of zeros, so that
//! sampling costs what it does when a model is certain, and not what an unordered row would cost. The logits depend
//! on the prompt and the position alone, so any number of stubs with the same configuration agree on every answer, at
//! any temperature up to 5; above that, noise can lift another token over the canned one.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::admission::{check_decode, check_prefill, check_score};
use super::{Engine, EngineDescription, EngineError, Logits, Prompt, SequenceId};
use infera_types::ids::Digest;
use infera_types::messages::TOP_COUNT;
use infera_types::numbers::{NumericClass, TokenId};

/// The logit of the next token.
const PEAK: f32 = 256.0;

/// The logit of the three tokens after it, which are reported beside it; all others have 0.
const RUNNER_UP: f32 = 128.0;
const RUNNERS_UP: usize = TOP_COUNT - 1;

/// What a stub answers, and how long it takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StubConfig {
    /// How long a prefill takes, whatever its size, in microseconds. 0 by default, because stubs usually serve to
    /// measure everything but the engine.
    pub prefill_us: u64,
    /// How long a step of the whole batch takes, in microseconds. 0 by default.
    pub decode_us: u64,
    /// How far a single service time may differ from these: uniformly within `1 ± spread` of them. 0 (fixed) by
    /// default; at most 1.
    pub spread: f64,
    /// Makes the varying service times of several stubs differ; answers don't depend on it.
    pub spread_seed: u64,
    /// Tokens of each answer before the end token. 16 by default, which is a short sentence.
    pub answer_tokens: usize,
    /// The length of a row of logits. 768 by default, as `infera-tiny` has, so that its tokenizer can read the
    /// answers.
    pub vocabulary: usize,
    /// The token that ends an answer. 2 by default, `infera-tiny`'s end of text.
    pub end_token: TokenId,
    /// The lowest canned token. 7 by default: `infera-tiny`'s special tokens lie below.
    pub token_min: TokenId,
    /// The highest canned token. 767 by default, `infera-tiny`'s last. The end token must lie outside the two.
    pub token_max: TokenId,
    /// The most tokens that prompt and answer may have together. 512 by default, as `infera-tiny` has.
    pub context_max: usize,
    /// How many sequences may run at once. 64 by default: enough to keep the measured parts busy.
    pub sequences_max: usize,
    /// The digest that the stub announces.
    pub model_digest: Digest,
}

impl Default for StubConfig {
    fn default() -> Self {
        Self {
            prefill_us: 0,
            decode_us: 0,
            spread: 0.0,
            spread_seed: 0,
            answer_tokens: 16,
            vocabulary: 768,
            end_token: 2,
            token_min: 7,
            token_max: 767,
            context_max: 512,
            sequences_max: 64,
            model_digest: Digest::of(b"infera stub"),
        }
    }
}

/// A running sequence: what its answer is drawn from, and its progress.
#[derive(Clone)]
struct Sequence {
    /// The hash of the prompt's tokens.
    prompt: Digest,
    prompt_tokens: usize,
    answered_tokens: usize,
}

impl Sequence {
    fn new(prompt: &[TokenId]) -> Self {
        let bytes: Vec<u8> = prompt.iter().flat_map(|token| token.to_le_bytes()).collect();
        Self { prompt: Digest::of(&bytes), prompt_tokens: prompt.len(), answered_tokens: 0 }
    }

    fn length(&self) -> usize {
        self.prompt_tokens + self.answered_tokens
    }
}

/// The engine; see the module.
pub struct StubEngine {
    config: StubConfig,
    description: EngineDescription,
    sequences: BTreeMap<SequenceId, Sequence>,
    calls: u32,
}

impl StubEngine {
    /// Makes a stub by `config`.
    ///
    /// # Errors
    /// [`EngineError::Load`] if no token or no sequence is possible, or the spread is not within 0 and 1.
    pub fn new(config: StubConfig) -> Result<Self, EngineError> {
        let canned = config.token_min..=config.token_max;
        let highest = config.token_max.max(config.end_token) as usize;
        if canned.is_empty() || canned.contains(&config.end_token) || highest >= config.vocabulary {
            let text = "the stub's canned tokens and its end token must be apart and within its vocabulary";
            return Err(EngineError::Load(text.to_owned()));
        }
        if config.context_max == 0 || config.sequences_max == 0 {
            return Err(EngineError::Load(
                "the stub's context_max and sequences_max must be at least 1".to_owned(),
            ));
        }
        if !(0.0..=1.0).contains(&config.spread) {
            return Err(EngineError::Load(format!(
                "the stub's spread is {}, not within 0 and 1",
                config.spread
            )));
        }
        let numeric_class = NumericClass {
            model_digest: config.model_digest,
            provider: "stub".to_owned(),
            hardware: "any".to_owned(),
            runtime: "none".to_owned(),
            compute: "none".to_owned(),
        };
        let (vocabulary, context_max) = (config.vocabulary, config.context_max);
        let description =
            EngineDescription { numeric_class, vocabulary, context_max, sequences_max: config.sequences_max };
        Ok(Self { config, description, sequences: BTreeMap::new(), calls: 0 })
    }

    /// Takes the time of one call by sleeping, as a thread that waits for a GPU does.
    fn serve(&mut self, mean_us: u64) {
        self.calls = self.calls.wrapping_add(1);
        if mean_us > 0 {
            let draw = hashed_draw(&self.config.spread_seed.to_le_bytes(), u64::from(self.calls));
            #[expect(clippy::cast_precision_loss, reason = "53 bits of a share are plenty")]
            let uniform = draw as f64 / u64::MAX as f64;
            let factor = 1.0 + self.config.spread * (2.0 * uniform - 1.0);
            thread::sleep(Duration::from_micros(mean_us).mul_f64(factor));
        }
    }

    fn push_row(&self, sequence: &Sequence, logits: &mut Logits) {
        let next = if sequence.answered_tokens < self.config.answer_tokens {
            self.canned(sequence)
        } else {
            self.config.end_token
        };
        let start = logits.values.len();
        logits.values.resize(start + logits.vocabulary, 0.0);
        let row = &mut logits.values[start..];
        let next = next as usize;
        for place in 1..=RUNNERS_UP {
            let after = (next + place) % row.len();
            row[after] = RUNNER_UP;
        }
        row[next] = PEAK;
    }

    fn canned(&self, sequence: &Sequence) -> TokenId {
        let (min, max) = (self.config.token_min, self.config.token_max);
        let draw = hashed_draw(sequence.prompt.as_bytes(), sequence.answered_tokens as u64);
        let offset = draw % (u64::from(max - min) + 1);
        min + TokenId::try_from(offset).unwrap_or_default()
    }

    fn empty_logits(&self) -> Logits {
        Logits { vocabulary: self.config.vocabulary, values: Vec::new() }
    }
}

/// Returns a number that looks random and is a function of `key` and `index`.
fn hashed_draw(key: &[u8], index: u64) -> u64 {
    let digest = Digest::of(&[key, &index.to_le_bytes()].concat());
    digest.as_bytes()[..8].iter().fold(0, |draw, &byte| draw << 8 | u64::from(byte))
}

impl Engine for StubEngine {
    fn description(&self) -> &EngineDescription {
        &self.description
    }

    fn prefill(&mut self, prompts: &[Prompt<'_>]) -> Result<Logits, EngineError> {
        let is_running = |name| self.sequences.contains_key(&name);
        check_prefill(&self.description, prompts, self.sequences.len(), is_running)?;
        self.serve(self.config.prefill_us);
        let mut logits = self.empty_logits();
        for prompt in prompts {
            let sequence = Sequence::new(prompt.tokens);
            self.push_row(&sequence, &mut logits);
            self.sequences.insert(prompt.sequence, sequence);
        }
        Ok(logits)
    }

    fn decode(&mut self, steps: &[(SequenceId, TokenId)]) -> Result<Logits, EngineError> {
        let length = |name| self.sequences.get(&name).map(Sequence::length);
        check_decode(&self.description, steps, length)?;
        self.serve(self.config.decode_us);
        let mut logits = self.empty_logits();
        for (name, _) in steps {
            if let Some(mut sequence) = self.sequences.get(name).cloned() {
                sequence.answered_tokens += 1;
                self.push_row(&sequence, &mut logits);
                self.sequences.insert(*name, sequence);
            }
        }
        Ok(logits)
    }

    fn release(&mut self, sequences: &[SequenceId]) {
        for name in sequences {
            self.sequences.remove(name);
        }
    }

    fn score(&mut self, prompt: &[TokenId], answer: &[TokenId]) -> Result<Logits, EngineError> {
        check_score(&self.description, prompt, answer)?;
        self.serve(self.config.prefill_us);
        let mut logits = self.empty_logits();
        let mut sequence = Sequence::new(prompt);
        for answered_tokens in 0..=answer.len() {
            sequence.answered_tokens = answered_tokens;
            self.push_row(&sequence, &mut logits);
        }
        Ok(logits)
    }
}
