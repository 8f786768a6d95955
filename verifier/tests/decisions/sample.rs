//! Replicas of a toy language model: its logits are hashes of the prefix, so that honest, perturbed and altered
//! replicas can be made without a runtime. What chooses tokens from them is the real sampler.

use std::collections::BTreeMap;

use infera_sampling::{Noise, Rules, Said, Terms, choose};
use infera_types::ids::Digest;
use infera_types::knobs::Knobs;
use infera_types::numbers::{NumericClass, Row, TokenNumbers};
use infera_types::time::Timestamp;
use infera_types::{
    job::{FinishReason, ReplicaSummary},
    numbers::TokenId,
};
use proptest::prelude::*;

/// Tokens 1.. are words; 0 ends the turn.
pub(crate) const END: TokenId = 0;
const VOCABULARY: u32 = 24;

/// Thresholds under which replicas of one class must agree to the bit.
pub(crate) const THRESHOLDS: &str = "
version = \"test\"
[default]
gap = 0.25
mean = 0.05
max = 0.125
pairs = 0
[[rows]]
differs = []
gap = 0.0
mean = 0.0
max = 0.0
pairs = 0
";

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

    /// Its rules, without knobs.
    pub(crate) fn rules(&self) -> Rules {
        self.wishing(Knobs::default()).rules()
    }

    pub(crate) fn noise(&self) -> Noise {
        Noise::new(&self.key, 0)
    }

    pub(crate) fn wishing(self, knobs: Knobs) -> Wish {
        Wish { sampling: self, knobs, top_logprobs: None, prompt: Vec::new(), choice: 0 }
    }
}

/// A job's sampling with all that a request may wish.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) sampling: Sampling,
    pub(crate) knobs: Knobs,
    pub(crate) top_logprobs: Option<u8>,
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) choice: u32,
}

impl Wish {
    pub(crate) fn rules(&self) -> Rules {
        self.rules_ended_by(&[END])
    }

    pub(crate) fn rules_ended_by(&self, end_tokens: &[TokenId]) -> Rules {
        Rules::new(&Terms {
            temperature: self.sampling.temperature,
            knobs: &self.knobs,
            top_logprobs: self.top_logprobs,
            end_tokens,
            prompt: &self.prompt,
        })
    }

    pub(crate) fn noise(&self) -> Noise {
        Noise::new(&self.sampling.key, self.choice)
    }

    /// What a node answers whose model's rows these are.
    pub(crate) fn answer(
        &self,
        end_tokens: &[TokenId],
        row: impl Fn(&[TokenId]) -> Vec<f32>,
        mut stops: impl FnMut(TokenId) -> bool,
    ) -> Decoded {
        let (rules, noise, mut said) = (self.rules_ended_by(end_tokens), self.noise(), Said::default());
        let (mut tokens, mut numbers) = (Vec::new(), Vec::new());
        let finish_reason = loop {
            if tokens.len() == self.sampling.max_tokens {
                break FinishReason::Length;
            }
            let choice = rules.choose(Row::Full(&row(&tokens)), &said, &noise);
            numbers.push(choice.numbers);
            if end_tokens.contains(&choice.token) {
                break FinishReason::Stop;
            }
            tokens.push(choice.token);
            said.push(choice.token);
            if stops(choice.token) {
                break FinishReason::Stop;
            }
        };
        Decoded { tokens, numbers, finish_reason }
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

/// Any knobs that a gateway takes, but for stop strings.
pub(crate) fn knobs() -> impl Strategy<Value = Knobs> {
    let leaving_out = (
        prop::option::of(prop_oneof![Just(1.0), 0.01_f64..1.0]),
        prop::option::of(1_u32..60),
        prop::option::of(prop_oneof![Just(0.0), Just(1.0), 0.0001_f64..1.0]),
    );
    let leaving_out = prop_oneof![Just((None, None, None)), leaving_out];
    let penalties =
        (prop::option::of(-2.0_f64..2.0), prop::option::of(-2.0_f64..2.0), prop::option::of(0.1_f64..2.0));
    let bias = prop::collection::btree_map(0_u32..80, -100.0_f64..100.0, 0..4);
    let kept = prop_oneof![Just(((None, None, None), BTreeMap::new())), (penalties, bias)];
    let masks = prop_oneof![2 => Just((0, false)), 1 => (0_u32..6, prop::bool::weighted(0.3))];
    let made = (leaving_out, kept, masks);
    made.prop_map(|((top_p, top_k, min_p), (penalties, logit_bias), (min_tokens, ignore_eos))| {
        let (frequency_penalty, presence_penalty, repetition_penalty) = penalties;
        Knobs {
            top_p,
            top_k,
            min_p,
            frequency_penalty,
            presence_penalty,
            repetition_penalty,
            logit_bias,
            min_tokens,
            ignore_eos,
            ..Knobs::default()
        }
    })
}

/// Any wish of at most `tokens_max` tokens.
pub(crate) fn wishes(tokens_max: usize) -> impl Strategy<Value = Wish> {
    (
        any::<u64>(),
        prop_oneof![Just(0.0), 0.01_f64..2.0],
        1..=tokens_max,
        knobs(),
        prop::option::of(0_u8..21),
        prop::collection::vec(0_u32..80, 0..20),
        0_u32..3,
    )
        .prop_map(|(job, temperature, max_tokens, knobs, top_logprobs, prompt, choice)| Wish {
            sampling: Sampling::new(job, temperature, max_tokens),
            knobs,
            top_logprobs,
            prompt,
            choice,
        })
}
