//! The caches of all sequences, wherever they lie, and what a run on them answers.

use super::groups::Groups;
use super::model::{Answered, Model};
use super::slab::Slab;
use infera_engine::SequenceId;
use infera_types::numbers::TokenId;

/// The caches of all sequences.
pub(super) enum Caches {
    Slab(Box<Slab>),
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
        }
    }

    /// Forgets sequences.
    pub(super) fn release(&mut self, sequences: &[SequenceId]) {
        match self {
            Self::Slab(slab) => slab.release(sequences),
            Self::Groups(groups) => groups.release(sequences),
        }
    }
}
