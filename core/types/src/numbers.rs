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
    /// The four best tokens by noised score, best first, each with its raw logit. Fewer only if the vocabulary is
    /// smaller.
    pub top: Vec<(TokenId, f32)>,
    /// The natural logarithm of the sum of the exponentials of all raw logits.
    pub log_sum_exp: f64,
}
