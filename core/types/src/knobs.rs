//! What a request may say, beyond temperature and seed, about how its tokens are chosen and where its answer ends. The
//! order in which these count is defined by `infera_sampling`; which values a client may give is decided by the gateway.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::numbers::TokenId;

/// The knobs of a request. A knob that says nothing is left out of messages and of the request's digest, so that requests
/// without knobs are the same as before there were any.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Knobs {
    /// Texts that end the answer, which is cut before the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Keeps the likeliest tokens whose probabilities add up to this, within (0, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Keeps this many of the likeliest tokens, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Keeps the tokens that are at least this many times as likely as the likeliest, within [0, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Is taken from a token's logit for each time that the answer has the token, in logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Is taken from the logit of each token that the answer has, in logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Divides the logits above 0, and multiplies those below, of tokens that prompt or answer have; above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// Is added to the logits of single tokens, in logits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub logit_bias: BTreeMap<TokenId, f64>,
    /// The fewest tokens of the answer: before as many, no end-of-turn token is chosen and no stop text counts.
    #[serde(skip_serializing_if = "crate::numbers::is_zero")]
    pub min_tokens: u32,
    /// Whether no end-of-turn token is ever chosen.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_eos: bool,
}

impl Knobs {
    /// Returns whether no knob says anything.
    #[must_use]
    pub fn are_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether tokens are left out before the choice, so that a row may have fewer candidates than are reported.
    #[must_use]
    pub const fn leave_out(&self) -> bool {
        self.top_p.is_some() || self.top_k.is_some() || self.min_p.is_some()
    }

    /// Returns whether the choice depends on the tokens of the prompt.
    #[must_use]
    pub const fn look_at_prompt(&self) -> bool {
        self.repetition_penalty.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_that_say_nothing_are_not_written() {
        assert_eq!(serde_json::to_string(&Knobs::default()).unwrap(), "{}");
        let all = Knobs {
            stop: vec!["\n\n".to_owned()],
            top_p: Some(0.9),
            top_k: Some(40),
            min_p: Some(0.05),
            frequency_penalty: Some(-0.5),
            presence_penalty: Some(0.25),
            repetition_penalty: Some(1.1),
            logit_bias: [(7, -100.0), (11, 2.5)].into(),
            min_tokens: 3,
            ignore_eos: true,
        };
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Knobs>(&text).unwrap(), all);
        assert!(Knobs::default().are_plain() && !all.are_plain());
        assert!(all.leave_out() && all.look_at_prompt());
    }
}
