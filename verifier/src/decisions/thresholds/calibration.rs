//! Makes a thresholds file from the distances of honest pairs. The calibration program runs and compares honest replicas.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Against, ClassPair, Row, Side, Thresholds, Tolerance, name_of};
use crate::decisions::compare::{Agreement, Comparison};

/// The least number of honest pairs to calibrate from: fewer say too little about the rare end of their distribution.
pub const PAIRS_MIN: u64 = 2_000;

/// The quantile of the honest distances that a tolerance is made from. One honest pair in a thousand may lie outside,
/// which alone costs no node anything.
pub const QUANTILE: f64 = 0.999;

/// How many times the quantile a tolerance is: the sample's end is not the distribution's.
pub const MARGIN: f64 = 1.5;

/// From how many divergences on the quantile of their gaps is taken. Of fewer it would be near their largest by chance.
pub const GAPS_MIN: usize = 500;

/// The least tolerance: numbers are rounded on their way through text and sums.
pub const TOLERANCE_MIN: f64 = 1e-6;

/// What a reader of the file needs to know.
const HEADER: &str = "\
# Tolerances of the ladder, in logits. Every verdict names this version. A row is written by the calibration from at least
# 2,000 pairs of honest replicas of that pair of classes.
#
# `differs` names the parts of the two numeric classes that differ (\"model\" is the digest of the model's files);
# an empty list is two replicas of one class. `against = \"scored\"` is a replica that was decoded with what an engine
# computed in chunks over its tokens; without it both were decoded. A row with `sides` holds for these two classes only
# and goes before one without. `default` holds for pairs that no row describes.
#
#   gap   at the first divergence (where scored: at each), how far apart the noised scores of the two chosen tokens may be
#   mean  of the distances of raw logits and log-sum-exps up to the divergence (where scored: of all)
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
    unlisted: u64,
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
    /// Those of them where one's choice isn't in the other's list, so that no tolerance excuses it.
    pub unlisted: u64,
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
            samples.unlisted += u64::from(comparison.gap.is_none());
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
                unlisted: samples.unlisted,
                means: at(&samples.means),
                maxima: at(&samples.maxima),
                gaps: at(&samples.gaps),
            }
        });
        each.collect()
    }

    /// Writes the thresholds file: one row per pair of classes, those of other pairs and the default as they are in
    /// `before`.
    ///
    /// The gap is a quantile of those measured where honest pairs diverge often. Elsewhere it follows from the largest
    /// distance: where `a` chose `t` and `b` chose `u` over the same prefix with the same noise, both gaps together are at
    /// most the change of `t`'s raw logit and that of `u`'s, so twice the largest distance bounds them.
    ///
    /// # Errors
    /// [`CalibrationError::TooFew`] names the pair of classes to measure more of.
    pub fn to_toml(&self, version: &str, before: &Thresholds) -> Result<String, CalibrationError> {
        let mut rows = before.rows.clone();
        for (pair, samples) in &self.samples {
            let pairs = samples.means.len() as u64;
            if pairs < PAIRS_MIN {
                return Err(CalibrationError::TooFew { pair: pair.to_string(), pairs });
            }
            let row = Row {
                differs: pair.differs.clone(),
                against: pair.against,
                sides: Some(pair.sides.clone()),
                tolerance: samples.tolerance(),
            };
            rows.retain(|other| other.name() != row.name());
            rows.push(row);
        }
        rows.sort_by_key(|row| (row.differs.clone(), row.sides.clone(), row.against));
        let mut text = format!("{HEADER}\nversion = {version:?}\n\n[default]\n");
        write_tolerance(&mut text, before.default_tolerance());
        rows.iter().for_each(|row| write_row(&mut text, row));
        Ok(text)
    }
}

impl Samples {
    fn tolerance(&self) -> Tolerance {
        let of = |values: &[f64]| (MARGIN * quantile(values, QUANTILE)).max(TOLERANCE_MIN);
        let max = of(&self.maxima);
        let bound = 2.0 * max;
        let gap = if self.gaps.len() < GAPS_MIN { bound } else { bound.min(of(&self.gaps)) };
        Tolerance { gap, mean: of(&self.means), max, pairs: self.means.len() as u64 }
    }
}

fn write_row(text: &mut String, row: &Row) {
    let words: Vec<_> = row.differs.iter().map(|part| part.word()).collect();
    let _ = write!(text, "\n[[rows]] # {}\ndiffers = {words:?}\n", name_of(&row.differs, row.against));
    if row.against == Against::Scored {
        text.push_str("against = \"scored\"\n");
    }
    if let Some(sides) = &row.sides {
        text.push_str("sides = [\n");
        for Side { model, provider, compute } in sides {
            let model = model.to_string();
            let _ = writeln!(
                text,
                "    {{ model = {model:?}, provider = {provider:?}, compute = {compute:?} }},"
            );
        }
        text.push_str("]\n");
    }
    write_tolerance(text, &row.tolerance);
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
