//! The caches of all sequences, wherever they lie, and what a run on them answers.

use super::groups::Groups;
use super::model::{Answered, Model};
use super::padded::Padded;
use super::slab::Slab;
use infera_engine::SequenceId;
use infera_types::numbers::TokenId;

/// The caches of all sequences.
pub(super) enum Caches {
    Slab(Box<Slab>),
    Padded(Box<Padded>),
    Groups(Groups),
}

impl Caches {
    /// Starts sequences with their first tokens. The rows of the last `wanted` tokens of each are in the logits, at least.
    pub(super) fn first(
        &mut self,
        model: &mut Model,
        prompts: &[(SequenceId, &[TokenId])],
        wanted: usize,
    ) -> ort::Result<Answered> {
        match self {
            Self::Slab(slab) => slab.first(model, prompts, wanted),
            Self::Groups(groups) => groups.first(model, prompts, wanted),
            Self::Padded(padded) => match prompts {
                [prompt] => padded.first(model, *prompt, wanted, false),
                _ => Err(ort::Error::new("padded prompts run one by one")),
            },
        }
    }

    /// Starts a score with its first tokens; `wanted` as above.
    pub(super) fn first_of_score(
        &mut self,
        model: &mut Model,
        prompt: (SequenceId, &[TokenId]),
        wanted: usize,
    ) -> ort::Result<Answered> {
        match self {
            Self::Padded(padded) => padded.first(model, prompt, wanted, true),
            Self::Slab(_) | Self::Groups(_) => self.first(model, &[prompt], wanted),
        }
    }

    /// Returns whether the first chunks of several prompts may be one run.
    pub(super) const fn joins_prompts(&self) -> bool {
        !matches!(self, Self::Padded(_))
    }

    /// Runs once what the device loads for its first runs, before a client waits for it.
    pub(super) fn warm_up(&mut self, model: &mut Model) -> ort::Result<()> {
        let (sequence, pad) = (SequenceId(u64::MAX), model.pad);
        match self {
            Self::Padded(padded) => padded.warm_up(model),
            Self::Slab(_) | Self::Groups(_) => {
                self.first(model, &[(sequence, &[pad])], 1)?;
                self.step(model, &[(sequence, pad)])?;
                self.release(&[sequence]);
                Ok(())
            }
        }
    }

    /// Adds tokens to one sequence; `wanted` as above.
    pub(super) fn chunk(
        &mut self,
        model: &mut Model,
        (sequence, tokens): (SequenceId, &[TokenId]),
        wanted: usize,
    ) -> ort::Result<Answered> {
        match self {
            Self::Slab(slab) => slab.chunk(model, (sequence, tokens), wanted),
            Self::Groups(groups) => groups.chunk(model, (sequence, tokens), wanted),
            Self::Padded(padded) => padded.chunk(model, (sequence, tokens), wanted),
        }
    }

    /// Adds one token to each sequence.
    pub(super) fn step(
        &mut self,
        model: &mut Model,
        steps: &[(SequenceId, TokenId)],
    ) -> ort::Result<Answered> {
        match self {
            Self::Slab(slab) => slab.step(model, steps),
            Self::Groups(groups) => groups.step(model, steps),
            Self::Padded(padded) => padded.step(model, steps),
        }
    }

    /// Forgets sequences.
    pub(super) fn release(&mut self, sequences: &[SequenceId]) {
        match self {
            Self::Slab(slab) => slab.release(sequences),
            Self::Groups(groups) => groups.release(sequences),
            Self::Padded(padded) => padded.release(sequences),
        }
    }
}
