//! Says what a model's nodes can do together, and what too few of them can do. Whether a single node can do what a request needs
//! is asked where groups are drawn.

use std::collections::BTreeSet;

use infera_types::features::{Feature, Features};

use crate::decisions::group_draw::{Candidate, Distinct};

/// Returns the features that candidates of at least `parties_min` different parties have, each feature counted by itself.
#[must_use]
pub fn shared(candidates: &[&Candidate], distinct: Distinct, parties_min: usize) -> Features {
    let all: BTreeSet<Feature> = candidates.iter().flat_map(|one| one.features.iter()).collect();
    let is_shared = |feature: &Feature| {
        let able = candidates.iter().filter(|one| one.features.has(*feature));
        let parties: BTreeSet<&str> = able.map(|one| distinct.party(&one.owner, &one.node)).collect();
        parties.len() >= parties_min
    };
    all.into_iter().filter(is_shared).collect()
}

/// Returns what of `needed` keeps a group of `wanted` from being filled: the features that too few nodes have, or all of them if
/// each has enough nodes, but not the same. `None` if that isn't it: enough nodes can do everything, or too few serve the model at
/// all. `count` returns how many different nodes there are that have the given features.
#[must_use]
pub fn lacking(needed: &Features, wanted: usize, count: impl Fn(&Features) -> usize) -> Option<Features> {
    let is_short = |features: &Features| count(features) < wanted;
    if is_short(&Features::from_iter([])) || !is_short(needed) {
        return None;
    }
    let short: Vec<Feature> =
        needed.iter().filter(|feature| is_short(&Features::from_iter([*feature]))).collect();
    Some(if short.is_empty() { needed.clone() } else { short.into_iter().collect() })
}
