//! What a tolerance is looked up by: the parts in which two numeric classes differ, the two sides, and how their rows were
//! computed.

use std::collections::BTreeSet;
use std::fmt;

use infera_types::ids::Digest;
use infera_types::numbers::NumericClass;
use serde::{Deserialize, Serialize};

/// Parts of a numeric class, as rows of the file name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassPart {
    /// The digest of the model's files: another graph or other weights under the same name.
    Model,
    /// The execution provider.
    Provider,
    /// Instruction set or compute capability.
    Hardware,
    /// ONNX Runtime's version.
    Runtime,
    /// The dtype that arithmetic is done in.
    Compute,
}

impl ClassPart {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Hardware => "hardware",
            Self::Runtime => "runtime",
            Self::Compute => "compute",
        }
    }
}

/// How the second of two replicas was computed. The first always wrote its answer token by token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// Token by token too: another node's answer.
    #[default]
    Decoded,
    /// In chunks over the first one's tokens (`Engine::score`): a referee's. Other kernels compute it, so that it differs
    /// within one class.
    Scored,
}

/// What a row of the file knows of one of two classes. The hardware and the runtime are left out: whether the two are alike
/// in them counts, and not which they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// The digest of the model's files.
    pub model: Digest,
    /// The execution provider.
    pub provider: String,
    /// The dtype that arithmetic is done in, with the size of chunks.
    pub compute: String,
}

impl Side {
    fn of(class: &NumericClass) -> Self {
        Self { model: class.model_digest, provider: class.provider.clone(), compute: class.compute.clone() }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.model, self.provider, self.compute)
    }
}

/// What a pair of numeric classes is called: the parts that differ, and between which sides. Which of the two comes
/// first plays no part, nor does which of them scored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassPair {
    /// Empty for one class.
    pub differs: BTreeSet<ClassPart>,
    /// The two classes, the lesser first; twice the same for one.
    pub sides: [Side; 2],
    /// How the second replica was computed.
    pub against: Against,
}

impl ClassPair {
    /// Returns the pair of two classes whose replicas were both decoded.
    #[must_use]
    pub fn of(a: &NumericClass, b: &NumericClass) -> Self {
        let parts = [
            (ClassPart::Model, a.model_digest == b.model_digest),
            (ClassPart::Provider, a.provider == b.provider),
            (ClassPart::Hardware, a.hardware == b.hardware),
            (ClassPart::Runtime, a.runtime == b.runtime),
            (ClassPart::Compute, a.compute == b.compute),
        ];
        let differs = parts.into_iter().filter(|(_, same)| !same).map(|(part, _)| part).collect();
        let mut sides = [Side::of(a), Side::of(b)];
        sides.sort();
        Self { differs, sides, against: Against::Decoded }
    }

    /// Returns the pair of the class of a decoded replica and the class of the engine that scored it.
    #[must_use]
    pub fn scored(decoded: &NumericClass, scored: &NumericClass) -> Self {
        Self { against: Against::Scored, ..Self::of(decoded, scored) }
    }

    /// Returns whether both are of one class. Bit-identical numbers are promised of it where both replicas were decoded.
    #[must_use]
    pub fn is_one_class(&self) -> bool {
        self.differs.is_empty()
    }
}

impl fmt::Display for ClassPair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&name_of(&self.differs, self.against))
    }
}

/// Returns `same`, or the parts that differ joined by `+`, and whether the second replica was scored.
pub(super) fn name_of(differs: &BTreeSet<ClassPart>, against: Against) -> String {
    let mut name = differs.iter().map(|part| part.word()).collect::<Vec<_>>().join("+");
    if differs.is_empty() {
        name.push_str("same");
    }
    if against == Against::Scored {
        name.push_str(", scored");
    }
    name
}
