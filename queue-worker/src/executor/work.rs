//! What goes into the executor and what comes out of it. No behaviour.

use std::time::Instant;

use infera_types::ids::Digest;
use infera_types::job::FinishReason;
use infera_types::numbers::{TokenId, TokenNumbers};

/// Holds a prompt to be answered.
#[derive(Clone, Debug)]
pub struct Work {
    /// The rendered prompt; at least one token.
    pub prompt: Vec<TokenId>,
    /// How many tokens the answer may have at most, at least one; prompt and answer together fit the engine's context.
    pub answer_tokens_max: usize,
    /// What the sampling divides logits by; zero chooses the likeliest token. See `infera_sampling::choose`.
    pub temperature: f64,
    /// The key of the job's noise. See `infera_sampling::Noise`.
    pub sample_key: Digest,
    /// Whether no other sequence may be in the engine meanwhile.
    pub alone: bool,
}

/// A complete answer, in tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Without the end token.
    pub tokens: Vec<TokenId>,
    /// One entry per token, and one for the end token where one was chosen.
    pub numbers: Vec<TokenNumbers>,
    /// `Stop` exactly if an end token was chosen.
    pub finish_reason: FinishReason,
    /// When its prefill began.
    pub started: Instant,
    /// When its last token was chosen.
    pub ended: Instant,
}

/// Why there is no answer. Retrying here is pointless for this work; other work may do well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// The work can't be done by this engine.
    #[error("the engine can't take it: {0}")]
    Unfit(String),
    /// A step that it took part in failed.
    #[error("{0}")]
    Failed(String),
    /// The engine is gone.
    #[error("the engine is gone")]
    Gone,
}
