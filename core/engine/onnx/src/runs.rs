//! Splits first chunks into runs whose logits are bounded. Pure.

use infera_engine::SequenceId;
use infera_types::numbers::TokenId;

/// How many logits one run of prompts may yield: 64 MiB of them. Models yield logits for every token of a chunk,
/// though only the last row is needed; first chunks beyond the bound take several runs.
pub(super) const LOGITS_MAX: usize = 16 << 20;

/// Splits first chunks into runs whose logits stay within [`LOGITS_MAX`]; each run has at least one, and only one if they can't
/// be joined.
pub(super) fn runs<'p, 'a>(
    firsts: &'p [(SequenceId, &'a [TokenId])],
    vocabulary: usize,
    is_joined: bool,
) -> Vec<&'p [(SequenceId, &'a [TokenId])]> {
    if !is_joined {
        return firsts.chunks(1).collect();
    }
    let (mut runs, mut begin, mut width) = (Vec::new(), 0, 0);
    for (end, (_, tokens)) in firsts.iter().enumerate() {
        let wider = width.max(tokens.len());
        if end > begin && (end + 1 - begin) * wider * vocabulary > LOGITS_MAX {
            runs.push(&firsts[begin..end]);
            (begin, width) = (end, tokens.len());
        } else {
            width = wider;
        }
    }
    if begin < firsts.len() {
        runs.push(&firsts[begin..]);
    }
    runs
}

#[cfg(test)]
mod tests {
    use infera_engine::admission::Extent;

    use super::*;
    use crate::OnnxConfig;

    #[test]
    fn first_chunks_run_together_as_far_as_their_logits_fit() {
        let tokens = vec![0; 1000];
        let sizes = |lengths: &[usize], vocabulary| {
            let firsts: Vec<_> = lengths
                .iter()
                .enumerate()
                .map(|(index, &length)| (SequenceId(index as u64), &tokens[..length]))
                .collect();
            let sizes =
                |joined| runs(&firsts, vocabulary, joined).iter().map(|run| run.len()).collect::<Vec<_>>();
            assert_eq!(sizes(false), vec![1; lengths.len()]);
            sizes(true)
        };
        assert_eq!(sizes(&[9; 16], 768), [16]);
        assert_eq!(sizes(&[], 768), [0; 0]);
        // Two rows of 1,000 tokens fit into 16 Mi logits of this vocabulary; every run with a long one is as wide.
        assert_eq!(sizes(&[10, 1000, 1, 10, 10], 7_500), [2, 3]);
        assert_eq!(sizes(&[1000, 1000], 1 << 20), [1, 1]);
    }

    /// A chunk of one sequence is the least that a run can be, so its logits must be within the bound by themselves.
    #[test]
    fn the_longest_answer_of_a_large_vocabulary_takes_a_bounded_part_of_its_logits() {
        let (vocabulary, answer) = (50_000, 8_000);
        let chunk_tokens = OnnxConfig::new("folder", "library").chunk_tokens;
        let mut extent = Extent::new(answer);
        let mut most = 0;
        while extent.is_prefilling() {
            let chunk = extent.next_chunk(chunk_tokens);
            most = most.max(chunk.len() * vocabulary);
            extent.tokens = chunk.end;
        }
        assert!(most <= LOGITS_MAX && most * size_of::<f32>() <= 64 << 20, "{most} logits at once");
        let chunk = vec![0; chunk_tokens];
        let firsts: Vec<_> = (0..64).map(|index| (SequenceId(index), chunk.as_slice())).collect();
        for run in runs(&firsts, vocabulary, true) {
            assert!(run.len() * chunk_tokens * vocabulary <= LOGITS_MAX);
        }
    }
}
