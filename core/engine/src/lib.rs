//! The seam to whatever turns tokens into logits. Synchronous: one named thread owns an engine, and each call is
//! one step of the whole batch. An engine knows no queue, no text and no noise; choosing tokens is `sampling`'s.

pub mod admission;
pub mod stub;

use infera_types::numbers::{NumericClass, TokenId};

/// Names one running sequence within one engine, as long as it isn't released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// What an engine is and what it can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineDescription {
    /// Its numeric class, with the digest of the files that it was loaded from.
    pub numeric_class: NumericClass,
    /// Length of a row of logits.
    pub vocabulary: usize,
    /// Prompt and answer together, in tokens.
    pub context_max: usize,
    /// Sequences that may run at once.
    pub sequences_max: usize,
}

/// What went wrong in an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The caller broke the contract (unknown sequence, too many, too long); our fault, not retryable.
    #[error("engine called wrongly: {0}")]
    Misuse(String),
    /// The model can't be loaded: says what is missing and what to do.
    #[error("{0}")]
    Load(String),
    /// The runtime failed in a step; the sequences of that step are lost, others may be too.
    #[error("engine failed: {0}")]
    Failed(String),
}

/// A new sequence and its prompt.
#[derive(Clone, Debug)]
pub struct Prompt<'a> {
    /// What it will be called.
    pub sequence: SequenceId,
    /// At least one token.
    pub tokens: &'a [TokenId],
}

/// Rows of raw logits, in the order that the sequences were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logits {
    /// Length of a row.
    pub vocabulary: usize,
    /// Rows, one after the other.
    pub values: Vec<f32>,
}

impl Logits {
    /// The rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocabulary.max(1))
    }
}

/// Turns tokens into logits. The promises that the conformance suite tries:
///
/// * A row depends on its own sequence alone. Within one numeric class it is the same to the bit whatever else is
///   in the batch (engines that can't promise it say so in their class).
/// * Sequences may join (`prefill`) and leave (`release`) between any two steps.
/// * After `Misuse` nothing has changed. After `Failed` the sequences of that call are gone.
pub trait Engine: Send {
    /// What it is.
    fn description(&self) -> &EngineDescription;

    /// Starts sequences; returns each one's logits after its last prompt token.
    ///
    /// # Errors
    /// [`EngineError::Misuse`] for an empty or too long prompt, a name in use, or more sequences than fit.
    fn prefill(&mut self, prompts: &[Prompt<'_>]) -> Result<Logits, EngineError>;

    /// Appends one token to each named sequence; returns each one's next logits.
    ///
    /// # Errors
    /// [`EngineError::Misuse`] for an unknown sequence, one named twice, or one at the context's end.
    fn decode(&mut self, steps: &[(SequenceId, TokenId)]) -> Result<Logits, EngineError>;

    /// Forgets sequences. Unknown ones are ignored.
    fn release(&mut self, sequences: &[SequenceId]);

    /// Teacher-forced: the logits that precede each token of `answer`, given `prompt`; one row per token, and one
    /// after the last. Leaves running sequences as they are.
    ///
    /// # Errors
    /// As `prefill`.
    fn score(&mut self, prompt: &[TokenId], answer: &[TokenId]) -> Result<Logits, EngineError>;
}
