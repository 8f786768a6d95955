//! Decides whether tokens begin with what a gateway has passed on to a client, of which only the count and a hash are known: the
//! verifier that released it may be gone.

use infera_types::frames::PassedOn;
use infera_types::numbers::TokenId;

/// How tokens compare with what was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// They begin with it, and it is this many of them.
    Extends(usize),
    /// They are fewer, so that they say nothing about it yet.
    IsBehind,
    /// They begin otherwise.
    Contradicts,
}

/// Returns how tokens, of which more may come, compare with what was passed on.
#[must_use]
pub fn fit(tokens: &[TokenId], passed_on: &PassedOn) -> Fit {
    let count = usize::try_from(passed_on.count).unwrap_or(usize::MAX);
    match tokens.get(..count) {
        None => Fit::IsBehind,
        Some(begin) if infera_model::chat::prompt_hash(begin) == passed_on.sha256 => Fit::Extends(count),
        Some(_) => Fit::Contradicts,
    }
}

/// Returns whether a whole answer begins with all that was passed on.
#[must_use]
pub fn keeps(answer: &[TokenId], passed_on: &[PassedOn]) -> bool {
    passed_on.iter().all(|one| matches!(fit(answer, one), Fit::Extends(_)))
}
