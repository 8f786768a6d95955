//! Calls of an engine that go on until they are complete, and their rows as one copy: for callers that have nothing to do
//! between two chunks.

use super::{Engine, EngineError, Prompt, Row, Scoring, SequenceId};
use infera_types::numbers::TokenId;

/// The name of the score that [`score`] makes; no other caller may give it to a sequence.
const SCORE: SequenceId = SequenceId(u64::MAX);

/// Rows of raw logits. Tokens that an engine leaves out have the highest logit that they can have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logits {
    /// The length of a row.
    pub vocabulary: usize,
    /// The rows, one after the other.
    pub values: Vec<f32>,
}

impl Logits {
    fn of(engine: &dyn Engine) -> Self {
        Self { vocabulary: engine.description().vocabulary, values: Vec::new() }
    }

    fn push(&mut self, row: Row<'_>) {
        row.write(self.vocabulary, &mut self.values);
    }

    /// Returns the rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocabulary.max(1))
    }
}

/// Starts sequences, computes their prompts to the end and returns each one's row, in the order given.
///
/// # Errors
/// As [`Engine::prefill`]. The sequences of this call are gone if a later chunk fails.
pub fn prefill(engine: &mut dyn Engine, prompts: &[Prompt<'_>]) -> Result<Logits, EngineError> {
    let mut found: Vec<(SequenceId, Logits)> = Vec::with_capacity(prompts.len());
    let mut left = prompts.to_vec();
    while !left.is_empty() {
        let mut rows = Vec::new();
        let empty = Logits::of(engine);
        let result = engine.prefill(&left, &mut |given| {
            for &(sequence, row) in given {
                let mut logits = empty.clone();
                logits.push(row);
                rows.push((sequence, logits));
            }
        });
        let progress = result.inspect_err(|error| {
            if !matches!(error, EngineError::Misuse(_)) {
                engine.release(&prompts.iter().map(|prompt| prompt.sequence).collect::<Vec<_>>());
            }
        })?;
        found.append(&mut rows);
        let mut progress = progress.into_iter();
        left.retain(|_| progress.next().is_some_and(|progress| !progress.is_complete()));
    }
    let mut logits = Logits::of(engine);
    for prompt in prompts {
        let of_prompt = found.iter().filter(|(sequence, _)| *sequence == prompt.sequence);
        of_prompt.for_each(|(_, row)| logits.values.extend_from_slice(&row.values));
    }
    Ok(logits)
}

/// Appends one token to each sequence and returns each one's row, in the order given.
///
/// # Errors
/// As [`Engine::decode`].
pub fn decode(engine: &mut dyn Engine, steps: &[(SequenceId, TokenId)]) -> Result<Logits, EngineError> {
    let mut logits = Logits::of(engine);
    engine.decode(steps, &mut |rows| rows.iter().for_each(|&(_, row)| logits.push(row)))?;
    Ok(logits)
}

/// Scores an answer and returns its rows: one per token, and one after the last.
///
/// # Errors
/// As [`Engine::score`].
pub fn score(engine: &mut dyn Engine, prompt: &[TokenId], answer: &[TokenId]) -> Result<Logits, EngineError> {
    let mut logits = Logits::of(engine);
    let scoring = Scoring { sequence: SCORE, prompt, answer };
    while !engine.score(&scoring, &mut |_, row| logits.push(row))?.is_complete() {}
    Ok(logits)
}
