//! An engine without a model: it takes the time and gives the answers that its configuration says. It serves to
//! measure and test everything around an engine: benchmarks of gateway, verifier and broker, and whole-path tests
//! that need no ONNX Runtime.
//!
//! It does not imitate a model: its logits are one high number and three lower ones in a row of zeros, so that
//! sampling costs what it does when a model is certain, and not what an unordered row would cost. The logits depend
//! on the prompt and the position alone, so any number of stubs with the same configuration agree on every answer, at
//! any temperature up to 5; above that, noise can lift another token over the canned one. A request's knobs change an answer as
//! far as they outweigh these logits: masks do, and a bias of more than 128 does.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::admission::{Extent, check_decode, check_prefill, check_score};
use super::{
    Engine, EngineDescription, EngineError, Progress, Prompt, Rest, Row, Scoring, SequenceId, SequenceRow,
};
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
    /// How long a call of prefill takes, whatever its size, in microseconds. 0 by default, because stubs usually serve to
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
    /// The most tokens of a prompt that one call takes. 512 by default: a stub takes no longer for a long prompt.
    pub chunk_tokens: usize,
    /// Whether rows hold the four highest logits alone. False by default, so that sampling is measured too.
    pub top_rows: bool,
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
            chunk_tokens: 512,
            top_rows: false,
            sequences_max: 64,
            model_digest: Digest::of(b"infera stub"),
        }
    }
}

/// A sequence: what its answer is drawn from, and its progress.
#[derive(Clone)]
struct Sequence {
    /// The hash of the prompt's tokens.
    prompt: Digest,
    extent: Extent,
}

impl Sequence {
    fn new(prompt: &[TokenId]) -> Self {
        let bytes: Vec<u8> = prompt.iter().flat_map(|token| token.to_le_bytes()).collect();
        Self { prompt: Digest::of(&bytes), extent: Extent::new(prompt.len()) }
    }
}

/// The engine; see the module.
pub struct StubEngine {
    config: StubConfig,
    description: EngineDescription,
    sequences: BTreeMap<SequenceId, Sequence>,
    /// The score that is not complete.
    scored: Option<(SequenceId, Extent)>,
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
        if config.context_max == 0 || config.sequences_max == 0 || config.chunk_tokens == 0 {
            return Err(EngineError::Load(
                "the stub's context_max, sequences_max and chunk_tokens must be at least 1".to_owned(),
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
        let description = EngineDescription {
            numeric_class,
            vocabulary: config.vocabulary,
            context_max: config.context_max,
            sequences_max: config.sequences_max,
            chunk_tokens: config.chunk_tokens,
            caches_prefixes: false,
            gives_whole_rows: !config.top_rows,
        };
        Ok(Self { config, description, sequences: BTreeMap::new(), scored: None, calls: 0 })
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

    /// Gives `row` the logits after `answered_tokens` tokens of the answer to `prompt`.
    fn give_row(&self, prompt: &Digest, answered_tokens: usize, row: &mut dyn FnMut(Row<'_>)) {
        let next = if answered_tokens < self.config.answer_tokens {
            self.canned(prompt, answered_tokens)
        } else {
            self.config.end_token
        };
        let vocabulary = self.config.vocabulary;
        let after =
            |place: usize| TokenId::try_from((next as usize + place) % vocabulary).unwrap_or_default();
        let mut entries: Vec<(TokenId, f32)> =
            (1..=RUNNERS_UP.min(vocabulary - 1)).map(|place| (after(place), RUNNER_UP)).collect();
        entries.push((next, PEAK));
        let left_out = vocabulary.saturating_sub(entries.len());
        let rest = Rest { logit_max: 0.0, log_sum_exp: (left_out as f64).ln().max(f64::from(f32::MIN)) };
        let top = Row::Top { entries: &entries, rest };
        if self.config.top_rows {
            row(top);
        } else {
            let mut logits = Vec::with_capacity(vocabulary);
            top.write(vocabulary, &mut logits);
            row(Row::Full(&logits));
        }
    }

    fn canned(&self, prompt: &Digest, answered_tokens: usize) -> TokenId {
        let (min, max) = (self.config.token_min, self.config.token_max);
        let draw = hashed_draw(prompt.as_bytes(), answered_tokens as u64);
        let offset = draw % (u64::from(max - min) + 1);
        min + TokenId::try_from(offset).unwrap_or_default()
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

    fn prefill(
        &mut self,
        prompts: &[Prompt<'_>],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<Vec<Progress>, EngineError> {
        let extent = |name| self.sequences.get(&name).map(|sequence| sequence.extent);
        check_prefill(&self.description, prompts, self.sequences.len(), extent)?;
        self.serve(self.config.prefill_us);
        let mut progress = Vec::with_capacity(prompts.len());
        for &Prompt { sequence: name, tokens, .. } in prompts {
            let mut sequence = self.sequences.remove(&name).unwrap_or_else(|| Sequence::new(tokens));
            sequence.extent.tokens = sequence.extent.next_chunk(self.config.chunk_tokens).end;
            if !sequence.extent.is_prefilling() {
                self.give_row(&sequence.prompt, 0, &mut |logits| rows(&[(name, logits)]));
            }
            progress.push(sequence.extent.progress());
            self.sequences.insert(name, sequence);
        }
        Ok(progress)
    }

    fn decode(
        &mut self,
        steps: &[(SequenceId, TokenId)],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<(), EngineError> {
        let extent = |name| self.sequences.get(&name).map(|sequence| sequence.extent);
        check_decode(&self.description, steps, extent)?;
        self.serve(self.config.decode_us);
        for &(name, _) in steps {
            if let Some(sequence) = self.sequences.get_mut(&name) {
                sequence.extent.tokens += 1;
                let answered = sequence.extent.tokens - sequence.extent.prompt_tokens;
                let prompt = sequence.prompt;
                self.give_row(&prompt, answered, &mut |logits| rows(&[(name, logits)]));
            }
        }
        Ok(())
    }

    fn release(&mut self, sequences: &[SequenceId]) {
        for name in sequences {
            self.sequences.remove(name);
            self.scored = self.scored.filter(|(scored, _)| scored != name);
        }
    }

    fn score(
        &mut self,
        scoring: &Scoring<'_>,
        row: &mut dyn FnMut(usize, Row<'_>),
    ) -> Result<Progress, EngineError> {
        let is_running = |name| self.sequences.contains_key(&name);
        let tokens = check_score(&self.description, scoring, self.scored, is_running)?;
        self.serve(self.config.prefill_us);
        let mut extent = self.scored.take().map_or_else(|| Extent::new(tokens.len()), |(_, extent)| extent);
        let chunk = extent.next_chunk(self.config.chunk_tokens);
        extent.tokens = chunk.end;
        let prompt = Sequence::new(scoring.prompt).prompt;
        for place in chunk.filter_map(|place| (place + 1).checked_sub(scoring.prompt.len())) {
            self.give_row(&prompt, place, &mut |logits| row(place, logits));
        }
        if extent.is_prefilling() {
            self.scored = Some((scoring.sequence, extent));
        }
        Ok(extent.progress())
    }
}
