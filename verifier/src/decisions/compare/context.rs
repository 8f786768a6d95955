//! Scores tokens as they were chosen.

use infera_sampling::{Noise, Rules, Said};
use infera_types::numbers::{TokenId, TokenNumbers};

use crate::decisions::thresholds::Thresholds;

/// What is the same for all replicas of a job.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// By what their tokens were chosen.
    pub rules: &'a Rules,
    /// The noise that they were chosen with: that of the job's key and choice.
    pub noise: Noise,
    /// The tolerances in force.
    pub thresholds: &'a Thresholds,
}

/// What the scores of a row depend on beside its logits.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) said: &'a Said,
}

impl Place<'_> {
    /// Returns the score of a token with this raw logit.
    pub(super) fn score(&self, token: TokenId, raw: f32) -> f64 {
        self.context.rules.score(token, raw, self.said, &self.context.noise)
    }

    /// Returns the larger of two rows' gaps between two tokens; `None` if a row doesn't list both.
    pub(super) fn gap_between(&self, one: TokenId, other: TokenId, rows: [&TokenNumbers; 2]) -> Option<f64> {
        let gap_in = |row: &TokenNumbers| {
            let score = |wanted: TokenId| {
                let entry = row.top.iter().find(|(token, _)| *token == wanted)?;
                Some(self.score(entry.0, entry.1))
            };
            Some((score(one)? - score(other)?).abs())
        };
        Some(gap_in(rows[0])?.max(gap_in(rows[1])?))
    }
}
