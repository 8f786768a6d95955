//! Decides which of a job's tokens may go to its client before the job is settled. It only ever adds to what was released: a
//! client can't be made to forget.

use std::collections::BTreeSet;

use infera_types::numbers::TokenId;
use infera_types::request::Release;

use crate::decisions::slots::Standing;

/// What one assignment has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice<'a> {
    /// Whom it counts for: its owner, or its machine where nodes of one owner are compared.
    pub party: &'a str,
    /// Whether it counts at all, and whether more may come of it.
    pub standing: Standing,
    /// The tokens that it told.
    pub tokens: &'a [TokenId],
}

/// Returns the place of the voice that is released where one's is, given that `released` were, and that it was that at the place
/// `before`. It stays the same while that one counts and may still extend what was released. Else the next that has told all of
/// that takes its place: one that says otherwise can't, and one that has said less may come to say otherwise.
#[must_use]
pub fn first(voices: &[Voice<'_>], before: Option<usize>, released: &[TokenId]) -> Option<usize> {
    let stays = |voice: &Voice<'_>| {
        let is_behind = voice.standing == Standing::Writing && released.starts_with(voice.tokens);
        voice.standing.has_voice() && (voice.tokens.starts_with(released) || is_behind)
    };
    let takes_over = |voice: &Voice<'_>| {
        let has_spoken = voice.standing == Standing::Answered || !voice.tokens.is_empty();
        voice.standing.has_voice() && has_spoken && voice.tokens.starts_with(released)
    };
    let has_stayed = before.and_then(|place| voices.get(place)).is_some_and(stays);
    if has_stayed { before } else { voices.iter().position(takes_over) }
}

/// Returns how many tokens may have been released in all, given that `released` were.
///
/// * Agreed: a token, if voices of `quorum` parties share it and all before it. Where two tokens at one position have as many
///   parties each, neither is released, and no later one.
/// * First: whatever the voice at the place `first` says, by [`first()`].
/// * Verified: none.
///
/// A voice that doesn't count says nothing. One that contradicts what was released says nothing more: the job ends with an answer
/// that extends it, or with none.
#[must_use]
pub fn releasable(
    release: Release,
    voices: &[Voice<'_>],
    quorum: usize,
    first: Option<usize>,
    released: &[TokenId],
) -> Vec<TokenId> {
    let extends = |voice: &&Voice<'_>| voice.standing.has_voice() && voice.tokens.starts_with(released);
    match release {
        Release::Verified => Vec::new(),
        Release::First => {
            let voice = first.and_then(|first| voices.get(first)).filter(extends);
            voice.map(|voice| voice.tokens[released.len()..].to_vec()).unwrap_or_default()
        }
        Release::Agreed => agreed(voices.iter().filter(extends).copied().collect(), quorum, released.len()),
    }
}

/// Returns the tokens from the position `at` on that a quorum of the voices, which are the same before it, shares.
fn agreed(mut voices: Vec<Voice<'_>>, quorum: usize, mut at: usize) -> Vec<TokenId> {
    let mut tokens = Vec::new();
    loop {
        let said: BTreeSet<TokenId> =
            voices.iter().filter_map(|voice| voice.tokens.get(at)).copied().collect();
        let has_quorum = |token: &TokenId| {
            let alike = voices.iter().filter(|voice| voice.tokens.get(at) == Some(token));
            alike.map(|voice| voice.party).collect::<BTreeSet<_>>().len() >= quorum.max(1)
        };
        let mut shared = said.into_iter().filter(has_quorum);
        let (Some(token), None) = (shared.next(), shared.next()) else { return tokens };
        voices.retain(|voice| voice.tokens.get(at) == Some(&token));
        tokens.push(token);
        at += 1;
    }
}
