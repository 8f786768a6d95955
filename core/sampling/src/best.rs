//! The best few of many tokens, by a score.

use infera_types::numbers::TokenId;

/// The best tokens found up to now, best first; the lower id among equals.
pub(crate) struct Best {
    pub(crate) entries: Vec<(f64, TokenId, f32)>,
    count: usize,
}

impl Best {
    /// Begins with none, and keeps at most `count`, which is at least 1.
    pub(crate) const fn of(count: usize) -> Self {
        Self { entries: Vec::new(), count }
    }

    /// Returns whether as many are found as are kept.
    pub(crate) const fn is_full(&self) -> bool {
        self.entries.len() == self.count
    }

    /// Returns the score that a token with a higher id than those found must exceed to enter.
    pub(crate) fn bar(&self) -> f64 {
        match self.entries.last() {
            Some(last) if self.is_full() => last.0,
            _ => f64::NEG_INFINITY,
        }
    }

    /// Enters a token if it is good enough.
    pub(crate) fn offer(&mut self, score: f64, token: TokenId, logit: f32) {
        let precedes = |entry: &(f64, TokenId, f32)| entry.0 > score || (entry.0 == score && entry.1 < token);
        if self.is_full() {
            if self.entries.last().is_none_or(precedes) {
                return;
            }
            self.entries.pop();
        }
        let place = self.entries.partition_point(precedes);
        self.entries.insert(place, (score, token, logit));
    }

    /// Returns the tokens with their raw logits.
    pub(crate) fn tokens(&self) -> Vec<(TokenId, f32)> {
        self.entries.iter().map(|&(_, token, logit)| (token, logit)).collect()
    }
}
