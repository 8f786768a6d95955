//! Lays out sequences as rows of tensors: tokens, masks and caches in a padded batch. It is pure except for the cache
//! values, which belong to ONNX Runtime; no session runs here.

use half::{bf16, f16};
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor};

use super::elements::Float;
use super::ports::{CachePort, Padding};
use infera_engine::SequenceId;
use infera_types::numbers::TokenId;

/// The small inputs of a run: `rows * width` token ids and positions, `rows * total` of mask.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Feed {
    pub(super) rows: usize,
    /// New tokens per row, padding included.
    pub(super) width: usize,
    /// All tokens per row, padding included.
    pub(super) total: usize,
    pub(super) ids: Vec<i64>,
    pub(super) mask: Vec<i64>,
    pub(super) positions: Vec<i64>,
}

impl Feed {
    /// Makes the inputs for whole prompts with nothing before them.
    pub(super) fn prompts(prompts: &[&[TokenId]], padding: Padding, pad: TokenId) -> Self {
        let width = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or_default();
        let mut feed = Self::empty(prompts.len(), width, width);
        for prompt in prompts {
            let start = start(padding, width, prompt.len());
            for column in 0..width {
                let token = column.checked_sub(start).and_then(|index| prompt.get(index));
                feed.ids.push(i64::from(*token.unwrap_or(&pad)));
                feed.mask.push(i64::from(token.is_some()));
                feed.positions.push(column.saturating_sub(start) as i64);
            }
        }
        feed
    }

    /// Makes the inputs for one more token per row; `lengths` holds the present number of tokens of each row.
    pub(super) fn step(tokens: &[TokenId], lengths: &[usize], padding: Padding) -> Self {
        let total = lengths.iter().max().map_or(0, |longest| longest + 1);
        let mut feed = Self::empty(tokens.len(), 1, total);
        for (&token, &length) in tokens.iter().zip(lengths) {
            let start = start(padding, total, length + 1);
            feed.ids.push(i64::from(token));
            feed.positions.push(length as i64);
            feed.mask
                .extend((0..total).map(|column| i64::from((start..start + length + 1).contains(&column))));
        }
        feed
    }

    fn empty(rows: usize, width: usize, total: usize) -> Self {
        Self { rows, width, total, ids: Vec::new(), mask: Vec::new(), positions: Vec::new() }
    }
}

/// Returns the column of a row's first token.
pub(super) fn start(padding: Padding, width: usize, length: usize) -> usize {
    match padding {
        Padding::Left => width - length,
        Padding::Right | Padding::Never => 0,
    }
}

/// Sequences whose caches are in the same tensors. A group's rows never move; a sequence that leaves makes a hole.
pub(super) struct Group {
    /// The sequence in each row; none once it has left, or if the row only makes up the required number.
    pub(super) rows: Vec<Option<SequenceId>>,
    /// How many tokens each row has.
    pub(super) lengths: Vec<usize>,
    /// `[rows, heads, longest, size]` for each cache port.
    pub(super) caches: Vec<DynValue>,
}

impl Group {
    pub(super) fn row_of(&self, sequence: SequenceId) -> Option<usize> {
        self.rows.iter().position(|row| *row == Some(sequence))
    }

    pub(super) fn live(&self) -> usize {
        self.rows.iter().flatten().count()
    }

    /// Returns whether the group can take a step of exactly these sequences as it is: it holds them and no others,
    /// and has no more holes than it needs to reach `rows_min` rows, and no hole is longer than the longest sequence.
    pub(super) fn suits(&self, sequences: &[SequenceId], rows_min: usize) -> bool {
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
pub(super) fn gather(
    sources: &[(&Group, usize)],
    ports: &[CachePort],
    padding: Padding,
) -> ort::Result<Group> {
    let lengths: Vec<usize> = sources.iter().map(|(group, row)| group.lengths[*row]).collect();
    let mut caches = Vec::with_capacity(ports.len());
    for (place, port) in ports.iter().enumerate() {
        let gathered = match port.element {
            Float::Float32 => gather_values::<f32>,
            Float::Float16 => gather_values::<f16>,
            Float::Bfloat16 => gather_values::<bf16>,
        };
        caches.push(gathered(sources, place, port, padding)?);
    }
    let rows = sources.iter().map(|(group, row)| group.rows[*row]).collect();
    Ok(Group { rows, lengths, caches })
}

/// Copies one cache of the rows.
fn gather_values<T: PrimitiveTensorElementType + Copy + Default + std::fmt::Debug + 'static>(
    sources: &[(&Group, usize)],
    place: usize,
    port: &CachePort,
    padding: Padding,
) -> ort::Result<DynValue> {
    let width = sources.iter().map(|(group, row)| group.lengths[*row]).max().unwrap_or_default();
    // Zeros, because graphs multiply masked values by 0, and a leftover NaN would stay NaN.
    let mut values = vec![T::default(); sources.len() * port.heads * width * port.size];
    for (target, (group, row)) in sources.iter().enumerate() {
        let (_, source) = group.caches[place].try_extract_tensor::<T>()?;
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
pub(super) fn empty_caches(rows: usize, ports: &[CachePort]) -> ort::Result<Vec<DynValue>> {
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
    fn prompts_are_padded_on_their_side() {
        let prompts: [&[TokenId]; 2] = [&[5, 6, 7], &[8]];
        let right = Feed::prompts(&prompts, Padding::Right, 9);
        assert_eq!((right.rows, right.width, right.total), (2, 3, 3));
        assert_eq!(right.ids, [5, 6, 7, 8, 9, 9]);
        assert_eq!(right.mask, [1, 1, 1, 1, 0, 0]);
        assert_eq!(right.positions, [0, 1, 2, 0, 1, 2]);
        let left = Feed::prompts(&prompts, Padding::Left, 9);
        assert_eq!(left.ids, [5, 6, 7, 9, 9, 8]);
        assert_eq!(left.mask, [1, 1, 1, 0, 0, 1]);
        assert_eq!(left.positions, [0, 1, 2, 0, 0, 0]);
    }

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

    #[test]
    fn a_step_adds_one_column() {
        let right = Feed::step(&[5, 6], &[3, 1], Padding::Right);
        assert_eq!((right.rows, right.width, right.total), (2, 1, 4));
        assert_eq!(right.ids, [5, 6]);
        assert_eq!(right.positions, [3, 1]);
        assert_eq!(right.mask, [1, 1, 1, 1, 1, 1, 0, 0]);
        let left = Feed::step(&[5, 6], &[3, 1], Padding::Left);
        assert_eq!(left.mask, [1, 1, 1, 1, 0, 0, 1, 1]);
        assert_eq!(left.positions, [3, 1]);
    }
}
