//! Runs the life of a job, top to bottom: prepared, given to a group, collected, settled, completed, acked, scored. One task
//! per job runs [`live`]; it alone decides the job's end while it owns it. What it decides by is in `decisions`. It knows of no
//! queue that jobs come from, and nothing of the other jobs but whether they are tried at the same time.
//!
//! In the order of a life: `held` is the notice in hand, `prompt` prepares, `first_group` waits for room, `asking` draws and
//! sends (by `dispatch`; `own_nodes` says what differs for nodes of one's own, `unable` what too few can do), `receiving` takes in what comes, `group` keeps the record, `collecting` decides (by
//! `out_of_time` where the nodes were too slow), `settler` settles and tells the gateway, `scorer` closes the group. `strays` scores what comes after its verifier is gone.

mod asking;
mod collecting;
mod dispatch;
mod first_group;
mod group;
pub(crate) mod handouts;
mod held;
mod out_of_time;
mod outcome;
mod own_nodes;
mod prompt;
mod receiving;
pub(crate) mod removed;
pub(crate) mod scorer;
pub(crate) mod settler;
mod spelling;
pub(crate) mod strays;
mod unable;
mod wall_clock;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use infera_ledger::{LedgerError, TakenJob};
use infera_telemetry::metrics::VERIFIER_JOB;
use infera_types::ids::JobId;
use infera_types::job::{End, FailureReason, Settlement};
use infera_types::time::Timestamp;
use tokio::sync::oneshot;

pub(crate) use held::Held;

use crate::decisions::trial::{Place, place};
use crate::tenure::{TRIAL_MAX, Tenure};
use asking::Asking;
use collecting::Listened;
use first_group::first_group;
use outcome::Outcome;
use prompt::Unprepared;

/// Runs one job's life until its end, or the tenure's.
pub(crate) async fn run(
    tenure: Arc<Tenure>,
    job: TakenJob,
    mut held: Held,
    ended: oneshot::Receiver<Settlement>,
) {
    let id = job.id;
    let trial = Arc::clone(&held.trial);
    let life = AssertUnwindSafe(Box::pin(live(&tenure, job, &mut held, ended))).catch_unwind();
    let trial_max = async {
        tokio::time::sleep(TRIAL_MAX).await;
        handouts::outlived(&tenure, id, &trial).await;
        std::future::pending::<()>().await
    };
    let finished = tokio::select! {
        () = tenure.ended.cancelled() => None,
        finished = life => Some(finished),
        () = trial_max => None,
    };
    tenure.in_flight.remove(id);
    match finished {
        None | Some(Ok(Ok(()))) => {}
        Some(Ok(Err(error))) => {
            // The notice stays held, and with the tenure's end it is given out again.
            tracing::error!(job = %id, %error, "a job is stuck; an operator must look at the ledger");
        }
        Some(Err(_)) => {
            // Given back as by a verifier that died with it, so that a request which breaks verifiers is poison after a few
            // times.
            tenure.counters.panics.add_one();
            tracing::error!(job = %id, "a job's task panicked");
            held.nack().await;
        }
    }
}

/// Lives the life itself.
///
/// # Errors
/// Those that no retry mends.
async fn live(
    tenure: &Arc<Tenure>,
    mut job: TakenJob,
    held: &mut Held,
    mut ended: oneshot::Receiver<Settlement>,
) -> Result<(), LedgerError> {
    if place(job.lost_handouts) == Place::Nowhere {
        let message = "Its verifiers stopped while they had it, too often.".to_owned();
        return end_unasked(tenure, &job, held, End::Failed { reason: FailureReason::Poison, message }).await;
    }
    let prepared = match prompt::prepare(tenure, &mut job).await {
        Ok(prepared) => prepared,
        Err(Unprepared::Ended(end)) => return end_unasked(tenure, &job, held, end).await,
        Err(Unprepared::NoTokenizer) => return release(tenure, job.id, held).await,
    };
    let mut asking = Asking::new(Arc::clone(tenure), job, prepared, held.lane);

    let outcome = match first_group(&mut asking, &mut ended, &held.trial).await {
        Some(outcome) => outcome,
        None => {
            held.dispatched();
            if !tenure.has_nodes_inside {
                handouts::outlived(tenure, asking.job.id, &held.trial).await;
            }
            asking.collect(&mut ended).await
        }
    };
    let end = match outcome {
        Outcome::Release => return release(tenure, asking.job.id, held).await,
        // That end stays; this adds the nodes that were asked, so that they are scored even if this verifier dies now.
        Outcome::Elsewhere(settlement) => settlement.end,
        Outcome::End(end) => end,
    };
    if let Some(stream) = &asking.stream {
        // Whatever the end is, nothing is shown after it but what it says itself.
        stream.stream().close();
    }
    if matches!(end, End::Cancelled { .. } | End::Expired) {
        // Those that are still open are judged by when that was.
        asking.excuse_open();
    }
    let settlement = settler::settle(tenure, settlement(tenure, &asking, end)).await?;
    held.trial.end();
    record_lifetime(&settlement, &asking.job);
    settler::publish_completion(tenure, &settlement, held.speaks).await;
    held.ack().await;
    tenure.in_flight.remove(asking.job.id);

    if matches!(settlement.end, End::Succeeded { .. } | End::Failed { .. })
        && asking.listen_for_late_ones().await == Listened::CutOff
    {
        // The group stays open in the ledger. What still comes goes to other verifiers, and so does its close.
        return Ok(());
    }
    match asking.record() {
        Some(group) => scorer::close_own(tenure, &settlement, &group, &asking.group.reruns()).await,
        None => Ok(()),
    }
}

/// Records how long a job took that succeeded.
fn record_lifetime(settlement: &Settlement, job: &TakenJob) {
    if matches!(settlement.end, End::Succeeded { .. }) {
        let lifetime = settlement.settled_ms.since(job.accepted_ms);
        metrics::histogram!(VERIFIER_JOB, "model" => settlement.model.to_string()).record(lifetime);
    }
}

/// Gives back a job that no node was asked for: the row is queued again, and the notice acked (rule 4).
async fn release(tenure: &Tenure, job: JobId, held: &mut Held) -> Result<(), LedgerError> {
    let is_released = handouts::release(tenure, &[job]).await;
    tenure.in_flight.remove(job);
    if is_released {
        tenure.counters.released.add_one();
        held.ack().await;
    } else {
        held.nack().await;
    }
    Ok(())
}

/// Ends a job that no node was asked for.
async fn end_unasked(tenure: &Tenure, job: &TakenJob, held: &mut Held, end: End) -> Result<(), LedgerError> {
    let settled = settler::settle(tenure, bare_settlement(job, end)).await?;
    settler::publish_completion(tenure, &settled, held.speaks).await;
    held.ack().await;
    Ok(())
}

/// Makes the settlement of a job without a group.
fn bare_settlement(job: &TakenJob, end: End) -> Settlement {
    Settlement {
        job_id: job.id,
        account: job.account.clone(),
        model: job.model.clone(),
        gateway: job.gateway.clone(),
        end,
        group: None,
        settled_ms: Timestamp::now(),
    }
}

/// Makes the settlement of a job whose nodes were asked.
fn settlement(tenure: &Tenure, asking: &Asking, end: End) -> Settlement {
    tracing::debug!(verifier = %tenure.id, job = %asking.job.id, end = end.word(), "a job ends");
    Settlement { group: asking.record(), ..bare_settlement(&asking.job, end) }
}
