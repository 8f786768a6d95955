//! Tells all gateways each second what there is room for, so that they refuse or accept without asking anybody.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Published, topology};
use infera_telemetry::metrics::{VERIFIER_FREE_SLOTS, VERIFIER_NODES, VERIFIER_OWNERS};
use infera_types::ids::ModelName;
use infera_types::messages::{CapacitySummary, ModelCapacity, Version, Wire};
use tokio::time::Instant;

use crate::fleet::{Fleet, fleet};
use crate::harmonizer::{Candidate, Distinct};
use crate::tenure::Tenure;

/// How long changes are gathered before they are looked at together.
const SETTLE_DOWN: Duration = Duration::from_millis(50);

/// What there is room for now, per model of the catalogue that this verifier offers, in the order of names. Of one whose
/// folder it hasn't there is no room here, whatever nodes there are: what no verifier names, gateways refuse.
pub(crate) fn summarise(tenure: &Tenure) -> CapacitySummary {
    let page = tenure.book.page();
    let offered = page.catalogue.keys().filter(|model| tenure.chats.contains_key(*model));
    let mut models: Vec<_> = offered.map(|model| of_model(tenure, model)).collect();
    models.sort_by(|left, right| left.model.cmp(&right.model));
    CapacitySummary { verifier: tenure.id.clone(), models, speaks: Version::NEWEST }
}

/// What there is room for of one model.
pub(crate) fn of_model(tenure: &Tenure, model: &ModelName) -> ModelCapacity {
    let page = tenure.book.page();
    let fleet = match page.catalogue.get(model) {
        Some(entry) => fleet(&page, model, &tenure.nodes.views(&entry.digests, Instant::now())),
        None => Fleet::default(),
    };
    room(model, &fleet.candidates, tenure.config.distinct)
}

/// What that comes to for a gateway, which compares numbers and knows no settings of the verifier's: with nodes as the
/// parties that a group's members must differ in, they count as owners.
fn room(model: &ModelName, candidates: &[Candidate], distinct: Distinct) -> ModelCapacity {
    let mut nodes = HashSet::new();
    let mut owners = HashSet::new();
    let mut free_slots = 0_u32;
    for candidate in candidates.iter().filter(|candidate| !candidate.ejected) {
        nodes.insert(&candidate.node);
        owners.insert(&candidate.owner);
        free_slots = free_slots.saturating_add(candidate.free_slots);
    }
    let different = match distinct {
        Distinct::Owner => owners.len(),
        Distinct::Node => nodes.len(),
    };
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    ModelCapacity { model: model.clone(), nodes: count(nodes.len()), owners: count(different), free_slots }
}

/// Counts nodes and owners per model. Gateways must hear of a change at once: a network whose third owner just came has
/// room from now on.
fn who(summary: &CapacitySummary) -> Vec<(u32, u32)> {
    summary.models.iter().map(|model| (model.nodes, model.owners)).collect()
}

fn show(summary: &CapacitySummary) {
    for model in &summary.models {
        for (name, count) in [
            (VERIFIER_NODES, model.nodes),
            (VERIFIER_OWNERS, model.owners),
            (VERIFIER_FREE_SLOTS, model.free_slots),
        ] {
            metrics::gauge!(name, "model" => model.model.to_string()).set(count);
        }
    }
}

/// Broadcasts until the tenure ends. A lost summary is replaced by the next.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let pause = Duration::from_millis(tenure.config.capacity_ms);
    let mut changes = tenure.nodes.changes();
    let mut said = Vec::new();
    let mut due = Instant::now();
    loop {
        let summary = summarise(tenure);
        let present = who(&summary);
        if present != said || due <= Instant::now() {
            said = present;
            show(&summary);
            due = Instant::now() + pause;
            let message = summary.to_message(tenure.id.as_str());
            if tenure.seams.broker.publish(&topology::capacity(), message).await == Published::Unknown {
                tracing::debug!("a summary of capacity may be lost");
            }
        }
        // Slots come and go with every job: those are looked at together, and told when the next summary is due.
        tokio::time::sleep(SETTLE_DOWN.min(pause)).await;
        let _ = tokio::time::timeout_at(due, changes.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use infera_types::ids::{Digest, NodeId, OwnerId};
    use infera_types::numbers::NumericClass;

    use super::*;

    fn candidate((owner, node, free_slots, ejected): (&str, &str, u32, bool)) -> Candidate {
        Candidate {
            node: NodeId::new(node),
            owner: OwnerId::new(owner),
            address: None,
            numeric_class: NumericClass {
                model_digest: Digest::of(b"model"),
                provider: "stub".to_owned(),
                hardware: "any".to_owned(),
                runtime: "none".to_owned(),
                compute: "f32".to_owned(),
            },
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
