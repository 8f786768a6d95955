//! Tries jobs alone that were in hand when a verifier died, one by one, before anything else is taken.

use std::sync::Arc;

use infera_ledger::{Handout, Notice};
use infera_types::ids::JobId;

use super::taking::{begin, take_in_ledger};
use crate::job::{Held, handouts};
use crate::tenure::{HeldNotice, Suspect, Tenure, Trial};

/// Gives back in the ledger what was taken and is to be tried alone, and keeps the notices until it is their turn.
pub(super) async fn set_aside(tenure: &Tenure, lost: Vec<(JobId, HeldNotice)>) {
    let jobs: Vec<JobId> = lost.iter().map(|(job, _)| *job).collect();
    if jobs.is_empty() {
        return;
    }
    tracing::info!(jobs = jobs.len(), "jobs that were in hand when a verifier died are tried one by one");
    // Losing them would count as one more lost handout of each. The lease bounds how long this goes on.
    while !handouts::release(tenure, &jobs).await {}
    for (job, notice) in lost {
        tenure.trials.add(Suspect { job, notice });
    }
}

/// Tries suspects one by one until the tenure ends, all that wait before anything else is taken.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    loop {
        tenure.trials.added().await;
        let _alone = tenure.trials.solitude().await;
        while let Some(suspect) = tenure.trials.next() {
            if tenure.draining.is_cancelled() {
                // What waits is the ledger's, and the notices go back with their consumer.
                return std::future::pending().await;
            }
            try_alone(tenure, suspect).await;
        }
    }
}

async fn try_alone(tenure: &Arc<Tenure>, suspect: Suspect) {
    let Suspect { job, notice } = suspect;
    let mut notices = [Notice { job, redelivered: notice.delivery.redelivered, handout: Handout::Alone }];
    let takes = take_in_ledger(tenure, &mut notices).await;
    tenure.trials.remove(job);
    let Some(take) = takes.and_then(|mut takes| takes.pop()) else { return notice.delivery.nack().await };
    let (trial, over) = Trial::alone();
    begin(tenure, take, Held::new(notice, trial)).await;
    let _ = over.await;
}
