//! Lays out sequences as rows of a padded batch: the small inputs of a run. Pure.

use super::ports::Padding;
use infera_types::numbers::TokenId;

/// The small inputs of a run: `rows * width` token ids and positions, `rows * total` of mask.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Feed {
    pub(super) rows: usize,
    /// New tokens per row, padding included.
    pub(super) width: usize,
    /// All tokens per row, padding included.
    pub(super) total: usize,
    /// For how many of the last columns logits are wanted; 0 is all.
    pub(super) kept: usize,
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

    /// Makes the inputs for more tokens of one row, which has `length` already.
    pub(super) fn chunk(tokens: &[TokenId], length: usize) -> Self {
        let total = length + tokens.len();
        Self {
            rows: 1,
            width: tokens.len(),
            total,
            kept: 0,
            ids: tokens.iter().map(|&token| i64::from(token)).collect(),
            mask: vec![1; total],
            positions: (length..total).map(|position| position as i64).collect(),
        }
    }

    /// Makes the inputs for more tokens of one row in `width` columns. Those that the tokens lack count as tokens, because rows of
    /// a chunk may not differ in length from its mask; they come after the real ones, which therefore don't see them, and the
    /// row's next tokens are written over theirs.
    pub(super) fn padded_chunk(tokens: &[TokenId], length: usize, width: usize, pad: TokenId) -> Self {
        let mut padded = tokens.to_vec();
        padded.resize(width, pad);
        Self::chunk(&padded, length)
    }

    /// Makes the inputs for one more token per row with a mask of `total` columns, whatever the rows' lengths.
    pub(super) fn padded_step(tokens: &[TokenId], lengths: &[usize], total: usize) -> Self {
        Self::step_of(tokens, lengths, Padding::Right, total)
    }

    /// Makes the inputs for one more token per row; `lengths` holds the present number of tokens of each row.
    pub(super) fn step(tokens: &[TokenId], lengths: &[usize], padding: Padding) -> Self {
        let total = lengths.iter().max().map_or(0, |longest| longest + 1);
        Self::step_of(tokens, lengths, padding, total)
    }

    fn step_of(tokens: &[TokenId], lengths: &[usize], padding: Padding, total: usize) -> Self {
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

    /// Wants the logits of each row's last `wanted` tokens alone, if the graph allows it: fewer rows than the graph needs for
    /// its numbers to be those of any batch must not be wanted. `places` are the columns of the
    /// rows' last tokens; returns the place of each among all of the run's logits.
    pub(super) fn keep(&mut self, wanted: usize, allowed: bool, places: &[usize]) -> Vec<usize> {
        let first = places.iter().copied().min().map_or(0, |last| (last + 1).saturating_sub(wanted));
        let left_out = if allowed { first } else { 0 };
        self.kept = self.width - left_out;
        places.iter().enumerate().map(|(row, &last)| row * self.kept + last - left_out).collect()
    }

    /// Returns how many rows and columns of logits the run gives.
    pub(super) const fn logits_shape(&self) -> [usize; 2] {
        [self.rows, if self.kept == 0 { self.width } else { self.kept }]
    }

    fn empty(rows: usize, width: usize, total: usize) -> Self {
        Self { rows, width, total, kept: 0, ids: Vec::new(), mask: Vec::new(), positions: Vec::new() }
    }
}

/// Returns the column of a row's first token.
pub(super) fn start(padding: Padding, width: usize, length: usize) -> usize {
    match padding {
        Padding::Left => width - length,
        Padding::Right | Padding::Never => 0,
    }
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
    fn logits_are_wanted_of_the_last_columns_alone() {
        let prompts: [&[TokenId]; 2] = [&[5, 6, 7, 8], &[8, 9]];
        let mut feed = Feed::prompts(&prompts, Padding::Right, 9);
        // The second row's only token that counts is in column 1, so columns 1 to 3 are kept.
        assert_eq!(feed.keep(1, true, &[3, 1]), [2, 3]);
        assert_eq!(feed.kept, 3);
        assert_eq!((feed.keep(1, false, &[3, 1]), feed.kept), (vec![3, 5], 4));
        let mut chunk = Feed::chunk(&[5, 6, 7, 8], 3);
        assert_eq!((chunk.keep(1, true, &[3]), chunk.kept), (vec![0], 1));
        assert_eq!((chunk.keep(3, true, &[3]), chunk.kept), (vec![2], 3));
        assert_eq!((chunk.keep(9, true, &[3]), chunk.kept), (vec![3], 4));
    }

    #[test]
    fn a_chunk_goes_on_where_its_row_ends() {
        let chunk = Feed::chunk(&[5, 6], 3);
        assert_eq!((chunk.rows, chunk.width, chunk.total), (1, 2, 5));
        assert_eq!((chunk.ids, chunk.mask, chunk.positions), (vec![5, 6], vec![1; 5], vec![3, 4]));
    }

    #[test]
    fn padded_runs_have_the_same_shape_whatever_is_in_them() {
        let chunk = Feed::padded_chunk(&[5, 6], 3, 4, 9);
        assert_eq!((chunk.rows, chunk.width, chunk.total), (1, 4, 7));
        assert_eq!(
            (chunk.ids, chunk.mask, chunk.positions),
            (vec![5, 6, 9, 9], vec![1; 7], vec![3, 4, 5, 6])
        );
        let step = Feed::padded_step(&[5, 9], &[3, 0], 6);
        assert_eq!((step.rows, step.width, step.total), (2, 1, 6));
        assert_eq!(step.mask, [1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(step.positions, [3, 0]);
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
