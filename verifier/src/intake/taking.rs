//! Takes jobs in the ledger and begins their lives.

use std::sync::Arc;

use infera_ledger::{LedgerError, Notice, Take};
use infera_telemetry::trace;
use infera_types::time::Timestamp;
use tracing::{Instrument as _, field, info_span};

use crate::job::{self, Held, settler};
use crate::tenure::{LEDGER_RETRY, Tenure};

/// How often the ledger may fail to take a batch of notices before they are given back to the broker.
const TAKE_TRIES: u32 = 8;

/// Takes jobs in the ledger, which is asked until it answers; none if it doesn't for seconds.
pub(super) async fn take_in_ledger(tenure: &Tenure, notices: &mut [Notice]) -> Option<Vec<Take>> {
    for failures in 1..=TAKE_TRIES {
        match tenure.seams.owner.take(&tenure.id, notices, Timestamp::now()).await {
            Ok(takes) => return Some(takes),
            Err(error) => {
                tracing::warn!(%error, "jobs can't be taken now");
                // If this try did take them, this verifier has them and lives, so only a redelivered notice may take them
                // again. A try that took nothing must not change that: a redelivered notice takes a live owner's job too.
                if !matches!(error, LedgerError::Unavailable(_) | LedgerError::Refused(_)) {
                    notices.iter_mut().for_each(|notice| notice.redelivered = true);
                }
                tokio::time::sleep(LEDGER_RETRY.wait(failures)).await;
            }
        }
    }
    None
}

/// Begins the life of a taken job, or does the little that one needs that can't be taken.
pub(super) async fn begin(tenure: &Arc<Tenure>, take: Take, mut held: Held) {
    match take {
        Take::Taken(taken) => {
            let Some(ended) = tenure.in_flight.insert(taken.id) else {
                // Two notices were taken at the same moment; the other has it in hand.
                held.ack().await;
                return;
            };
            tenure.counters.taken.add_one();
            let span = info_span!(
                target: trace::TARGET,
                parent: None,
                "job",
                otel.kind = "consumer",
                job = %taken.id,
                trace_id = field::Empty,
            );
            trace::continue_from(&span, held.trace());
            let jobs = tenure.jobs.clone();
            jobs.spawn(job::run(Arc::clone(tenure), taken, held, ended).instrument(span));
        }
        Take::Settled(settlement) => {
            settler::publish_completion(tenure, &settlement, held.speaks).await;
            held.ack().await;
        }
        Take::Nothing(_) => held.ack().await,
    }
}
