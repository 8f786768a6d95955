//! What an answer is made of and compared by: a token's number, the numbers that a row of logits is reduced to, and
//! the class of machines within which they are the same to the bit.

use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// A token's number in its model's vocabulary.
pub type TokenId = u32;

/// Within one class honest replicas are bit-identical; across classes they are within measured tolerances.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NumericClass {
    /// All files of the model.
    pub model_digest: Digest,
    /// `cpu`, `cuda`, or `stub`.
    pub provider: String,
    /// Instruction set or compute capability, such as `x86_64-avx512vnni` or `sm90`.
    pub hardware: String,
    /// ONNX Runtime's version.
    pub runtime: String,
    /// The dtype that arithmetic is done in.
    pub compute: String,
}

/// What one row of logits said, reduced to what verification needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenNumbers {
    /// The four best by noised score, best first: token and raw logit. Fewer only if the vocabulary is smaller.
    pub top: Vec<(TokenId, f32)>,
    /// ln of the sum of exp of all raw logits.
    pub log_sum_exp: f64,
}
