//! Sequences whose caches come and go with each run: sequences that take a step together share tensors, whose values go from
//! one run's outputs to the next one's inputs without a copy while no sequence joins or leaves. When one does, the
//! remaining rows are copied into tensors of their own, by way of the CPU if they lie on a GPU. For graphs that can't write into
//! their inputs.

use half::{bf16, f16};
use ort::memory::Allocator;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor};

use super::device::on_host;
use super::elements::Float;
use super::model::{Answered, Model};
use super::ports::{CachePort, Padding, Ports};
use super::rows::{Feed, start};
use infera_engine::SequenceId;
use infera_types::numbers::TokenId;

/// All groups of an engine.
#[derive(Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
}

impl Groups {
    /// Starts sequences with their first tokens, as a group of their own.
    pub(super) fn first(
        &mut self,
        model: &mut Model,
        prompts: &[(SequenceId, &[TokenId])],
        wanted: usize,
    ) -> ort::Result<Answered> {
        let mut tokens: Vec<&[TokenId]> = prompts.iter().map(|prompt| prompt.1).collect();
        // The row of a lone token is repeated if a run needs more rows than one.
        while tokens.len() < model.ports.rows_min && tokens[0].len() < model.ports.rows_min {
            tokens.push(tokens[0]);
        }
        let padding = model.ports.padding;
        let mut feed = Feed::prompts(&tokens, padding, model.pad);
        let width = feed.width;
        let last: Vec<usize> =
            tokens.iter().map(|tokens| start(padding, width, tokens.len()) + tokens.len() - 1).collect();
        let mut places = model.keep(&mut feed, wanted, &last);
        places.truncate(prompts.len());
        let caches = empty_caches(tokens.len(), &model.ports.caches)?;
        let ran = model.run(feed, caches)?;
        let lengths: Vec<usize> = tokens.iter().map(|tokens| tokens.len()).collect();
        let mut rows: Vec<_> = prompts.iter().map(|prompt| Some(prompt.0)).collect();
        rows.resize(tokens.len(), None);
        self.groups.push(Group { rows, lengths, caches: ran.caches });
        Ok(Answered { logits: ran.logits, places })
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
        let mut group = self.take(model, &[sequence], 1)?;
        let length = group.lengths[0];
        let mut feed = Feed::chunk(tokens, length);
        let places = model.keep(&mut feed, wanted, &[tokens.len() - 1]);
        let ran = model.run(feed, std::mem::take(&mut group.caches))?;
        group.lengths = vec![length + tokens.len()];
        group.caches = ran.caches;
        self.groups.push(group);
        Ok(Answered { logits: ran.logits, places })
    }

    /// Adds one token to each sequence.
    pub(super) fn step(
        &mut self,
        model: &mut Model,
        steps: &[(SequenceId, TokenId)],
    ) -> ort::Result<Answered> {
        let sequences: Vec<SequenceId> = steps.iter().map(|step| step.0).collect();
        let mut group = self.take(model, &sequences, model.ports.rows_min)?;
        let places: Vec<usize> = sequences.iter().filter_map(|&sequence| group.row_of(sequence)).collect();
        let mut tokens = vec![model.pad; group.rows.len()];
        for (&place, step) in places.iter().zip(steps) {
            tokens[place] = step.1;
        }
        let feed = Feed::step(&tokens, &group.lengths, model.ports.padding);
        let ran = model.run(feed, std::mem::take(&mut group.caches))?;
        group.lengths.iter_mut().for_each(|length| *length += 1);
        group.caches = ran.caches;
        self.groups.push(group);
        Ok(Answered { logits: ran.logits, places })
    }

    /// Forgets sequences.
    pub(super) fn release(&mut self, sequences: &[SequenceId]) {
        for group in &mut self.groups {
            for row in &mut group.rows {
                *row = row.filter(|sequence| !sequences.contains(sequence));
            }
        }
        self.groups.retain(|group| group.live() > 0);
    }

    /// Removes the group that suits a run of these sequences, or makes one by copying their rows out of other
    /// groups. In either case none of the engine's groups holds the sequences afterwards.
    fn take(&mut self, model: &Model, sequences: &[SequenceId], rows_min: usize) -> ort::Result<Group> {
        if let Some(place) = self.groups.iter().position(|group| group.suits(sequences, rows_min)) {
            return Ok(self.groups.swap_remove(place));
        }
        let find = |sequence: &SequenceId| {
            self.groups.iter().find_map(|group| group.row_of(*sequence).map(|row| (group, row)))
        };
        let mut sources: Vec<(&Group, usize)> = sequences.iter().filter_map(find).collect();
        while sources.len() < rows_min && !sources.is_empty() {
            sources.push(sources[0]);
        }
        let gathered = gather(&sources, &model.ports, &model.places.caches);
        self.release(sequences);
        let mut group = gathered?;
        group.rows[sequences.len()..].fill(None);
        Ok(group)
    }
}

/// Sequences whose caches are in the same tensors. A group's rows never move; a sequence that leaves makes a hole.
struct Group {
    /// The sequence in each row; none once it has left, or if the row only makes up the required number.
    rows: Vec<Option<SequenceId>>,
    /// How many tokens each row has.
    lengths: Vec<usize>,
    /// `[rows, heads, longest, size]` for each cache port.
    caches: Vec<DynValue>,
}

impl Group {
    fn row_of(&self, sequence: SequenceId) -> Option<usize> {
        self.rows.iter().position(|row| *row == Some(sequence))
    }

    fn live(&self) -> usize {
        self.rows.iter().flatten().count()
    }

    /// Returns whether the group can take a step of exactly these sequences as it is: it holds them and no others,
    /// and has no more holes than it needs to reach `rows_min` rows, and no hole is longer than the longest sequence.
    fn suits(&self, sequences: &[SequenceId], rows_min: usize) -> bool {
        let longest =
            sequences.iter().filter_map(|&sequence| self.row_of(sequence)).map(|row| self.lengths[row]).max();
        self.rows.len() == sequences.len().max(rows_min)
            && self.live() == sequences.len()
            && sequences.iter().all(|&sequence| self.row_of(sequence).is_some())
            && longest == Some(self.width())
    }

    fn width(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or_default()
    }
}

/// Copies rows of several groups into a group of their own, in the order given.
fn gather(sources: &[(&Group, usize)], ports: &Ports, memory: &Allocator) -> ort::Result<Group> {
    let lengths: Vec<usize> = sources.iter().map(|(group, row)| group.lengths[*row]).collect();
    let mut caches = Vec::with_capacity(ports.caches.len());
    for (place, port) in ports.caches.iter().enumerate() {
        let gathered = match port.element {
            Float::Float32 => gather_values::<f32>,
            Float::Float16 => gather_values::<f16>,
            Float::Bfloat16 => gather_values::<bf16>,
        };
        caches.push(gathered(sources, place, (port, ports.padding), memory)?);
    }
    let rows = sources.iter().map(|(group, row)| group.rows[*row]).collect();
    Ok(Group { rows, lengths, caches })
}

/// Copies one cache of the rows.
fn gather_values<T: PrimitiveTensorElementType + Copy + Default + std::fmt::Debug + 'static>(
    sources: &[(&Group, usize)],
    place: usize,
    (port, padding): (&CachePort, Padding),
    memory: &Allocator,
) -> ort::Result<DynValue> {
    let width = sources.iter().map(|(group, row)| group.lengths[*row]).max().unwrap_or_default();
    // Zeros, because graphs multiply masked values by 0, and a leftover NaN would stay NaN.
    let mut values = vec![T::default(); sources.len() * port.heads * width * port.size];
    for (target, (group, row)) in sources.iter().enumerate() {
        let copy = on_host(&group.caches[place], memory)?;
        let (_, source) = copy.as_ref().unwrap_or(&group.caches[place]).try_extract_tensor::<T>()?;
        let (length, old_width) = (group.lengths[*row], group.width());
        for head in 0..port.heads {
            let from = (row * port.heads + head) * old_width + start(padding, old_width, length);
            let to = (target * port.heads + head) * width + start(padding, width, length);
            let (from, to, count) = (from * port.size, to * port.size, length * port.size);
            values[to..to + count].copy_from_slice(&source[from..from + count]);
        }
    }
    cache_value(sources.len(), port, width, values)
}

fn cache_value<T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static>(
    rows: usize,
    port: &CachePort,
    width: usize,
    values: Vec<T>,
) -> ort::Result<DynValue> {
    Ok(Tensor::from_array(([rows, port.heads, width, port.size], values))?.into_dyn())
}

/// Returns caches of `rows` sequences without tokens.
fn empty_caches(rows: usize, ports: &[CachePort]) -> ort::Result<Vec<DynValue>> {
    let empty = |port: &CachePort| match port.element {
        Float::Float32 => cache_value::<f32>(rows, port, 0, Vec::new()),
        Float::Float16 => cache_value::<f16>(rows, port, 0, Vec::new()),
        Float::Bfloat16 => cache_value::<bf16>(rows, port, 0, Vec::new()),
    };
    ports.iter().map(empty).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_suits_its_own_sequences_alone() {
        let [one, two, three] = [1, 2, 3].map(SequenceId);
        let group = |rows: &[Option<SequenceId>], lengths: &[usize]| Group {
            rows: rows.to_vec(),
            lengths: lengths.to_vec(),
            caches: Vec::new(),
        };
        let whole = group(&[Some(one), Some(two)], &[5, 4]);
        assert!(whole.suits(&[two, one], 1));
        assert!(
            !whole.suits(&[one], 1) && !whole.suits(&[one, three], 1) && !whole.suits(&[one, two, three], 1)
        );
        let holed = group(&[Some(one), None], &[5, 4]);
        assert!(!holed.suits(&[one], 1), "a hole costs a row");
        assert!(holed.suits(&[one], 2), "unless rows are wanted");
        assert!(!group(&[Some(one), None], &[4, 5]).suits(&[one], 2), "a hole must not outgrow the context");
        assert!(!group(&[Some(one)], &[4]).suits(&[one], 2));
    }
}
