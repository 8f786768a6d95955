//! The input and the output of the executor. No behaviour.

use std::time::Instant;

use infera_types::ids::Digest;
use infera_types::job::FinishReason;
use infera_types::knobs::Knobs;
use infera_types::numbers::{TokenId, TokenNumbers};

/// A prompt that is to be answered.
#[derive(Clone, Debug)]
pub struct Work {
    /// The rendered prompt, of at least one token.
    pub prompt: Vec<TokenId>,
    /// The largest number of the answer's tokens, at least one. Prompt and answer together must fit the engine's
    /// context.
    pub answer_tokens_max: usize,
    /// The factor of the noise that sampling adds to the logits; zero chooses the likeliest token. See
    /// `infera_sampling::Rules`.
    pub temperature: f64,
    /// The key of the job's noise. See `infera_sampling::Noise`.
    pub sample_key: Digest,
    /// The number of the answer among those of its request: each has noise of its own.
    pub choice: u32,
    /// What else decides which token follows. Stop strings are left to a [`Watcher`], because they are text.
    pub knobs: Knobs,
    /// How many of the likeliest tokens are reported of each row.
    pub top_logprobs: Option<u8>,
    /// Whether no other sequence may be in the engine meanwhile.
    pub alone: bool,
    /// The scope: prompts of the same one share what is computed for them. Without a scope nothing is shared.
    pub cache_scope: Option<Digest>,
}

/// Takes each token of an answer, but for the end token, as soon as it is chosen, and decides whether the answer ends with
/// it. The whole batch waits for it. An error, in a sentence, ends the answer without success.
pub type Watcher = Box<dyn FnMut(TokenId) -> Result<bool, String> + Send + Sync>;

/// A complete answer, in tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The answer's tokens, without the end token.
    pub tokens: Vec<TokenId>,
    /// The numbers of each token, and of the end token if one was chosen.
    pub numbers: Vec<TokenNumbers>,
    /// The reason why the answer ended: `Stop` exactly if an end token was chosen or the watcher ended it.
    pub finish_reason: FinishReason,
    /// How many of the prompt's tokens were not computed, because an earlier prompt of the same scope began with them.
    pub cached_tokens: usize,
    /// When the prefill began.
    pub started: Instant,
    /// When the last token was chosen.
    pub ended: Instant,
}

/// The reason why there is no answer. Trying the same work again is useless; other work may succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// This engine can't do the work.
    #[error("the engine can't take it: {0}")]
    Unfit(String),
    /// A step with this work failed.
    #[error("{0}")]
    Failed(String),
    /// The engine is gone.
    #[error("the engine is gone")]
    Gone,
}
