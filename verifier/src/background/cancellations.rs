//! Learns which jobs in hand were ended elsewhere, so that nodes don't work on in vain. A client's cancel is a settlement in
//! the ledger, read once a second for all jobs in one batch.

use std::sync::Arc;
use std::time::Duration;

use infera_ledger::JobReader;
use infera_types::ids::JobId;
use tokio::time::Instant;

use crate::tenure::InFlight;

/// How often the ledger is asked; also how old a job must be to be asked about, since most end before.
const ASK: Duration = Duration::from_secs(1);

/// What the task needs.
pub(crate) struct Cancellations {
    /// Reads ends of jobs.
    pub(crate) reader: Arc<dyn JobReader>,
    /// The jobs that are asked about and told of their ends.
    pub(crate) in_flight: Arc<InFlight>,
}

impl Cancellations {
    /// Asks until the tenure ends.
    pub(crate) async fn run(self) {
        let mut ticks = tokio::time::interval(ASK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let jobs = self.in_flight.older_than(ASK, Instant::now());
            if !jobs.is_empty() {
                self.tell_ends(&jobs).await;
            }
        }
    }

    /// Tells the jobs' tasks of their ends. Where one end is damaged, each job is asked about by itself, so that the damage
    /// hides no other end.
    async fn tell_ends(&self, jobs: &[JobId]) {
        let mut found = vec![self.reader.settlements(jobs).await];
        if jobs.len() > 1 && found.iter().any(|found| found.as_ref().is_err_and(|error| !error.may_pass())) {
            found.clear();
            for job in jobs {
                found.push(self.reader.settlements(&[*job]).await);
            }
        }
        for found in found {
            match found {
                Ok(ends) => ends.into_iter().for_each(|settlement| self.in_flight.tell(settlement)),
                Err(error) => tracing::warn!(%error, "ends of jobs in flight can't be read now"),
            }
        }
    }
}
