//! The seam to anything that turns tokens into logits. It is synchronous: one named thread owns an engine, and each
//! call is one step of the whole batch. An engine knows no queue, no text and no noise; `sampling` chooses the
//! tokens.

pub mod admission;
pub mod stub;

use infera_types::numbers::{NumericClass, TokenId};

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

/// A new sequence and its prompt.
#[derive(Clone, Debug)]
pub struct Prompt<'a> {
    /// The name of the sequence.
    pub sequence: SequenceId,
    /// The prompt's tokens, at least one.
    pub tokens: &'a [TokenId],
}

/// Rows of raw logits, in the order in which the sequences were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logits {
    /// The length of a row.
    pub vocabulary: usize,
    /// The rows, one after the other.
    pub values: Vec<f32>,
}

impl Logits {
    /// Returns the rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocabulary.max(1))
    }
}

/// Turns tokens into logits. The promises, which the conformance suite checks:
///
/// * A row depends on its own sequence alone. Within one numeric class it is the same to the bit whatever else is
///   in the batch (engines that can't promise it say so in their class).
/// * Sequences may join (`prefill`) and leave (`release`) between any two steps.
/// * After `Misuse` nothing has changed. After `Failed` the sequences of that call are gone.
pub trait Engine: Send {
    /// Returns what the engine is and what it can hold.
    fn description(&self) -> &EngineDescription;

    /// Starts sequences and returns each one's logits after its last prompt token.
    ///
    /// # Errors
    /// [`EngineError::Misuse`] for an empty or too long prompt, a name in use, or more sequences than fit.
    fn prefill(&mut self, prompts: &[Prompt<'_>]) -> Result<Logits, EngineError>;

    /// Appends one token to each named sequence and returns each one's next logits.
    ///
    /// # Errors
    /// [`EngineError::Misuse`] for an unknown sequence, one named twice, or one at the context's end.
    fn decode(&mut self, steps: &[(SequenceId, TokenId)]) -> Result<Logits, EngineError>;

    /// Forgets sequences. Unknown ones are ignored.
    fn release(&mut self, sequences: &[SequenceId]);

    /// Returns, teacher-forced, the logits that precede each token of `answer`, given `prompt`: one row per token,
    /// and one after the last. Running sequences are not affected.
    ///
    /// # Errors
    /// As `prefill`.
    fn score(&mut self, prompt: &[TokenId], answer: &[TokenId]) -> Result<Logits, EngineError>;
}
