//! The jobs, which are the same for every engine: prompts in token ids, and how many tokens are wanted.

use std::time::Instant;

use crate::settings::Pace;

/// The number of jobs that come all at once.
pub(crate) const MIXED: usize = 32;
/// The ranges of the tokens of prompts and answers, evenly spread and mixed: short chat turns, as in `make bench`.
pub(crate) const PROMPT_TOKENS: std::ops::Range<usize> = 8..25;
pub(crate) const ANSWER_TOKENS: std::ops::Range<usize> = 8..65;
/// The tokens of the long prompt.
pub(crate) const LONG_PROMPT_TOKENS: usize = 1_500;
/// The tokens of each sequence beside it. They must not end before a prompt that is computed in pieces of 64 tokens is complete.
pub(crate) const RUNNER_TOKENS: usize = 72;
/// The range of tokens that are used here: words of the model's vocabulary, and no special tokens.
const TOKENS: std::ops::Range<usize> = 1_000..21_000;

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// The prompt's token ids.
    pub(crate) prompt: Vec<u32>,
    /// The number of tokens of the answer, neither more nor fewer.
    pub(crate) tokens: usize,
}

/// A token of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// The number that the caller gave to the job.
    pub(crate) job: usize,
    /// When the token arrived here.
    pub(crate) at: Instant,
}

impl Job {
    /// Makes one of the mixed jobs.
    pub(crate) fn mixed(index: usize, pace: Pace) -> Self {
        let tokens = spread(index, &ANSWER_TOKENS) / pace.shrink;
        Self { prompt: words(index, spread(index, &PROMPT_TOKENS)), tokens }
    }

    /// Makes a job with the long prompt, another one for each `number`, so that no cache of prompts can serve it.
    pub(crate) fn long(number: usize, pace: Pace) -> Self {
        // The answer goes on a little: a first token that is the last as well could be another case.
        Self { prompt: words(1_000 + number, LONG_PROMPT_TOKENS / pace.shrink), tokens: 4 }
    }

    /// Makes one of the jobs that run beside a long prompt.
    pub(crate) fn runner(index: usize, pace: Pace) -> Self {
        Self { tokens: RUNNER_TOKENS / pace.shrink, ..Self::mixed(index, pace) }
    }
}

/// Returns numbers spread evenly over a range, in an order that mixes large and small: multiples of a prime.
fn spread(index: usize, range: &std::ops::Range<usize>) -> usize {
    range.start + index * 37 % range.len()
}

fn words(index: usize, length: usize) -> Vec<u32> {
    let token = |place: usize| TOKENS.start + (index * 7_919 + place * 6_151) % TOKENS.len();
    (0..length).filter_map(|place| u32::try_from(token(place)).ok()).collect()
}
