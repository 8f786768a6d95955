//! Tells all gateways each second what there is room for, so that they refuse or accept without asking anybody.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use infera_core::broker::{Published, topology};
use infera_core::ids::ModelName;
use infera_core::messages::{CapacitySummary, ModelCapacity, Wire};
use infera_core::telemetry::metrics::{VERIFIER_FREE_SLOTS, VERIFIER_NODES, VERIFIER_OWNERS};
use tokio::time::Instant;

use crate::fleet::{Fleet, fleet};
use crate::harmonizer::Distinct;
use crate::tenure::Tenure;

/// Changes within so long are looked at together.
const SETTLE_DOWN: Duration = Duration::from_millis(50);

/// What there is room for now, per model of the catalogue, in the order of names.
pub(crate) fn summarise(tenure: &Tenure) -> CapacitySummary {
    let page = tenure.book.page();
    let mut models: Vec<_> = page.catalogue.values().map(|entry| of_model(tenure, &entry.name)).collect();
    models.sort_by(|left, right| left.model.cmp(&right.model));
    CapacitySummary { verifier: tenure.id.clone(), models }
}

/// What there is room for of one model.
pub(crate) fn of_model(tenure: &Tenure, model: &ModelName) -> ModelCapacity {
    let page = tenure.book.page();
    let fleet = match page.catalogue.get(model) {
        Some(entry) => fleet(&page, model, &tenure.nodes.views(&entry.digests, Instant::now())),
        None => Fleet::default(),
    };
    let mut nodes = HashSet::new();
    let mut owners = HashSet::new();
    let mut free_slots = 0_u32;
    for candidate in fleet.candidates.iter().filter(|candidate| !candidate.ejected) {
        nodes.insert(&candidate.node);
        owners.insert(&candidate.owner);
        free_slots = free_slots.saturating_add(candidate.free_slots);
    }
    // What a group's members must differ in is the verifier's setting; the gateway only compares numbers.
    let different = match tenure.config.distinct {
        Distinct::Owner => owners.len(),
        Distinct::Node => nodes.len(),
    };
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    ModelCapacity { model: model.clone(), nodes: count(nodes.len()), owners: count(different), free_slots }
}

/// Who is there, which gateways must hear of at once: a network whose third owner just came has room from now on.
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
