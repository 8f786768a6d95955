//! What an answer is made of and compared by: token ids, the numbers that a row of logits is reduced to, and the
//! class of machines within which those numbers are the same to the bit.

use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// A token's number in its model's vocabulary.
pub type TokenId = u32;

/// A class of machines: replicas of honest nodes within one class are bit-identical; across classes they are within
/// measured tolerances.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NumericClass {
    /// The digest of all files of the model.
    pub model_digest: Digest,
    /// `cpu`, `cuda`, or `stub`.
    pub provider: String,
    /// Instruction set or compute capability, such as `x86_64-avx512vnni` or `sm90`.
    pub hardware: String,
    /// ONNX Runtime's version.
    pub runtime: String,
    /// The data type of the arithmetic.
    pub compute: String,
}

/// One row of logits, reduced to what verification needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenNumbers {
    /// The four best of the tokens that the request's knobs allow, by noised score, best first, each with its raw logit.
    /// Fewer only if fewer are allowed.
    pub top: Vec<(TokenId, f32)>,
    /// The natural logarithm of the sum of the exponentials of all raw logits.
    pub log_sum_exp: f64,
    /// The highest raw logit; absent in what nodes report that don't know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_max: Option<f32>,
    /// The likeliest tokens with their raw logits, likeliest first: as many as the request asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub likeliest: Vec<(TokenId, f32)>,
}

/// A row of raw logits as an engine gives it: all of them, or the likeliest and a bound for the others. It borrows the
/// engine's own memory, so that no row is copied before it is reduced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Row<'a> {
    /// The logit of every token, by id.
    Full(&'a [f32]),
    /// The tokens with the highest logits, in any order, and what is known of the others.
    Top {
        /// The tokens and their raw logits.
        entries: &'a [(TokenId, f32)],
        /// The tokens that are left out.
        rest: Rest,
    },
}

/// What is known of the tokens that [`Row::Top`] leaves out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rest {
    /// No logit of theirs is higher than this.
    pub logit_max: f32,
    /// The natural logarithm of the sum of the exponentials of their logits.
    pub log_sum_exp: f64,
}

impl Row<'_> {
    /// Returns how many logits are to be read.
    #[must_use]
    pub const fn entries_count(&self) -> usize {
        match self {
            Self::Full(logits) => logits.len(),
            Self::Top { entries, .. } => entries.len(),
        }
    }

    /// Writes the row as logits by id to the end of `values`, which grows by `vocabulary`. Tokens that the row leaves out
    /// get the highest logit that they can have.
    pub fn write(&self, vocabulary: usize, values: &mut Vec<f32>) {
        match self {
            Self::Full(row) => values.extend_from_slice(row),
            Self::Top { entries, rest } => {
                let start = values.len();
                values.resize(start + vocabulary, rest.logit_max);
                for &(token, logit) in *entries {
                    if let Some(value) = values.get_mut(start + token as usize) {
                        *value = logit;
                    }
                }
            }
        }
    }
}

/// Returns whether a count is left out of messages; by reference, as serde asks.
pub(crate) const fn is_zero(count: &u32) -> bool {
    *count == 0
}
