//! What a gateway has heard of a streamed answer. A pure state: it changes by its calls alone. Deltas may be lost, come twice or
//! come late, so it keeps the tokens, and takes only what goes on where the last delta ended. All clients that follow the
//! answer here are shown from it, each at its own pace ([`super::Mark`]).

use infera_types::frames::{Delta, PassedOn};
use infera_types::ids::Digest;
use infera_types::numbers::TokenId;
use sha2::{Digest as _, Sha256};

/// What was heard of one job's answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passing {
    tokens: Vec<TokenId>,
    text: String,
    /// How many tokens and bytes of text there were after each delta that brought text.
    ends: Vec<(usize, usize)>,
}

/// What a delta comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It goes on where the last one ended: its text may be shown.
    Next,
    /// All of it was heard before.
    Known,
    /// Something before it is missing: its owner is to be asked for what comes next.
    Gap,
}

impl Passing {
    /// Takes a delta in.
    pub(crate) fn hear(&mut self, delta: &Delta) -> Heard {
        let (from, count) = (usize::try_from(delta.from).unwrap_or(usize::MAX), self.tokens.len());
        match from.checked_add(delta.tokens.len()) {
            Some(end) if end <= count => Heard::Known,
            Some(_) if from == count => {
                self.tokens.extend_from_slice(&delta.tokens);
                self.text.push_str(&delta.text);
                if !delta.text.is_empty() {
                    self.ends.push((self.tokens.len(), self.text.len()));
                }
                Heard::Next
            }
            // Where a token's text begins within another's delta isn't known.
            _ => Heard::Gap,
        }
    }

    /// Returns the text that may be shown.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether nothing was heard yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Returns the memory that it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let ends = self.ends.len() * size_of::<(usize, usize)>();
        self.text.len() + self.tokens.len() * size_of::<TokenId>() + ends
    }

    /// Returns what verifiers are told of it.
    pub(crate) fn passed_on(&self) -> PassedOn {
        passed_on(&self.tokens)
    }

    /// Returns what of it a client has that was shown this many bytes of the text: the tokens of all deltas that it was shown whole.
    pub(crate) fn shown(&self, bytes: usize) -> PassedOn {
        let whole = self.ends.partition_point(|(_, end)| *end <= bytes);
        let count = whole.checked_sub(1).map_or(0, |last| self.ends[last].0);
        passed_on(&self.tokens[..count])
    }
}

fn passed_on(tokens: &[TokenId]) -> PassedOn {
    let mut hash = Sha256::new();
    for token in tokens {
        hash.update(token.to_le_bytes());
    }
    let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
    PassedOn { count, sha256: Digest::from_bytes(hash.finalize().into()) }
}

#[cfg(test)]
mod tests {
    use infera_types::ids::JobId;

    use super::*;

    fn delta(from: u32, tokens: &[TokenId], text: &str) -> Delta {
        let text = text.to_owned();
        Delta { job: JobId::from_bytes([1; 16]), from, tokens: tokens.to_vec(), text }
    }

    #[test]
    fn deltas_are_heard_in_order_and_once() {
        let mut passing = Passing::default();
        assert!(passing.is_empty());
        for (delta, heard) in [
            (delta(1, &[2], "b"), Heard::Gap),
            (delta(0, &[1], "a"), Heard::Next),
            (delta(0, &[1], "a"), Heard::Known),
            (delta(1, &[2, 3], "b"), Heard::Next),
            (delta(0, &[1, 2, 3, 4], "abd"), Heard::Gap),
            (delta(3, &[], ""), Heard::Known),
            (delta(4, &[5], "e"), Heard::Gap),
            (delta(u32::MAX, &[5], "e"), Heard::Gap),
        ] {
            assert_eq!(passing.hear(&delta), heard, "{delta:?}");
        }
        assert_eq!((passing.text(), passing.bytes()), ("ab", 2 + 3 * 4 + 2 * 16));
        let tokens: Vec<u8> = [1_u32, 2, 3].iter().flat_map(|token| token.to_le_bytes()).collect();
        assert_eq!(passing.passed_on(), PassedOn { count: 3, sha256: Digest::of(&tokens) });
    }

    #[test]
    fn a_client_has_the_tokens_of_the_deltas_that_it_was_shown_whole() {
        let mut passing = Passing::default();
        for delta in [delta(0, &[1], ""), delta(1, &[2, 3], "abc"), delta(3, &[4], ""), delta(4, &[5], "d")] {
            assert_eq!(passing.hear(&delta), Heard::Next);
        }
        for (bytes, tokens) in
            [(0, &[][..]), (2, &[]), (3, &[1, 2, 3]), (4, &[1, 2, 3, 4, 5]), (9, &[1, 2, 3, 4, 5])]
        {
            assert_eq!(passing.shown(bytes), passed_on(tokens), "{bytes}");
        }
    }
}
