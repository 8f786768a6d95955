//! Broadcasts once a second what there is room for, so that gateways accept or refuse at once, without a question.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Broker, Published, topology};
use infera_telemetry::metrics::{VERIFIER_FREE_SLOTS, VERIFIER_NODES, VERIFIER_OWNERS};
use infera_types::ids::{ModelName, VerifierId};
use infera_types::messages::{CapacitySummary, ModelCapacity, Version, Wire};
use tokio::time::Instant;

use crate::config::Config;
use crate::nodes::{LedgerView, NodeTable, room};
use crate::tenure::Chats;

/// How long changes are gathered before they are looked at together.
const SETTLE_DOWN: Duration = Duration::from_millis(50);

/// What the task needs.
pub(crate) struct Capacity {
    /// Signs the summaries.
    pub(crate) verifier: VerifierId,
    /// The operator's settings.
    pub(crate) config: Arc<Config>,
    /// The tokenizers that this verifier has: without one it offers no model.
    pub(crate) chats: Arc<Chats>,
    /// What the ledger says of the network.
    pub(crate) ledger_view: Arc<LedgerView>,
    /// The live nodes.
    pub(crate) nodes: Arc<NodeTable>,
    /// Carries the summaries.
    pub(crate) broker: Arc<dyn Broker>,
}

impl Capacity {
    /// Broadcasts until the tenure ends. A lost summary is replaced by the next.
    pub(crate) async fn run(self) {
        let pause = Duration::from_millis(self.config.capacity_ms);
        let mut changes = self.nodes.changes();
        let (mut said, mut shown) = (Vec::new(), BTreeSet::new());
        let mut due = Instant::now();
        loop {
            let summary = self.summarise();
            let present = nodes_and_owners(&summary);
            if present != said || due <= Instant::now() {
                said = present;
                shown = show(&summary, &shown);
                due = Instant::now() + pause;
                let message = summary.to_message(self.verifier.as_str());
                if self.broker.publish(&topology::capacity(), message).await == Published::Unknown {
                    tracing::debug!("a summary of capacity may be lost");
                }
            }
            // Slots come and go with every job: those are looked at together, and told when the next summary is due.
            tokio::time::sleep(SETTLE_DOWN.min(pause)).await;
            let _ = tokio::time::timeout_at(due, changes.changed()).await;
        }
    }

    /// Returns what there is room for now, per model of the catalogue that this verifier offers, in the order of names. A
    /// model whose tokenizer it lacks is left out, whatever nodes there are: what no verifier names, gateways refuse. So is a
    /// removed one, of which jobs that were accepted before may still be answered.
    fn summarise(&self) -> CapacitySummary {
        let snapshot = self.ledger_view.snapshot();
        let offered =
            snapshot.catalogue.values().filter(|entry| !entry.is_removed() && self.chats.has(entry));
        let mut models: Vec<_> = offered
            .map(|entry| room::of_model(&snapshot, &self.nodes, &entry.name, self.config.distinct))
            .collect();
        models.sort_by(|left, right| left.model.cmp(&right.model));
        CapacitySummary { verifier: self.verifier.clone(), models, speaks: Version::NEWEST }
    }
}

/// Counts nodes and owners per model. Gateways must hear of a change at once: a network whose third owner just came has
/// room from now on.
fn nodes_and_owners(summary: &CapacitySummary) -> Vec<(u32, u32)> {
    summary.models.iter().map(|model| (model.nodes, model.owners)).collect()
}

/// Shows the numbers of each model, and zeros for those that were `shown` before and are offered no more. Returns what is shown.
fn show(summary: &CapacitySummary, shown: &BTreeSet<ModelName>) -> BTreeSet<ModelName> {
    let now: BTreeSet<ModelName> = summary.models.iter().map(|model| model.model.clone()).collect();
    let gone = shown.difference(&now);
    let gone = gone.map(|model| ModelCapacity {
        model: model.clone(),
        nodes: 0,
        owners: 0,
        free_slots: 0,
        features: None,
    });
    for model in summary.models.iter().cloned().chain(gone) {
        for (name, count) in [
            (VERIFIER_NODES, model.nodes),
            (VERIFIER_OWNERS, model.owners),
            (VERIFIER_FREE_SLOTS, model.free_slots),
        ] {
            metrics::gauge!(name, "model" => model.model.to_string()).set(count);
        }
    }
    now
}
