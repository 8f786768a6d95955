//! The numbers of rows that steps are padded to. A kernel that is chosen by the shape of its inputs sums in the order of that
//! shape, so a row is the same in any company only if the shape never changes. Pure.

/// The most rows of a bucket: what a step costs beyond grows with its rows on every GPU.
const ROWS_MAX: usize = 1024;
/// The most buckets: each has a binding to all caches of its own.
const BUCKETS_MAX: usize = 8;

/// Ascending numbers of rows; none where steps aren't padded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Buckets(Vec<usize>);

impl Buckets {
    /// Takes numbers of rows that have no [`mistake`].
    pub(super) fn new(rows: Vec<usize>) -> Self {
        Self(rows)
    }

    /// Returns the smallest bucket that holds `rows` rows, and the largest if none does.
    pub(super) fn of(&self, rows: usize) -> usize {
        self.0.iter().copied().find(|&bucket| bucket >= rows).unwrap_or_else(|| self.most())
    }

    /// Returns the largest bucket; 0 if there is none.
    pub(super) fn most(&self) -> usize {
        self.0.last().copied().unwrap_or_default()
    }

    /// Returns all buckets.
    pub(super) fn all(&self) -> &[usize] {
        &self.0
    }

    /// Returns the word for the numeric class, such as `b16`, or `b1.8.32`.
    pub(super) fn word(&self) -> String {
        let rows: Vec<String> = self.0.iter().map(usize::to_string).collect();
        format!("b{}", rows.join("."))
    }
}

/// Returns what is wrong with the numbers of rows that an operator names, for an engine of so many sequences.
pub(super) fn mistake(rows: &[usize], sequences_max: usize) -> Option<String> {
    let last = rows.last()?;
    if rows[0] == 0 || rows.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Some(format!("batch_buckets is {rows:?}; it must be numbers of rows that ascend, from 1 on"));
    }
    if *last > ROWS_MAX || rows.len() > BUCKETS_MAX {
        return Some(format!(
            "batch_buckets is {rows:?}; it may name {BUCKETS_MAX} numbers of rows up to {ROWS_MAX}"
        ));
    }
    (*last < sequences_max).then(|| {
        format!(
            "batch_buckets ends at {last}; sequences_max is {sequences_max}, and all may take a step at once"
        )
    })
}

/// Returns how many columns a chunk of a prompt is computed in: always a whole chunk, but for the end of the context.
pub(super) fn chunk_width(length: usize, tokens: usize, chunk_tokens: usize, context: usize) -> usize {
    chunk_tokens.min(context.saturating_sub(length)).max(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_takes_the_smallest_bucket_that_holds_it() {
        let buckets = Buckets::new(vec![1, 8, 32]);
        let found: Vec<usize> = [0, 1, 2, 8, 9, 32].map(|rows| buckets.of(rows)).into();
        assert_eq!(found, [1, 1, 8, 8, 32, 32]);
        assert_eq!((buckets.most(), buckets.word().as_str()), (32, "b1.8.32"));
        assert_eq!(Buckets::new(vec![16]).word(), "b16");
        for rows in 1..=32 {
            assert!(buckets.of(rows) >= rows);
        }
    }

    #[test]
    fn mistakes_name_the_setting_and_what_it_may_be() {
        assert_eq!(mistake(&[], 16), None, "no buckets at all");
        assert_eq!(mistake(&[16], 16), None);
        assert_eq!(mistake(&[1, 8, 32], 16), None);
        for (rows, says) in [
            (&[0, 16][..], "ascend"),
            (&[8, 8, 16], "ascend"),
            (&[16, 8], "ascend"),
            (&[1, 2, 3, 4, 5, 6, 7, 8, 16], "8 numbers"),
            (&[2048], "up to 1024"),
            (&[1, 8], "sequences_max is 16"),
        ] {
            let said = mistake(rows, 16).unwrap_or_default();
            assert!(said.contains("batch_buckets") && said.contains(says), "{rows:?}: {said}");
        }
    }

    #[test]
    fn a_chunk_is_whole_until_the_context_ends() {
        assert_eq!(chunk_width(0, 1, 64, 512), 64);
        assert_eq!(chunk_width(64, 64, 64, 512), 64);
        assert_eq!(chunk_width(448, 3, 64, 500), 52);
        assert_eq!(chunk_width(448, 52, 64, 500), 52);
        assert_eq!(chunk_width(0, 20, 64, 32), 32);
    }
}
