//! Sequences whose caches lie in fixed buffers on the device, in runs of fixed shapes: steps have the rows of a bucket and the
//! columns of the whole context, chunks of prompts have one row and a whole chunk's columns. What the rows of a bucket lack is
//! filled with a token that no row's numbers depend on.
//!
//! A sequence keeps its row until it leaves, so nothing is ever copied on the device, and a new one takes the lowest that is free,
//! so that few sequences need a small bucket. The last row is a score's, which takes part in no step.

use std::collections::BTreeMap;

use ort::session::IoBinding;

use super::buckets::{Buckets, chunk_width};
use super::device::Buffer;
use super::model::{Answered, Model};
use super::ports::CachePort;
use super::rows::Feed;
use infera_engine::SequenceId;
use infera_types::numbers::TokenId;

/// A sequence in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seat {
    sequence: SequenceId,
    /// How many tokens are in the row.
    length: usize,
}

/// The rows and who has them. Pure.
struct Seats(Vec<Option<Seat>>);

impl Seats {
    /// Makes rows for steps, and one more for a score.
    fn new(rows: usize) -> Self {
        Self(vec![None; rows + 1])
    }

    fn of(&self, sequence: SequenceId) -> ort::Result<usize> {
        let is_it = |seat: &Option<Seat>| seat.is_some_and(|seat| seat.sequence == sequence);
        let row = self.0.iter().position(is_it);
        row.ok_or_else(|| ort::Error::new(format!("sequence {} has no row", sequence.0)))
    }

    /// Gives a sequence the lowest free row, or a score its own.
    fn take(&mut self, sequence: SequenceId, is_score: bool) -> ort::Result<usize> {
        let last = self.0.len() - 1;
        let mut rows = if is_score { last..last + 1 } else { 0..last };
        let row = rows.find(|&row| self.0[row].is_none()).ok_or_else(|| ort::Error::new("no row is free"))?;
        self.0[row] = Some(Seat { sequence, length: 0 });
        Ok(row)
    }

    /// Returns the number of tokens in a row; none in a free one.
    fn length(&self, row: usize) -> usize {
        self.0[row].map_or(0, |seat| seat.length)
    }

    fn grow(&mut self, row: usize, tokens: usize) {
        if let Some(seat) = &mut self.0[row] {
            seat.length += tokens;
        }
    }

    fn release(&mut self, sequences: &[SequenceId]) {
        for seat in &mut self.0 {
            *seat = seat.filter(|seat| !sequences.contains(&seat.sequence));
        }
    }
}

/// The buffers, their bindings and who has which row.
pub(super) struct Padded {
    // Bindings point into the buffers, so they are dropped before them.
    /// The binding of each bucket's rows.
    steps: BTreeMap<usize, IoBinding>,
    /// The last binding of a prompt's row.
    prompt: Option<(usize, IoBinding)>,
    /// One per cache port.
    buffers: Vec<Buffer>,
    buckets: Buckets,
    chunk_tokens: usize,
    context: usize,
    seats: Seats,
}

impl Padded {
    /// Takes buffers for the rows of the largest bucket, and one more, of up to `context` tokens.
    pub(super) fn new(
        model: &Model,
        buckets: Buckets,
        chunk_tokens: usize,
        context: usize,
    ) -> ort::Result<Self> {
        let rows = buckets.most() + 1;
        let buffer = |port: &CachePort| Buffer::new(&model.places.caches, port, rows, context);
        let buffers = model.ports.caches.iter().map(buffer).collect::<Result<_, _>>()?;
        let seats = Seats::new(buckets.most());
        Ok(Self { steps: BTreeMap::new(), prompt: None, buffers, buckets, chunk_tokens, context, seats })
    }

    /// Runs each shape once without any sequence, so that what the device loads for it is there before the first job.
    pub(super) fn warm_up(&mut self, model: &mut Model) -> ort::Result<()> {
        let pad = model.pad;
        for rows in self.buckets.all().to_vec() {
            self.run_step(model, &vec![pad; rows])?;
        }
        let sequence = SequenceId(u64::MAX);
        self.first(model, (sequence, &[pad]), 1, true)?;
        self.release(&[sequence]);
        Ok(())
    }

    /// Starts a sequence, or a score, with its first tokens.
    pub(super) fn first(
        &mut self,
        model: &mut Model,
        (sequence, tokens): (SequenceId, &[TokenId]),
        wanted: usize,
        is_score: bool,
    ) -> ort::Result<Answered> {
        let row = self.seats.take(sequence, is_score)?;
        self.chunk_at(model, row, tokens, wanted)
    }

    /// Adds tokens to one sequence.
    pub(super) fn chunk(
        &mut self,
        model: &mut Model,
        (sequence, tokens): (SequenceId, &[TokenId]),
        wanted: usize,
    ) -> ort::Result<Answered> {
        let row = self.seats.of(sequence)?;
        self.chunk_at(model, row, tokens, wanted)
    }

    fn chunk_at(
        &mut self,
        model: &mut Model,
        row: usize,
        tokens: &[TokenId],
        wanted: usize,
    ) -> ort::Result<Answered> {
        let length = self.seats.length(row);
        let width = chunk_width(length, tokens.len(), self.chunk_tokens, self.context);
        let mut feed = Feed::padded_chunk(tokens, length, width, model.pad);
        let places = model.keep(&mut feed, wanted, &[tokens.len() - 1]);
        let binding = match self.prompt.take() {
            Some((of, binding)) if of == row => binding,
            _ => bind(model, &mut self.buffers, row..row + 1)?,
        };
        let (_, binding) = self.prompt.insert((row, binding));
        let logits = model.run_bound(feed, binding)?;
        self.seats.grow(row, tokens.len());
        Ok(Answered { logits, places })
    }

    /// Adds one token to each sequence.
    pub(super) fn step(
        &mut self,
        model: &mut Model,
        steps: &[(SequenceId, TokenId)],
    ) -> ort::Result<Answered> {
        let places: Vec<usize> = steps.iter().map(|step| self.seats.of(step.0)).collect::<Result<_, _>>()?;
        let needed = places.iter().max().map_or(1, |row| row + 1).max(model.ports.rows_min);
        let mut tokens = vec![model.pad; self.buckets.of(needed)];
        for (&row, step) in places.iter().zip(steps) {
            let token = tokens.get_mut(row).ok_or_else(|| ort::Error::new("a score takes no step"))?;
            *token = step.1;
        }
        let logits = self.run_step(model, &tokens)?;
        places.iter().for_each(|&row| self.seats.grow(row, 1));
        Ok(Answered { logits, places })
    }

    /// Runs a step of the first rows. A row without a token of its own gets one behind its last, where the next real one
    /// overwrites it.
    fn run_step(&mut self, model: &mut Model, tokens: &[TokenId]) -> ort::Result<ort::value::DynValue> {
        let rows = tokens.len();
        // A row that is full takes no part in any further step, so its last place may be written to.
        let lengths: Vec<usize> = (0..rows).map(|row| self.seats.length(row).min(self.context - 1)).collect();
        let feed = Feed::padded_step(tokens, &lengths, self.context);
        let binding = match self.steps.remove(&rows) {
            Some(binding) => binding,
            None => bind(model, &mut self.buffers, 0..rows)?,
        };
        model.run_bound(feed, self.steps.entry(rows).or_insert(binding))
    }

    /// Forgets sequences.
    pub(super) fn release(&mut self, sequences: &[SequenceId]) {
        self.seats.release(sequences);
    }
}

fn bind(model: &Model, buffers: &mut [Buffer], rows: std::ops::Range<usize>) -> ort::Result<IoBinding> {
    model.bind(|place| buffers[place].rows(&model.places.caches, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_keeps_the_lowest_row_that_was_free() {
        let mut seats = Seats::new(3);
        let [one, two, three, four, score] = [1, 2, 3, 4, 5].map(SequenceId);
        let taken = [one, two, three].map(|sequence| seats.take(sequence, false).expect("room"));
        assert_eq!(taken, [0, 1, 2]);
        assert!(seats.take(four, false).is_err(), "the last row is a score's");
        assert_eq!(seats.take(score, true).expect("its own"), 3);
        assert!(seats.take(SequenceId(6), true).is_err(), "one score at a time");
        seats.grow(1, 7);
        seats.release(&[one, score]);
        assert_eq!((seats.of(two).expect("still there"), seats.length(1)), (1, 7));
        assert_eq!(seats.take(four, false).expect("room"), 0);
        assert_eq!(seats.length(0), 0, "a new sequence has no tokens");
        assert!(seats.of(one).is_err());
    }
}
