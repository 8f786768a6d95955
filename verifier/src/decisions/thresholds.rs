//! Holds how far apart honest replicas may be, by what their numeric classes differ in: a versioned, committed file, read
//! once at start. It only looks tolerances up; `compare` measures distances, and `calibration` derives tolerances.

pub mod calibration;
mod classes;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use classes::name_of;
pub use classes::{Against, ClassPair, ClassPart, Side};

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

/// How far apart two honest replicas may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Bounds the gap between the noised scores of the two chosen tokens at the first divergence, in logits.
    pub gap: f64,
    /// Bounds the mean distance of raw logits and log-sum-exps.
    pub mean: f64,
    /// Bounds the largest distance of raw logits and log-sum-exps.
    pub max: f64,
    /// The number of honest pairs that these were measured on; 0 is provisional.
    pub pairs: u64,
}

/// One row of the file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Row {
    differs: BTreeSet<ClassPart>,
    #[serde(default)]
    against: Against,
    #[serde(default)]
    sides: Option<[Side; 2]>,
    #[serde(flatten)]
    tolerance: Tolerance,
}

impl Row {
    fn name(&self) -> String {
        let name = name_of(&self.differs, self.against);
        match &self.sides {
            Some([first, second]) => format!("{name} of {first} and {second}"),
            None => name,
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
        parsed.rows.iter_mut().filter_map(|row| row.sides.as_mut()).for_each(|pair| pair.sort());
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

    /// Returns the tolerance of a pair: of these very classes if there is a row for them, else of what differs, else the
    /// default. The default is meant for pairs that were not measured, so it is no wider than what is known of honest
    /// engines on different hardware: too narrow costs an agreement, too wide would let a cheat choose its class.
    #[must_use]
    pub fn tolerance(&self, pair: &ClassPair) -> &Tolerance {
        let alike =
            || self.rows.iter().filter(|row| row.differs == pair.differs && row.against == pair.against);
        let exact = alike().find(|row| row.sides.as_ref() == Some(&pair.sides));
        exact.or_else(|| alike().find(|row| row.sides.is_none())).map_or(&self.default, |row| &row.tolerance)
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
