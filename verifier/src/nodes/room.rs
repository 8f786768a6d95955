//! Counts what the live nodes have room for, per model.

use std::collections::HashSet;

use infera_ledger::{CatalogueEntry, NodePool};
use infera_types::ids::ModelName;
use infera_types::messages::ModelCapacity;
use tokio::time::Instant;

use super::fleet::{Fleet, fleet};
use super::ledger_view::Snapshot;
use super::table::NodeTable;
use crate::decisions::group_draw::{Candidate, Distinct};

/// Returns what there is room for of one model; nothing of one that isn't in the catalogue.
pub(crate) fn of_model(
    snapshot: &Snapshot,
    nodes: &NodeTable,
    model: &ModelName,
    distinct: Distinct,
) -> ModelCapacity {
    let fleet = match snapshot.catalogue.get(model) {
        Some(entry) => {
            let views = nodes.views(&entry.digests, Instant::now());
            fleet(snapshot, model, &views, &NodePool::Open, None)
        }
        None => Fleet::default(),
    };
    room(model, &fleet.candidates, distinct)
}

/// Returns whether a live node that its owner lets be drawn serves a model, whoever's node it is.
pub(crate) fn is_served(snapshot: &Snapshot, nodes: &NodeTable, entry: &CatalogueEntry) -> bool {
    let views = nodes.views(&entry.digests, Instant::now());
    views.iter().any(|view| snapshot.nodes.contains_key(&view.id) && snapshot.allows(&view.id, &entry.name))
}

/// Bounds the owners that a group needs: with as many among the others, no backstop is drawn.
const GROUP_OWNERS: usize = 3;

/// Returns the numbers that a gateway compares, which knows no settings of the verifier's: where a group's members need only be
/// different nodes or machines, each node counts as an owner. Private nodes are no room for strangers. Backstops count as one
/// owner, and their slots only where the others alone can't make a group.
fn room(model: &ModelName, candidates: &[Candidate], distinct: Distinct) -> ModelCapacity {
    let mut nodes = HashSet::new();
    let mut owners = HashSet::new();
    let (mut free_slots, mut free_of_backstops) = (0_u32, 0_u32);
    let mut others = HashSet::new();
    for candidate in candidates.iter().filter(|candidate| !candidate.ejected && !candidate.is_private) {
        nodes.insert(&candidate.node);
        owners.insert(&candidate.owner);
        let free = if candidate.is_backstop { &mut free_of_backstops } else { &mut free_slots };
        *free = free.saturating_add(candidate.free_slots);
        if !candidate.is_backstop {
            others.insert(distinct.party(&candidate.owner, &candidate.node));
        }
    }
    if others.len() < GROUP_OWNERS {
        free_slots = free_slots.saturating_add(free_of_backstops);
    }
    let different = match distinct {
        Distinct::Owner => owners.len(),
        Distinct::Machine | Distinct::Node => nodes.len(),
    };
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    ModelCapacity {
        model: model.clone(),
        nodes: count(nodes.len()),
        owners: count(different),
        free_slots,
        features: None,
    }
}

#[cfg(test)]
mod tests {
    use infera_types::features::Features;
    use infera_types::ids::{Digest, NodeId, OwnerId};
    use infera_types::numbers::NumericClass;

    use super::*;

    fn candidate((owner, node, free_slots, ejected): (&str, &str, u32, bool)) -> Candidate {
        Candidate {
            node: NodeId::new(node),
            owner: OwnerId::new(owner),
            address: None,
            machine: None,
            is_private: false,
            is_backstop: false,
            groups: Vec::new(),
            numeric_class: NumericClass {
                model_digest: Digest::of(b"model"),
                provider: "stub".to_owned(),
                hardware: "any".to_owned(),
                runtime: "none".to_owned(),
                compute: "f32".to_owned(),
            },
            features: Features::default(),
            free_slots,
            reputation: 0.5,
            tokens_per_second: None,
            newcomer: false,
            ejected,
        }
    }

    #[test]
    fn gateways_are_told_as_many_owners_as_a_group_may_have_members() {
        let (here, gone) = (false, true);
        let one_owner = [("a", "a1", 4, here), ("a", "a2", 0, here), ("a", "a3", 2, here)];
        let two_owners = [("a", "a1", 4, here), ("a", "a2", 1, here), ("b", "b1", 2, here)];
        let ejected = [("a", "a1", 4, here), ("b", "b1", 8, gone), ("a", "a2", 1, gone)];
        for (fleet, distinct, told) in [
            (&one_owner[..], Distinct::Owner, (3, 1, 6)),
            (&one_owner, Distinct::Node, (3, 3, 6)),
            (&two_owners, Distinct::Owner, (3, 2, 7)),
            (&two_owners, Distinct::Node, (3, 3, 7)),
            (&ejected, Distinct::Owner, (1, 1, 4)),
            (&ejected, Distinct::Node, (1, 1, 4)),
            (&[], Distinct::Node, (0, 0, 0)),
        ] {
            let candidates: Vec<_> = fleet.iter().copied().map(candidate).collect();
            let ModelCapacity { nodes, owners, free_slots, .. } =
                room(&ModelName::new("m"), &candidates, distinct);
            assert_eq!((nodes, owners, free_slots), told, "{fleet:?} {distinct:?}");
        }
    }
}
