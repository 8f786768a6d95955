//! Sequences whose caches, of f32, lie in fixed buffers, which are bound as what a run reads and as what it writes: each layer's keys
//! and values of all sequences are one buffer, `[rows, heads, context, size]`, and a sequence is a row of each. Nothing is
//! copied for a step, nor when a sequence joins; when one leaves, the last row moves to its place, so that the rows in
//! use are always the first ones.
//!
//! A run takes neighbouring rows. If some between them are not part of it, or if a run needs more rows than it has, the
//! others are given a token too: it is written behind their last one, where the next real token overwrites it.

use ort::session::IoBinding;

use super::memory::Memory;
use super::model::{Answered, Model};
use super::ports::{CachePort, Padding};
use super::prefixes::Block;
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

/// Neighbouring rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: usize,
    rows: usize,
}

/// A binding to neighbouring rows.
struct Bound {
    span: Span,
    binding: IoBinding,
}

/// The buffers and who is in which row.
pub(super) struct Slab {
    // Bindings point into the buffers, so they are dropped before them.
    /// The last binding for steps, which mostly take the same rows as the step before.
    steps: Option<Bound>,
    /// The last binding for prompts, which come between two steps and take other rows.
    prompts: Option<Bound>,
    /// One per cache port.
    buffers: Vec<Memory>,
    ports: Vec<CachePort>,
    context: usize,
    rows: usize,
    seats: Vec<Seat>,
}

impl Slab {
    /// Makes buffers for `rows` sequences of up to `context` tokens. Memory is taken as it is used.
    pub(super) fn new(ports: &[CachePort], rows: usize, context: usize) -> ort::Result<Self> {
        let length = |port: &CachePort| {
            let numbers = rows.checked_mul(port.heads)?.checked_mul(context)?.checked_mul(port.size)?;
            Some(numbers)
        };
        let buffer = |port: &CachePort| {
            let length =
                length(port).ok_or_else(|| ort::Error::new("the caches are larger than memory can be"));
            Memory::new(length?)
        };
        let buffers = ports.iter().map(buffer).collect::<Result<_, _>>()?;
        Ok(Self {
            steps: None,
            prompts: None,
            buffers,
            ports: ports.to_vec(),
            context,
            rows,
            seats: Vec::new(),
        })
    }

    /// Returns how many numbers a token takes in all buffers.
    fn numbers_per_token(&self) -> usize {
        self.ports.iter().map(|port| port.heads * port.size).sum()
    }

    fn row_of(&self, sequence: SequenceId) -> ort::Result<usize> {
        let row = self.seats.iter().position(|seat| seat.sequence == sequence);
        row.ok_or_else(|| ort::Error::new(format!("sequence {} has no row", sequence.0)))
    }

    fn seat(&mut self, sequence: SequenceId, length: usize) -> ort::Result<usize> {
        if self.seats.len() == self.rows {
            return Err(ort::Error::new("no row is free"));
        }
        self.seats.push(Seat { sequence, length });
        Ok(self.seats.len() - 1)
    }

    /// Starts sequences with their first tokens.
    pub(super) fn first(
        &mut self,
        model: &mut Model,
        prompts: &[(SequenceId, &[TokenId])],
        wanted: usize,
    ) -> ort::Result<Answered> {
        let first = self.seats.len();
        for (sequence, _) in prompts {
            self.seat(*sequence, 0)?;
        }
        let tokens: Vec<&[TokenId]> = prompts.iter().map(|prompt| prompt.1).collect();
        let width = tokens.iter().map(|tokens| tokens.len()).max().unwrap_or_default();
        if width <= 1 {
            let steps: Vec<_> =
                prompts.iter().filter_map(|(sequence, tokens)| Some((*sequence, *tokens.first()?))).collect();
            return self.step(model, &steps);
        }
        let mut feed = Feed::prompts(&tokens, Padding::Right, model.pad);
        let last: Vec<usize> = tokens.iter().map(|tokens| tokens.len() - 1).collect();
        let places = model.keep(&mut feed, wanted, &last);
        let span = Span { first, rows: prompts.len() };
        let bound = bound(&mut self.prompts, &mut self.buffers, (&self.ports, self.context), model, span)?;
        let logits = model.run_bound(feed, bound)?;
        for (seat, tokens) in self.seats[first..].iter_mut().zip(&tokens) {
            seat.length = tokens.len();
        }
        Ok(Answered { logits, places })
    }

    /// Adds tokens to one sequence.
    pub(super) fn chunk(
        &mut self,
        model: &mut Model,
        (sequence, tokens): (SequenceId, &[TokenId]),
        wanted: usize,
    ) -> ort::Result<Answered> {
        if let [token] = tokens {
            return self.step(model, &[(sequence, *token)]);
        }
        let row = self.row_of(sequence)?;
        let mut feed = Feed::chunk(tokens, self.seats[row].length);
        let places = model.keep(&mut feed, wanted, &[tokens.len() - 1]);
        let span = Span { first: row, rows: 1 };
        let bound = bound(&mut self.prompts, &mut self.buffers, (&self.ports, self.context), model, span)?;
        let logits = model.run_bound(feed, bound)?;
        self.seats[row].length += tokens.len();
        Ok(Answered { logits, places })
    }

    /// Adds one token to each sequence.
    pub(super) fn step(
        &mut self,
        model: &mut Model,
        steps: &[(SequenceId, TokenId)],
    ) -> ort::Result<Answered> {
        let places: Vec<usize> = steps.iter().map(|step| self.row_of(step.0)).collect::<Result<_, _>>()?;
        let span = span_of(&places, model.ports.rows_min, self.rows);
        let mut tokens = vec![model.pad; span.rows];
        for (&row, step) in places.iter().zip(steps) {
            tokens[row - span.first] = step.1;
        }
        // A row that is full takes no part in any further step, so its last place may be written to.
        let length = |row: usize| self.seats.get(row).map_or(0, |seat| seat.length).min(self.context - 1);
        let lengths: Vec<usize> = (span.first..span.first + span.rows).map(length).collect();
        let feed = Feed::step(&tokens, &lengths, Padding::Right);
        let bound = bound(&mut self.steps, &mut self.buffers, (&self.ports, self.context), model, span)?;
        let logits = model.run_bound(feed, bound)?;
        for &row in &places {
            self.seats[row].length += 1;
        }
        Ok(Answered { logits, places: places.into_iter().map(|row| row - span.first).collect() })
    }

    /// Forgets sequences; the last rows move to their places.
    pub(super) fn release(&mut self, sequences: &[SequenceId]) {
        // The last ones first, so that no row moves that leaves itself.
        for row in (0..self.seats.len()).rev() {
            if sequences.contains(&self.seats[row].sequence) {
                let last = self.seats.len() - 1;
                if row < last {
                    self.copy_row(last, row, self.seats[last].length);
                }
                self.seats.swap_remove(row);
            }
        }
    }

    fn copy_row(&mut self, from: usize, to: usize, length: usize) {
        for (port, buffer) in self.ports.iter().zip(&mut self.buffers) {
            for head in 0..port.heads {
                let place = |row: usize| (row * port.heads + head) * self.context * port.size;
                buffer.copy_within(place(from), place(to), length * port.size);
            }
        }
    }

    /// Copies what was computed for a sequence's tokens `from..to`, of all ports and heads one after the other; nothing if
    /// the sequence has no row.
    pub(super) fn read(&self, sequence: SequenceId, from: usize, to: usize) -> Option<Vec<f32>> {
        let row = self.seats.iter().position(|seat| seat.sequence == sequence)?;
        let mut values = Vec::with_capacity((to - from) * self.numbers_per_token());
        for (port, buffer) in self.ports.iter().zip(&self.buffers) {
            for head in 0..port.heads {
                let place = ((row * port.heads + head) * self.context + from) * port.size;
                buffer.read(place, (to - from) * port.size, &mut values);
            }
        }
        Some(values)
    }

    /// Starts a sequence with what was computed for its beginning, block after block of `block_tokens` tokens.
    pub(super) fn restore(
        &mut self,
        sequence: SequenceId,
        blocks: &[Block],
        block_tokens: usize,
    ) -> ort::Result<()> {
        let row = self.seat(sequence, 0)?;
        for block in blocks {
            if block.len() != block_tokens * self.numbers_per_token() {
                return Err(ort::Error::new("a cached block has another size"));
            }
            let (length, mut rest) = (self.seats[row].length, block.as_slice());
            for (port, buffer) in self.ports.iter().zip(&mut self.buffers) {
                for head in 0..port.heads {
                    let (values, others) = rest.split_at(block_tokens * port.size);
                    buffer.write(((row * port.heads + head) * self.context + length) * port.size, values);
                    rest = others;
                }
            }
            self.seats[row].length += block_tokens;
        }
        Ok(())
    }
}

/// Returns the neighbouring rows that hold all of `places`, and at least `rows_min`, of `rows` that there are.
fn span_of(places: &[usize], rows_min: usize, rows: usize) -> Span {
    let first = places.iter().copied().min().unwrap_or_default();
    let end = places.iter().copied().max().map_or(first, |last| last + 1).max(first + rows_min).min(rows);
    let first = first.min(end.saturating_sub(rows_min));
    Span { first, rows: end - first }
}

/// Returns the binding to these rows: the last one if it is to the same.
fn bound<'a>(
    last: &'a mut Option<Bound>,
    buffers: &mut [Memory],
    (ports, context): (&[CachePort], usize),
    model: &Model,
    span: Span,
) -> ort::Result<&'a mut IoBinding> {
    let fresh = match last.take() {
        Some(bound) if bound.span == span => bound,
        _ => {
            let binding = model.bind(|place| {
                let port = &ports[place];
                let from = span.first * port.heads * context * port.size;
                buffers[place].tensor(from, [span.rows, port.heads, context, port.size])
            })?;
            Bound { span, binding }
        }
    };
    Ok(&mut last.insert(fresh).binding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elements::Float;

    #[test]
    fn a_span_holds_all_rows_and_as_many_as_are_needed() {
        let span = |places: &[usize], rows_min| {
            let Span { first, rows } = span_of(places, rows_min, 5);
            (first, rows)
        };
        assert_eq!(span(&[0], 1), (0, 1));
        assert_eq!(span(&[3, 1], 1), (1, 3), "the row between them takes part");
        assert_eq!(span(&[2], 2), (2, 2));
        assert_eq!(span(&[4], 2), (3, 2), "the last row's neighbour is before it");
        assert_eq!(span(&[0, 4], 2), (0, 5));
    }

    #[test]
    fn the_last_row_moves_to_the_place_of_one_that_leaves() {
        let ports = [CachePort {
            input: "i".into(),
            output: 0,
            output_name: "o".into(),
            heads: 2,
            size: 3,
            element: Float::Float32,
        }];
        let mut slab = Slab::new(&ports, 4, 5).expect("small");
        let [one, two, three] = [1, 2, 3].map(SequenceId);
        let block = |sequence: SequenceId| {
            Block::new((0..12).map(|place| (sequence.0 * 100 + place) as f32).collect())
        };
        for sequence in [one, two, three] {
            slab.restore(sequence, &[block(sequence)], 2).expect("room");
        }
        slab.release(&[one, SequenceId(9)]);
        let seats: Vec<_> = slab.seats.iter().map(|seat| (seat.sequence, seat.length)).collect();
        assert_eq!(seats, [(three, 2), (two, 2)]);
        for sequence in [two, three] {
            assert_eq!(slab.read(sequence, 0, 2).expect("known"), *block(sequence));
        }
        assert_eq!(slab.read(two, 1, 2).expect("known"), [203.0, 204.0, 205.0, 209.0, 210.0, 211.0]);
        slab.release(&[two, three]);
        assert!(slab.seats.is_empty() && slab.read(two, 0, 1).is_none());
    }
}
