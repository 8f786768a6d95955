//! Holds how far apart honest replicas may be, by what their numeric classes differ in: a versioned, committed file, read
//! once at start. It only looks tolerances up; `compare` measures distances, and `calibration` derives tolerances.

pub mod calibration;

use std::collections::BTreeSet;
use std::fmt;

use infera_types::ids::Digest;
use infera_types::numbers::NumericClass;
use serde::{Deserialize, Serialize};

/// The file that the program carries.
const COMMITTED: &str = include_str!("../../thresholds/committed.toml");

/// Why a thresholds file can't be used; its author must mend it.
#[derive(Debug, thiserror::Error)]
pub enum ThresholdsError {
    /// The file isn't TOML of the expected shape.
    #[error("thresholds can't be read: {0}")]
    Malformed(String),
    /// A number can't be a tolerance.
    #[error("thresholds of {row}: {field} is {value}; it must be a finite number, at least 0")]
    Tolerance {
        /// Which row.
        row: String,
        /// Which number.
        field: &'static str,
        /// What stands there.
        value: f64,
    },
    /// Two rows describe the same pair.
    #[error("thresholds have two rows for {0}")]
    Repeated(String),
}

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
    const fn word(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Hardware => "hardware",
            Self::Runtime => "runtime",
            Self::Compute => "compute",
        }
    }
}

/// What a pair of numeric classes is called: the parts that differ, and between which models. Which of the two comes
/// first plays no part.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassPair {
    /// Empty for one class.
    pub differs: BTreeSet<ClassPart>,
    /// Their digests, the lesser first; twice the same for one model.
    pub digests: [Digest; 2],
}

impl ClassPair {
    /// Returns the pair of two classes.
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
        let mut digests = [a.model_digest, b.model_digest];
        digests.sort();
        Self { differs, digests }
    }

    /// Returns whether bit-identical numbers are promised.
    #[must_use]
    pub fn is_one_class(&self) -> bool {
        self.differs.is_empty()
    }
}

impl fmt::Display for ClassPair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&name_of(&self.differs))
    }
}

/// Returns `same`, or the parts that differ joined by `+`.
fn name_of(differs: &BTreeSet<ClassPart>) -> String {
    if differs.is_empty() {
        return "same".to_owned();
    }
    differs.iter().map(|part| part.word()).collect::<Vec<_>>().join("+")
}

/// How far apart two honest replicas may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Bounds the gap between the noised scores of the two chosen tokens at the first divergence, in logits.
    pub gap: f64,
    /// Bounds the mean distance of log-probabilities.
    pub mean: f64,
    /// Bounds the largest distance of log-probabilities.
    pub max: f64,
    /// The number of honest pairs that these were measured on; 0 is provisional.
    pub pairs: u64,
}

/// One row of the file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Row {
    differs: BTreeSet<ClassPart>,
    #[serde(default)]
    digests: Option<[Digest; 2]>,
    #[serde(flatten)]
    tolerance: Tolerance,
}

impl Row {
    fn name(&self) -> String {
        match &self.digests {
            Some([first, second]) => format!("{} of {first} and {second}", name_of(&self.differs)),
            None => name_of(&self.differs),
        }
    }
}

/// The tolerances in force, and their version.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    version: String,
    default: Tolerance,
    #[serde(default)]
    rows: Vec<Row>,
}

impl Thresholds {
    /// Parses the file that the program carries.
    ///
    /// # Errors
    /// [`ThresholdsError`] if the committed file is wrong, which a test keeps from happening.
    pub fn committed() -> Result<Self, ThresholdsError> {
        Self::parse(COMMITTED)
    }

    /// Parses the text of a thresholds file.
    ///
    /// # Errors
    /// [`ThresholdsError`] says which row is wrong.
    pub fn parse(text: &str) -> Result<Self, ThresholdsError> {
        let mut parsed: Self =
            toml::from_str(text).map_err(|error| ThresholdsError::Malformed(error.to_string()))?;
        parsed.rows.iter_mut().filter_map(|row| row.digests.as_mut()).for_each(|pair| pair.sort());
        check_tolerance("default", &parsed.default)?;
        let mut seen = BTreeSet::new();
        for row in &parsed.rows {
            check_tolerance(&row.name(), &row.tolerance)?;
            if !seen.insert(row.name()) {
                return Err(ThresholdsError::Repeated(row.name()));
            }
        }
        Ok(parsed)
    }

    /// Returns the version that verdicts name.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the tolerance of pairs that no row describes.
    #[must_use]
    pub const fn default_tolerance(&self) -> &Tolerance {
        &self.default
    }

    /// Returns the tolerance of a pair: of these very models if there is a row for them, else of what differs, else the
    /// default. The default is meant for pairs that were not measured, so it is no wider than what is known of honest
    /// engines on different hardware: too narrow costs an agreement, too wide would let a cheat choose its class.
    #[must_use]
    pub fn tolerance(&self, pair: &ClassPair) -> &Tolerance {
        let alike = || self.rows.iter().filter(|row| row.differs == pair.differs);
        let exact = alike().find(|row| row.digests == Some(pair.digests));
        exact
            .or_else(|| alike().find(|row| row.digests.is_none()))
            .map_or(&self.default, |row| &row.tolerance)
    }
}

fn check_tolerance(row: &str, tolerance: &Tolerance) -> Result<(), ThresholdsError> {
    for (field, value) in [("gap", tolerance.gap), ("mean", tolerance.mean), ("max", tolerance.max)] {
        if !(value.is_finite() && value >= 0.0) {
            return Err(ThresholdsError::Tolerance { row: row.to_owned(), field, value });
        }
    }
    Ok(())
}
