//! Decides which sequences take part in the engine's next step. Pure: no clock, no thread, no engine, no text. The
//! caller carries out the step and tells the batcher which sequences left.
//!
//! Sequences join and leave between steps. The rules, each of which is tested as a property below:
//!
//! * There are never more sequences in the engine than slots, and sequences join in the order in which they were admitted.
//! * A prefill takes a chunk of each of the prompts that are not complete, in order, as far as they fit its token budget
//!   (padding counts), and at least one; then it takes first chunks of waiting ones as far as the budget goes.
//! * Between two prefills, every running sequence gets one decode step, so a prompt of any length delays a running
//!   sequence's next token by one budget at most. A waiting sequence with no other before it joins a free slot within two
//!   steps, unless the budget goes to prompts that began before it. So neither side can starve the other.
//! * A sequence that must run alone joins when no other runs, and no other joins until it leaves.
//!
//! Time is no input: the assignments that wait for the answers watch their own budgets, and a sequence that no
//! assignment waits for leaves like one that has finished.

use std::collections::VecDeque;

use infera_engine::SequenceId;

/// The limits of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// The largest number of sequences that run at once.
    pub slots: usize,
    /// The largest number of tokens in one prefill: a chunk of each prompt that goes on, and for those that begin their
    /// number times the longest of their chunks. A larger chunk is prefilled alone.
    pub prefill_tokens_max: usize,
}

/// A sequence that waits to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The sequence's id, which no other waiting or running sequence has.
    pub(super) sequence: SequenceId,
    /// The length of the sequence's prompt, in tokens.
    pub(super) prompt_tokens: usize,
    /// Whether the sequence must run with no other beside it.
    pub(super) alone: bool,
}

/// The engine's next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Compute a chunk of these sequences' prompts.
    Prefill(Vec<SequenceId>),
    /// Decode one token for each of these, which are all whose prompts are complete.
    Decode(Vec<SequenceId>),
    /// Do nothing, because no sequence waits or runs.
    Idle,
}

/// A sequence whose prompt is not complete.
#[derive(Clone, Copy, Debug)]
struct Prefilling {
    sequence: SequenceId,
    tokens_left: usize,
    /// Whether none of its tokens is computed yet.
    begins: bool,
}

/// The sequences that wait and those that are in the engine.
#[derive(Debug)]
pub(super) struct Batcher {
    limits: BatchLimits,
    chunk_tokens: usize,
    waiting: VecDeque<Candidate>,
    /// In the order in which they joined.
    prefilling: Vec<Prefilling>,
    running: Vec<SequenceId>,
    /// Whether the sequence in the engine must run with no other beside it.
    runs_alone: bool,
    /// Whether the last step was a prefill, so that the running sequences must get a decode step next.
    owes_decode: bool,
}

impl Batcher {
    /// Makes an empty batcher. It has at least one slot. `chunk_tokens` is the most that the engine computes of one prompt
    /// in a call.
    pub(super) fn new(limits: BatchLimits, chunk_tokens: usize) -> Self {
        Self {
            limits: BatchLimits { slots: limits.slots.max(1), ..limits },
            chunk_tokens: chunk_tokens.max(1),
            waiting: VecDeque::new(),
            prefilling: Vec::new(),
            running: Vec::new(),
            runs_alone: false,
            owes_decode: false,
        }
    }

    /// Puts a sequence at the end of those that wait.
    pub(super) fn admit(&mut self, candidate: Candidate) {
        self.waiting.push_back(candidate);
    }

    /// Removes a sequence that runs or waits. Unknown ones are ignored.
    pub(super) fn leave(&mut self, sequence: SequenceId) {
        self.waiting.retain(|candidate| candidate.sequence != sequence);
        self.prefilling.retain(|prefilling| prefilling.sequence != sequence);
        self.running.retain(|running| *running != sequence);
        if self.in_engine() == 0 {
            self.runs_alone = false;
        }
    }

    /// Notes that a chunk of a prompt is computed, and how many of its tokens are left. The sequence runs from then on if
    /// none are.
    pub(super) fn prefilled(&mut self, sequence: SequenceId, tokens_left: usize) {
        let Some(place) = self.prefilling.iter().position(|prefilling| prefilling.sequence == sequence)
        else {
            return;
        };
        if tokens_left == 0 {
            self.prefilling.remove(place);
            self.running.push(sequence);
        } else {
            self.prefilling[place] = Prefilling { sequence, tokens_left, begins: false };
        }
    }

    /// Returns whether a sequence of a prefill begins with it.
    pub(super) fn begins(&self, sequence: SequenceId) -> bool {
        self.prefilling.iter().any(|prefilling| prefilling.sequence == sequence && prefilling.begins)
    }

    /// Returns whether no sequence waits or runs.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_engine() == 0
    }

    fn in_engine(&self) -> usize {
        self.prefilling.len() + self.running.len()
    }

    /// Returns the next step. The sequences of a prefill are in the engine from here on; the caller reports each one's
    /// progress by [`Self::prefilled`].
    pub(super) fn next_step(&mut self) -> Step {
        let must_decode = self.owes_decode && !self.running.is_empty();
        if !must_decode {
            let called = self.prefill();
            if !called.is_empty() {
                self.owes_decode = true;
                return Step::Prefill(called);
            }
        }
        self.owes_decode = false;
        if self.running.is_empty() { Step::Idle } else { Step::Decode(self.running.clone()) }
    }

    /// Returns the prompts of which a chunk is computed next, after moving to them those that may join now from the head
    /// of the waiting ones.
    fn prefill(&mut self) -> Vec<SequenceId> {
        let (mut called, mut tokens) = (Vec::new(), 0_usize);
        for prefilling in &self.prefilling {
            let more = tokens.saturating_add(prefilling.tokens_left.min(self.chunk_tokens));
            if !called.is_empty() && more > self.limits.prefill_tokens_max {
                return called;
            }
            tokens = more;
            called.push(prefilling.sequence);
        }
        let (mut joining, mut longest) = (0, 0);
        while let Some(next) = self.waiting.front().copied() {
            let others = self.in_engine();
            if self.runs_alone || (next.alone && others > 0) || others >= self.limits.slots {
                break;
            }
            longest = next.prompt_tokens.min(self.chunk_tokens).max(longest);
            joining += 1;
            let padded = longest.saturating_mul(joining).saturating_add(tokens);
            if !called.is_empty() && padded > self.limits.prefill_tokens_max {
                break;
            }
            self.waiting.pop_front();
            let (sequence, tokens_left) = (next.sequence, next.prompt_tokens);
            self.prefilling.push(Prefilling { sequence, tokens_left, begins: true });
            self.runs_alone = next.alone;
            called.push(sequence);
        }
        called
    }
}

#[cfg(test)]
mod tests;
