//! Says what the rules imply for the numbers that are reported of a row: what a verifier can hold them to without the row.

use std::ops::RangeInclusive;

use infera_types::messages::TOP_COUNT;
use infera_types::numbers::TokenId;

use super::{Rules, Said};
use crate::choosing::GUMBEL_MIN;

impl Rules {
    /// Returns how many of the best tokens of a row are reported, the fewest and the most: [`TOP_COUNT`] of any row with as many
    /// tokens that may be chosen, unless fewer are left of it.
    #[must_use]
    pub fn listed(&self) -> RangeInclusive<usize> {
        let most = self.top_k.map_or(TOP_COUNT, |count| count.min(TOP_COUNT));
        let depends_on_row = self.top_p.is_some() || self.min_p_log.is_some();
        (if depends_on_row { 1 } else { most })..=most
    }

    /// Returns the least score of a token with this logit (after penalties and bias), whatever its noise.
    #[must_use]
    pub fn score_min(&self, logit: f64) -> f64 {
        logit + self.temperature * GUMBEL_MIN
    }

    /// Returns the raw logit of a token whose logit after penalties and bias is `adjusted`: the inverse of [`Self::adjusted`], but
    /// for rounding.
    #[must_use]
    pub fn raw_of(&self, token: TokenId, adjusted: f64, said: &Said) -> f64 {
        // The repetition penalty leaves 0 where it is.
        let logit = adjusted - self.adjusted(token, 0.0, said);
        match self.repetition_penalty_of(token, said) {
            Some(penalty) if logit > 0.0 => logit * penalty,
            Some(penalty) => logit / penalty,
            None => logit,
        }
    }
}
