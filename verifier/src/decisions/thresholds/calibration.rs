//! Makes a thresholds file from the distances of honest pairs. The calibration program runs and compares honest replicas.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{ClassPair, ClassPart, Tolerance, name_of};
use crate::decisions::compare::{Agreement, Comparison};

/// The least number of honest pairs to calibrate from: fewer say too little about the rare end of their distribution.
pub const PAIRS_MIN: u64 = 2_000;

/// The quantile of the honest distances that a tolerance is made from. One honest pair in a thousand may lie outside,
/// which alone costs no node anything.
pub const QUANTILE: f64 = 0.999;

/// How many times the quantile a tolerance is: the sample's end is not the distribution's.
pub const MARGIN: f64 = 1.5;

/// The least tolerance: numbers are rounded on their way through text and sums.
pub const TOLERANCE_MIN: f64 = 1e-6;

/// What a reader of the file needs to know.
const HEADER: &str = "\
# Tolerances of the ladder, in units of logits and of log-probability (natural logarithm). Every verdict names this
# version. A row is written by the calibration from at least 2,000 pairs of honest replicas of that pair of classes.
#
# `differs` names the parts of the two numeric classes that differ (\"model\" is the digest of the model's files);
# an empty list is two replicas of one class. A row with `digests` holds for these two models only and goes before
# one without. `default` holds for pairs that no row describes.
#
#   gap   at the first divergence, how far apart the noised scores of the two chosen tokens may be
#   mean  of the distances of all reported log-probabilities up to the divergence
#   max   the largest of them
#   pairs how many honest pairs the row was measured on; 0 is provisional: not calibrated yet
";

/// Why a calibration can't be written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CalibrationError {
    /// Too few pairs were compared; the operator measures more of this pair of classes.
    #[error("{pair}: {pairs} honest pairs, at least {PAIRS_MIN} are needed")]
    TooFew {
        /// Which pair of classes.
        pair: String,
        /// How many there are.
        pairs: u64,
    },
}

/// Honest distances, by pair of classes.
#[derive(Clone, Debug, Default)]
pub struct Calibration {
    samples: BTreeMap<ClassPair, Samples>,
}

#[derive(Clone, Debug, Default)]
struct Samples {
    means: Vec<f64>,
    maxima: Vec<f64>,
    gaps: Vec<f64>,
    diverged: u64,
}

/// What was measured of one pair of classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantiles {
    /// Which pair.
    pub pair: ClassPair,
    /// Pairs of replicas compared.
    pub pairs: u64,
    /// Those whose tokens differ.
    pub diverged: u64,
    /// The quantiles asked for, of the mean distances.
    pub means: Vec<f64>,
    /// The quantiles of the largest distances.
    pub maxima: Vec<f64>,
    /// The quantiles of the larger noised gap of each pair whose tokens differ; NaN if none differ.
    pub gaps: Vec<f64>,
}

impl Calibration {
    /// Adds one pair of honest replicas.
    pub fn add(&mut self, comparison: &Comparison) {
        let samples = self.samples.entry(comparison.pair.clone()).or_default();
        samples.means.push(comparison.distance.mean);
        samples.maxima.push(comparison.distance.max);
        if comparison.agreement != Agreement::Identical {
            samples.diverged += 1;
            samples.gaps.extend(comparison.gap);
        }
    }

    /// Returns the quantiles at `levels` (each in [0, 1]) of every pair of classes.
    #[must_use]
    pub fn quantiles(&self, levels: &[f64]) -> Vec<Quantiles> {
        let each = self.samples.iter().map(|(pair, samples)| {
            let at = |values: &[f64]| levels.iter().map(|level| quantile(values, *level)).collect();
            Quantiles {
                pair: pair.clone(),
                pairs: samples.means.len() as u64,
                diverged: samples.diverged,
                means: at(&samples.means),
                maxima: at(&samples.maxima),
                gaps: at(&samples.gaps),
            }
        });
        each.collect()
    }

    /// Writes the thresholds file: one row per pair of classes, and `default` for all others. Pairs that differ in the same
    /// parts get rows with their digests, unless there is only one such pair.
    ///
    /// The gap follows from the largest distance: where `a` chose `t` and `b` chose `u` over the same prefix with the
    /// same noise, both gaps together are at most the change of `t`'s log-probability and that of `u`'s, so twice the
    /// largest distance bounds them. Divergences of honest pairs are too rare to take a quantile of.
    ///
    /// # Errors
    /// [`CalibrationError::TooFew`] names the pair of classes to measure more of.
    pub fn to_toml(&self, version: &str, default: &Tolerance) -> Result<String, CalibrationError> {
        let mut text = format!("{HEADER}\nversion = {version:?}\n\n[default]\n");
        write_tolerance(&mut text, default);
        for (pair, samples) in &self.samples {
            let pairs = samples.means.len() as u64;
            if pairs < PAIRS_MIN {
                return Err(CalibrationError::TooFew { pair: pair.to_string(), pairs });
            }
            let words: Vec<_> = pair.differs.iter().map(|part: &ClassPart| part.word()).collect();
            let _ = write!(text, "\n[[rows]] # {}\ndiffers = {words:?}\n", name_of(&pair.differs));
            let alike = self.samples.keys().filter(|other| other.differs == pair.differs).count();
            if alike > 1 {
                let digests = pair.digests.map(|digest| digest.to_string());
                let _ = writeln!(text, "digests = {digests:?}");
            }
            write_tolerance(&mut text, &samples.tolerance());
        }
        Ok(text)
    }
}

impl Samples {
    fn tolerance(&self) -> Tolerance {
        let of = |values: &[f64]| (MARGIN * quantile(values, QUANTILE)).max(TOLERANCE_MIN);
        let max = of(&self.maxima);
        Tolerance { gap: 2.0 * max, mean: of(&self.means), max, pairs: self.means.len() as u64 }
    }
}

fn write_tolerance(text: &mut String, tolerance: &Tolerance) {
    let Tolerance { gap, mean, max, pairs } = tolerance;
    // Debug, not Display: it always writes a decimal point or an exponent, so TOML reads a float.
    let _ = write!(text, "gap = {gap:?}\nmean = {mean:?}\nmax = {max:?}\npairs = {pairs}\n");
}

/// Returns the smallest value that at least the share `level` of all values doesn't exceed (nearest rank); NaN of nothing.
#[must_use]
pub fn quantile(values: &[f64], level: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (level.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
