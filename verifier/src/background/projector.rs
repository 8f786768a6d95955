//! Folds postings into balances and reputation. One verifier at a time does it, under a shared lease, so that a node's
//! row never has a second writer.

use std::sync::Arc;
use std::time::Duration;

use infera_ledger::{LedgerError, Standing};
use infera_types::time::Timestamp;

use crate::config::Config;
use crate::tenure::{LeaseName, Leases};

/// What the task needs.
pub(crate) struct Projector {
    /// The operator's settings.
    pub(crate) config: Arc<Config>,
    /// Folds postings.
    pub(crate) standing: Arc<dyn Standing>,
    /// Keeps the shared lease.
    pub(crate) leases: Arc<Leases>,
}

impl Projector {
    /// Folds until the tenure ends.
    pub(crate) async fn run(self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(self.config.project_ms));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.fold().await {
                tracing::warn!(%error, "postings can't be folded now");
            }
        }
    }

    /// Folds what there is, if the lease is this verifier's.
    async fn fold(&self) -> Result<(), LedgerError> {
        let ttl = Duration::from_millis(self.config.shared_lease_ms);
        let limit = self.config.project_limit;
        while self.leases.hold(LeaseName::Projector, ttl).await? {
            if self.standing.project(limit, Timestamp::now()).await? < limit {
                break;
            }
        }
        Ok(())
    }
}
