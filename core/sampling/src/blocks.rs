//! A row in pieces, each of which can be skipped as a whole by its highest logit.

use infera_types::numbers::TokenId;
use multiversion::multiversion;

use crate::philox;

/// How many tokens are skipped as a whole.
pub(crate) const BLOCK: usize = 4 * philox::COUNT;
/// How many logits are compared in one step.
const LANES: usize = 8;

/// Returns the logit as it counts: NaN and -inf as the lowest finite f32, +inf as the highest.
#[inline]
pub(crate) fn finite(logit: f32) -> f32 {
    if logit.is_nan() { f32::MIN } else { logit.clamp(f32::MIN, f32::MAX) }
}

/// A row in pieces with the highest logit of each, so that whole pieces can be skipped.
pub(crate) struct Blocks<'a> {
    pub(crate) logits: &'a [f32],
    pub(crate) peaks: Vec<f32>,
}

impl<'a> Blocks<'a> {
    pub(crate) fn of(logits: &'a [f32]) -> Self {
        Self { logits, peaks: peaks(logits) }
    }

    /// Returns the pieces, each with the id of its first token and its highest logit.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TokenId, &'a [f32], f32)> {
        let ids = (0..).step_by(BLOCK);
        ids.zip(self.logits.chunks(BLOCK)).zip(&self.peaks).map(|((id, block), peak)| (id, block, *peak))
    }
}

/// Returns the highest logit of each piece, with NaN as the lowest. It works in lanes, which a processor compares all at once.
#[multiversion(targets("x86_64+avx2"))]
fn peaks(logits: &[f32]) -> Vec<f32> {
    let highest = |lanes: [f32; LANES]| lanes.into_iter().fold(f32::MIN, f32::max);
    // Not `f32::max`, whose rules for NaN prevent it from being one instruction.
    let above = |logit: f32, lane: f32| if logit > lane { logit } else { lane };
    let (whole, rest) = logits.as_chunks::<BLOCK>();
    let mut peaks = Vec::with_capacity(whole.len() + 1);
    for block in whole {
        let mut lanes = [f32::MIN; LANES];
        for part in block.as_chunks::<LANES>().0 {
            for (lane, &logit) in lanes.iter_mut().zip(part) {
                *lane = above(logit, *lane);
            }
        }
        peaks.push(highest(lanes));
    }
    if !rest.is_empty() {
        peaks.push(rest.iter().fold(f32::MIN, |lane, &logit| above(logit, lane)));
    }
    peaks
}
