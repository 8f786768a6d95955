//! The seam to anything that turns tokens into logits. It is synchronous: one named thread owns an engine, and each
//! call is one step of the whole batch. An engine knows no queue, no text and no noise; `sampling` chooses the
//! tokens.
//!
//! No call takes longer than a step or a chunk: prompts and answers to score are computed in chunks of
//! [`EngineDescription::chunk_tokens`] tokens, one chunk a call, and other sequences step in between.

pub mod admission;
pub mod stub;
pub mod whole;

use infera_types::ids::Digest;
use infera_types::numbers::{NumericClass, TokenId};

pub use infera_types::numbers::{Rest, Row};

/// The name of a running sequence within one engine, until the sequence is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// What an engine is and what it can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineDescription {
    /// The engine's numeric class, with the digest of the files that it was loaded from.
    pub numeric_class: NumericClass,
    /// The length of a row of logits.
    pub vocabulary: usize,
    /// The most tokens that prompt and answer may have together.
    pub context_max: usize,
    /// How many sequences may run at once.
    pub sequences_max: usize,
    /// The most tokens of one prompt that one call computes. Chunks are counted from a prompt's first token, so that the
    /// same prompt is always computed in the same pieces; in classes that promise equality to the bit, this number is
    /// part of the class's name.
    pub chunk_tokens: usize,
    /// Whether prompts may begin with what was computed for an earlier prompt of the same scope.
    pub caches_prefixes: bool,
    /// Whether every row is [`Row::Full`], as requests with knobs need: a bias may lift any token, and a mask may leave none of the
    /// likeliest.
    pub gives_whole_rows: bool,
}

/// An engine's failure.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The caller broke the contract (unknown sequence, too many, too long); our fault, not retryable.
    #[error("engine called wrongly: {0}")]
    Misuse(String),
    /// The model cannot be loaded; the text says what is missing and what to do.
    #[error("{0}")]
    Load(String),
    /// The runtime failed in a step; the sequences of that step are lost, and others may be too.
    #[error("engine failed: {0}")]
    Failed(String),
}

/// A sequence and its prompt.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// The name of the sequence.
    pub sequence: SequenceId,
    /// The prompt's tokens, at least one.
    pub tokens: &'a [TokenId],
    /// The scope: prompts of the same one share what is computed for them. Without a scope nothing is shared.
    pub scope: Option<Digest>,
}

impl<'a> Prompt<'a> {
    /// Makes a prompt that shares nothing.
    #[must_use]
    pub const fn new(sequence: SequenceId, tokens: &'a [TokenId]) -> Self {
        Self { sequence, tokens, scope: None }
    }
}

/// A prompt and the answer whose rows are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Scoring<'a> {
    /// The name under which this goes on from call to call; no sequence may have it.
    pub sequence: SequenceId,
    /// The prompt's tokens, at least one.
    pub prompt: &'a [TokenId],
    /// The answer's tokens.
    pub answer: &'a [TokenId],
}

/// How far a call brought a prompt, or a prompt and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many tokens are still to be computed; 0 once all are.
    pub tokens_left: usize,
    /// How many tokens were not computed, because an earlier prompt of the same scope began with them.
    pub cached_tokens: usize,
}

impl Progress {
    /// Returns whether no token is left.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        self.tokens_left == 0
    }
}

/// A row of logits with the sequence that it belongs to.
pub type SequenceRow<'a> = (SequenceId, Row<'a>);

/// Turns tokens into logits. Rows go to a visitor (`rows`) while they lie in the engine's memory, and count only if the
/// call succeeds. It is given those of one run of the model at once, so that it can work on all of them at the same time. The promises, which the conformance suite checks:
///
/// * A row depends on its own sequence alone. Within one numeric class it is the same to the bit whatever else is
///   in the batch, and whether or not its prompt's beginning was cached (engines that can't promise it say so in
///   their class).
/// * Sequences may join (`prefill`) and leave (`release`) between any two calls, prompts and scores that are not
///   complete included.
/// * What is computed for a prompt serves other prompts of the same scope and no others. It is written by `prefill`,
///   never by `decode`, whose numbers differ.
/// * After `Misuse` nothing has changed. After `Failed` the sequences of that call are gone.
pub trait Engine: Send {
    /// Returns what the engine is and what it can hold.
    fn description(&self) -> &EngineDescription;

    /// Computes the next chunk of each prompt, and gives `rows` the logits after the last token of those that are complete
    /// by it. A name that isn't known starts a sequence; the caller repeats the call with the same prompt until
    /// it is complete. Returns how far each prompt is, in the order given.
    ///
    /// # Errors
    /// [`EngineError::Misuse`] for an empty or too long prompt, the name of a sequence whose prompt is complete or another
    /// one, or more sequences than fit.
    fn prefill(
        &mut self,
        prompts: &[Prompt<'_>],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<Vec<Progress>, EngineError>;

    /// Appends one token to each named sequence and gives `rows` each one's next logits, in the order given.
    ///
    /// # Errors
    /// [`EngineError::Misuse`] for an unknown sequence, one whose prompt is not complete, one named twice, or one at the
    /// context's end.
    fn decode(
        &mut self,
        steps: &[(SequenceId, TokenId)],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<(), EngineError>;

    /// Forgets sequences, and a score under such a name. Unknown ones are ignored.
    fn release(&mut self, sequences: &[SequenceId]);

    /// Computes, teacher-forced, the next chunk of a prompt and an answer. `row` is given the logits that precede each
    /// token of the answer, with the token's place in it, and those after the last. The caller repeats the call until it
    /// is complete; then the name is free. Running sequences are not affected, and one score may go on beside as many
    /// sequences as fit.
    ///
    /// # Errors
    /// As `prefill`, and while a score under another name is not complete.
    fn score(
        &mut self,
        scoring: &Scoring<'_>,
        row: &mut dyn FnMut(usize, Row<'_>),
    ) -> Result<Progress, EngineError>;
}
