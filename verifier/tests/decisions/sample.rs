//! Replicas of a toy language model: its logits are hashes of the prefix, so that honest, perturbed and altered
//! replicas can be made without a runtime. What chooses tokens from them is the real sampler.

use infera_sampling::{Noise, choose};
use infera_types::ids::Digest;
use infera_types::numbers::{NumericClass, TokenNumbers};
use infera_types::time::Timestamp;
use infera_types::{
    job::{FinishReason, ReplicaSummary},
    numbers::TokenId,
};

/// Tokens 1.. are words; 0 ends the turn.
pub(crate) const END: TokenId = 0;
const VOCABULARY: u32 = 24;

/// A model, and how exactly this machine computes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Toy {
    /// Which model.
    pub(crate) weights: u64,
    /// Logits are off by at most this.
    pub(crate) error: f32,
    /// Logits are rounded to multiples of this; 0 leaves them.
    pub(crate) grid: f32,
}

pub(crate) const HONEST: Toy = Toy { weights: 1, error: 0.0, grid: 0.0 };

/// What a node decoded.
#[derive(Clone, Debug)]
pub(crate) struct Decoded {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) numbers: Vec<TokenNumbers>,
    pub(crate) finish_reason: FinishReason,
}

/// A job's sampling.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampling {
    pub(crate) key: Digest,
    pub(crate) temperature: f64,
    pub(crate) max_tokens: usize,
}

impl Sampling {
    pub(crate) fn new(job: u64, temperature: f64, max_tokens: usize) -> Self {
        Self { key: Digest::of(&job.to_le_bytes()), temperature, max_tokens }
    }
}

/// SplitMix64 over the words, to [0, 1).
pub(crate) fn uniform(words: impl IntoIterator<Item = u64>) -> f32 {
    let mixed = words.into_iter().fold(0x9e37_79b9_7f4a_7c15_u64, |state, word| {
        let mut next = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        next = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        next = (next ^ (next >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        next ^ (next >> 31)
    });
    (mixed >> 40) as f32 / (1_u64 << 24) as f32
}

impl Toy {
    /// The logits after a prefix.
    pub(crate) fn row(&self, prefix: &[TokenId]) -> Vec<f32> {
        let each = (0..VOCABULARY).map(|token| {
            let words = || prefix.iter().map(|one| u64::from(*one)).chain([u64::from(token)]);
            let exact = 8.0 * uniform([self.weights].into_iter().chain(words()));
            let rounded = if self.grid > 0.0 { (exact / self.grid).round() * self.grid } else { exact };
            rounded + self.error * (2.0 * uniform([77].into_iter().chain(words())) - 1.0)
        });
        each.collect()
    }

    pub(crate) fn decode(&self, sampling: &Sampling) -> Decoded {
        let noise = Noise::new(&sampling.key, 0);
        let (mut tokens, mut numbers) = (Vec::new(), Vec::new());
        while tokens.len() < sampling.max_tokens {
            let position = u32::try_from(tokens.len()).unwrap();
            let choice = choose(&self.row(&tokens), sampling.temperature, &noise, position);
            numbers.push(choice.numbers);
            if choice.token == END {
                return Decoded { tokens, numbers, finish_reason: FinishReason::Stop };
            }
            tokens.push(choice.token);
        }
        Decoded { tokens, numbers, finish_reason: FinishReason::Length }
    }

    pub(crate) fn summary(&self, sampling: &Sampling, hardware: &str) -> ReplicaSummary {
        self.decode(sampling).summary(hardware)
    }
}

impl Decoded {
    pub(crate) fn summary(self, hardware: &str) -> ReplicaSummary {
        ReplicaSummary {
            tokens: self.tokens,
            numbers: self.numbers,
            numeric_class: class("toy", hardware),
            arrived_ms: Timestamp::from_millis(1_500),
            prompt_tokens: 5,
            sound: true,
        }
    }
}

pub(crate) fn class(model: &str, hardware: &str) -> NumericClass {
    NumericClass {
        model_digest: Digest::of(model.as_bytes()),
        provider: "cpu".to_owned(),
        hardware: hardware.to_owned(),
        runtime: "1.22".to_owned(),
        compute: "f32".to_owned(),
    }
}
