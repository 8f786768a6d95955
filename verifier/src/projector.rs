//! Folds postings into balances and reputation. One verifier at a time does it, under a shared lease, so that a node's
//! row never has a second writer.

use std::sync::Arc;
use std::time::Duration;

use infera_ledger::LedgerError;
use infera_types::time::Timestamp;

use crate::tenure::Tenure;

/// The shared lease's name.
pub(crate) const LEASE: &str = "projector";

/// Folds until the tenure ends.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let mut ticks = tokio::time::interval(Duration::from_millis(tenure.config.project_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = fold(tenure).await {
            tracing::warn!(%error, "postings can't be folded now");
        }
    }
}

/// Folds what there is, if the lease is ours.
async fn fold(tenure: &Tenure) -> Result<(), LedgerError> {
    let ttl = Duration::from_millis(tenure.config.shared_lease_ms);
    let limit = tenure.config.project_limit;
    loop {
        let now = Timestamp::now();
        if !tenure.seams.sweeping.lease(LEASE, &tenure.id, now, ttl).await? {
            return Ok(());
        }
        if tenure.seams.standing.project(limit, now).await? < limit {
            return Ok(());
        }
    }
}
