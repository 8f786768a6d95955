//! Draws a group: ranks the eligible candidates, then chooses among them within the bounds.

use super::candidates::Candidate;
use super::order::Among;
use super::terms::Draw;
use super::{order, selection};

/// Returns the nodes to ask as indexes into `candidates`, best first. There are fewer than wanted if no more are eligible; the
/// caller decides whether that will do. The order of the candidates plays no part.
#[must_use]
pub fn draw(candidates: &[Candidate], draw: &Draw<'_>) -> Vec<usize> {
    draw_among(candidates, draw, Among::ALL_WITH_ROOM)
}

/// The same among some of the candidates.
pub(super) fn draw_among(candidates: &[Candidate], draw: &Draw<'_>, among: Among) -> Vec<usize> {
    let ranked = order::ranked(candidates, draw, among);
    selection::choose(&ranked, draw)
}
