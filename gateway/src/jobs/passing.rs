//! What a gateway has passed on of a streamed answer, and what is still to be sent when the answer is whole. A pure state: it
//! changes by its calls alone. Deltas may be lost, come twice or come late, so it counts the tokens and keeps their hash, and
//! the completion, which holds the whole answer, is checked against both.

use infera_types::frames::{Delta, PassedOn};
use infera_types::ids::Digest;
use infera_types::job::Answer;
use infera_types::numbers::TokenId;
use sha2::{Digest as _, Sha256};

/// What was passed on of one job's answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passing {
    count: u32,
    tokens: Sha256,
    text_bytes: usize,
}

/// What a delta comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It goes on where the last one ended: its text goes to the client.
    Next,
    /// All of it was passed on before.
    Known,
    /// Something before it is missing: its owner is to be asked for what comes next.
    Gap,
}

/// What is left to be sent of a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest<'a> {
    /// The place of the first token that wasn't passed on.
    pub(crate) from: usize,
    /// The text after the one that was passed on.
    pub(crate) text: &'a str,
}

impl Passing {
    /// Takes a delta in. Its text is to be sent exactly if this returns [`Heard::Next`].
    pub(crate) fn hear(&mut self, delta: &Delta) -> Heard {
        let end = u32::try_from(delta.tokens.len()).ok().and_then(|length| delta.from.checked_add(length));
        match end {
            Some(end) if end <= self.count => Heard::Known,
            Some(end) if delta.from == self.count => {
                add(&mut self.tokens, &delta.tokens);
                self.count = end;
                self.text_bytes += delta.text.len();
                Heard::Next
            }
            // Where a token's text begins within another's delta isn't known.
            _ => Heard::Gap,
        }
    }

    /// Returns what verifiers are told of it.
    pub(crate) fn passed_on(&self) -> PassedOn {
        PassedOn { count: self.count, sha256: hash(self.tokens.clone()) }
    }

    /// Returns what is left of the whole answer; none if the answer isn't one that begins with what was passed on.
    pub(crate) fn rest<'a>(&self, answer: &'a Answer) -> Option<Rest<'a>> {
        let from = usize::try_from(self.count).ok()?;
        let mut tokens = Sha256::new();
        add(&mut tokens, answer.tokens.get(..from)?);
        let is_same = hash(tokens) == self.passed_on().sha256;
        let text = answer.text.get(self.text_bytes..).filter(|_| is_same)?;
        Some(Rest { from, text })
    }
}

fn add(hash: &mut Sha256, tokens: &[TokenId]) {
    for token in tokens {
        hash.update(token.to_le_bytes());
    }
}

fn hash(tokens: Sha256) -> Digest {
    Digest::from_bytes(tokens.finalize().into())
}

#[cfg(test)]
mod tests {
    use infera_types::ids::{JobId, NodeId};
    use infera_types::job::FinishReason;

    use super::*;

    fn delta(from: u32, tokens: &[TokenId], text: &str) -> Delta {
        let text = text.to_owned();
        Delta { job: JobId::from_bytes([1; 16]), from, tokens: tokens.to_vec(), text }
    }

    fn answer(tokens: &[TokenId], text: &str) -> Answer {
        Answer {
            spelled: Vec::new(),
            text: text.to_owned(),
            tokens: tokens.to_vec(),
            finish_reason: FinishReason::Stop,
            prompt_tokens: 1,
            cached_tokens: 0,
            numbers: Vec::new(),
            node: NodeId::new("n"),
            model: None,
        }
    }

    #[test]
    fn deltas_are_passed_on_in_order_and_once() {
        let mut passing = Passing::default();
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
        assert_eq!(passing.passed_on().count, 3);
        assert_eq!(passing.rest(&answer(&[1, 2, 3, 4], "abcd")), Some(Rest { from: 3, text: "cd" }));
        assert_eq!(passing.rest(&answer(&[1, 2, 3], "ab")), Some(Rest { from: 3, text: "" }));
    }

    #[test]
    fn another_answer_than_was_passed_on_is_told() {
        let mut passing = Passing::default();
        assert_eq!(passing.rest(&answer(&[9], "x")), Some(Rest { from: 0, text: "x" }));
        assert_eq!(passing.hear(&delta(0, &[1, 2], "ä")), Heard::Next);
        for other in
            [answer(&[1, 3, 4], "äcd"), answer(&[1], "ä"), answer(&[1, 2], "a"), answer(&[1, 2, 3], "€")]
        {
            assert_eq!(passing.rest(&other), None, "{other:?}");
        }
    }
}
