//! Leaves out tokens for their rank or their probability.

use infera_types::numbers::{Rest, TokenId};

use crate::choosing::COUNTED_BELOW;

/// How far below the highest logit the first tokens lie that are sorted for `top_p`: their weights mostly reach it. It
/// changes no result.
const SORTED_FIRST_BELOW: f64 = 12.0;

/// A token that may follow.
#[derive(Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) token: TokenId,
    pub(crate) raw: f32,
    /// The logit after penalties and bias.
    pub(crate) logit: f64,
}

/// Orders by descending logit, and by ascending id among equals. Adding zero makes zeros of both signs equal, which the total
/// order tells apart; without a total order, extreme penalties, whose logits aren't numbers, would break the sort.
fn precedes(one: &Candidate, other: &Candidate) -> std::cmp::Ordering {
    (other.logit + 0.0).total_cmp(&(one.logit + 0.0)).then(one.token.cmp(&other.token))
}

/// Leaves the `count` highest candidates, of which there are more.
pub(crate) fn leave_highest(candidates: &mut Vec<Candidate>, count: usize) {
    candidates.select_nth_unstable_by(count, precedes);
    candidates.truncate(count);
}

/// Returns the highest logit; minus infinity of none.
pub(crate) fn highest(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| candidate.logit).fold(f64::NEG_INFINITY, f64::max)
}

/// Leaves the fewest candidates whose weights reach `share` of all.
pub(crate) fn leave_likeliest(candidates: &mut Vec<Candidate>, share: f64, rest: Option<Rest>) {
    let highest = highest(candidates);
    let weight = |logit: f64| {
        if highest - logit > COUNTED_BELOW { 0.0 } else { libm::exp(logit - highest) }
    };
    candidates.sort_unstable_by_key(|candidate| candidate.token);
    let listed: f64 = candidates.iter().map(|candidate| weight(candidate.logit)).sum();
    let all = listed + rest.map_or(0.0, |rest| weight(rest.log_sum_exp.min(highest + COUNTED_BELOW)));
    let wanted = share * all;
    let below = |candidate: &Candidate| candidate.logit < highest - SORTED_FIRST_BELOW;
    let (mut first, rest): (Vec<_>, Vec<_>) = candidates.drain(..).partition(|candidate| !below(candidate));
    let mut reached = 0.0;
    let mut take = |sorted: &mut Vec<Candidate>, left: &mut Vec<Candidate>| {
        sorted.sort_unstable_by(precedes);
        for candidate in sorted.drain(..) {
            reached += weight(candidate.logit);
            left.push(candidate);
            if reached >= wanted {
                return true;
            }
        }
        false
    };
    let mut rest = rest;
    if !take(&mut first, candidates) {
        take(&mut rest, candidates);
    }
}
