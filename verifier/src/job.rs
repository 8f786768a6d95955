//! The life of a job, top to bottom: prepared, given to a group, collected, settled, completed, acked, scored. One
//! task per job runs [`live`]; it alone decides the job's end while it owns it. What it decides by is in the pure
//! modules; how it talks to nodes is in `asking`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use infera_ledger::{LedgerError, TakenJob};
use infera_telemetry::metrics::VERIFIER_JOB;
use infera_types::ids::JobId;
use infera_types::job::{End, FailureReason, Settlement};
use infera_types::time::Timestamp;
use tokio::sync::oneshot;

use crate::asking::{Asking, Room};
use crate::consumer::Held;
use crate::counters::Counted;
use crate::quorum::{Decision, REPLACEMENTS_MAX};
use crate::tenure::Tenure;
use crate::trials::{self, Place, TRIAL_MAX, Trial};
use crate::{prompt, scorer, settler};

/// How a job leaves its group.
enum Outcome {
    /// The job ends like this, unless it was ended before.
    End(End),
    /// The job was ended elsewhere.
    Elsewhere(Box<Settlement>),
    /// The job goes back: no node was asked.
    Release,
}

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
        trials::outlived(&tenure, id, &trial).await;
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
            // As if this verifier had died with it, so that a request that breaks us is poison after a few times.
            tenure.counters.count(Counted::Panic);
            tracing::error!(job = %id, "a job's task panicked");
            held.nack().await;
        }
    }
}

/// The life itself. Errors are those that no retry mends.
async fn live(
    tenure: &Arc<Tenure>,
    mut job: TakenJob,
    held: &mut Held,
    mut ended: oneshot::Receiver<Settlement>,
) -> Result<(), LedgerError> {
    if trials::place(job.lost_handouts) == Place::Nowhere {
        let message = "Its verifiers stopped while they had it, too often.".to_owned();
        return end_unasked(tenure, &job, held, End::Failed { reason: FailureReason::Poison, message }).await;
    }
    let prepared = match prompt::prepare(tenure, &mut job).await {
        Ok(prepared) => prepared,
        Err(end) => return end_unasked(tenure, &job, held, end).await,
    };
    let mut asking = Asking::new(Arc::clone(tenure), job, prepared);

    let outcome = match first_group(&mut asking, &mut ended, &held.trial).await {
        Some(outcome) => outcome,
        None => {
            held.dispatched();
            if !tenure.has_nodes_inside {
                trials::outlived(tenure, asking.job.id, &held.trial).await;
            }
            collect(&mut asking, &mut ended).await
        }
    };
    let end = match outcome {
        Outcome::Release => return release(tenure, asking.job.id, held).await,
        // That end stays; what this adds is whom we had asked, so that they are scored even if we die now.
        Outcome::Elsewhere(settlement) => settlement.end,
        Outcome::End(end) => end,
    };
    if matches!(end, End::Cancelled | End::Expired) {
        // Those that are still open are judged by when that was.
        asking.excuse_open();
    }
    let settlement = settler::settle(tenure, settlement(tenure, &asking, end)).await?;
    held.trial.end();
    if matches!(settlement.end, End::Succeeded { .. }) {
        let model = settlement.model.to_string();
        let lived = settlement.settled_ms.since(asking.job.accepted_ms);
        metrics::histogram!(VERIFIER_JOB, "model" => model).record(lived);
    }
    settler::publish_completion(tenure, &settlement).await;
    held.ack().await;
    tenure.in_flight.remove(asking.job.id);

    if matches!(settlement.end, End::Succeeded { .. } | End::Failed { .. })
        && listen_for_late_ones(&mut asking).await == Listened::CutOff
    {
        // The group stays open in the ledger. What still comes goes to other verifiers, and so does its close.
        return Ok(());
    }
    match asking.record() {
        Some(group) => scorer::close_own(tenure, &settlement, &group).await,
        None => Ok(()),
    }
}

/// Waits for room and asks the first group. None: it is asked.
async fn first_group(
    asking: &mut Asking,
    ended: &mut oneshot::Receiver<Settlement>,
    trial: &Trial,
) -> Option<Outcome> {
    let tenure = Arc::clone(&asking.tenure);
    let give_back = Timestamp::now().after(Duration::from_millis(tenure.config.hold_ms));
    let waited_until = give_back.min(asking.job.deadline_ms);
    let asked = async {
        loop {
            match asking.ask_in_turn().await {
                Room::Asked => return None,
                // A synchronous request fails at once when too few nodes exist; other jobs wait.
                Room::Nobody if asking.job.synchronous && !tenure.is_warming_up() => {
                    return Some(Outcome::End(insufficient_nodes(asking)));
                }
                // Others need not wait for room with it.
                Room::Nobody | Room::Full => trials::outlived(&tenure, asking.job.id, trial).await,
            }
        }
    };
    let outcome = tokio::select! {
        outcome = asked => outcome,
        Ok(settlement) = ended => Some(Outcome::Elsewhere(Box::new(settlement))),
        () = tenure.draining.cancelled() => Some(Outcome::Release),
        () = sleep_until(waited_until) => {
            let expired = waited_until < give_back;
            Some(if expired { Outcome::End(End::Expired) } else { Outcome::Release })
        }
    };
    if matches!(outcome, Some(Outcome::Release)) && asking.group.len() > 0 {
        // The wait ended while the group was being asked: it may be at work, so the job stays.
        asking.group.mark_all_uncertain();
        return None;
    }
    outcome
}

/// Collects replicas, asks replacements, and says how the job ends.
async fn collect(asking: &mut Asking, ended: &mut oneshot::Receiver<Settlement>) -> Outcome {
    let mut changes = asking.tenure.nodes.changes();
    loop {
        if asking.job.deadline_ms <= Timestamp::now() {
            return Outcome::End(End::Expired);
        }
        let hungry = match step(asking).await {
            Ok(hungry) => hungry,
            Err(end) => return Outcome::End(*end),
        };
        let wake = wake_at(asking, hungry);
        tokio::select! {
            arrived = asking.next_arrival() => asking.receive(arrived).await,
            Ok(settlement) = &mut *ended => return Outcome::Elsewhere(Box::new(settlement)),
            Ok(()) = changes.changed(), if hungry => {}
            () = sleep_until(wake) => asking.expire_overdue().await,
        }
    }
}

/// Decides on what is in, and asks more nodes where that needs them. `Ok`: whether nodes are wanted and not to be had
/// now. `Err`: the job's end.
async fn step(asking: &mut Asking) -> Result<bool, Box<End>> {
    loop {
        let decision = asking.group.decide(&asking.prepared.draw_key);
        let needed = match decision {
            Decision::Settle(agreed) => return Err(Box::new(asking.success(&agreed))),
            Decision::Fail(reason) => return give_up(asking, reason),
            Decision::Draw(count) => count,
            Decision::Wait => 0,
        };
        let wanted = needed.max(asking.group.lacking().min(asking.group.replacements_left()));
        if wanted == 0 {
            return Ok(false);
        }
        match asking.ask(wanted).await {
            Room::Asked => {}
            Room::Full => return Ok(true),
            // Enough may still come from those at it.
            Room::Nobody if needed == 0 || asking.tenure.is_warming_up() => return Ok(true),
            Room::Nobody => asking.group.nobody_left = true,
        }
    }
}

/// No quorum can be had with the nodes there are. Disagreement ends the job, and so do six misses; a mere lack of
/// nodes ends only a job that a client waits for.
fn give_up(asking: &mut Asking, reason: FailureReason) -> Result<bool, Box<End>> {
    let lack = reason == FailureReason::TooManyMisses && asking.group.misses() < REPLACEMENTS_MAX;
    if !lack {
        let message = match reason {
            FailureReason::NoConsensus => "The nodes' answers differ, and nobody could decide between them.",
            _ => "Too many nodes failed to answer it.",
        };
        return Err(Box::new(End::Failed { reason, message: message.to_owned() }));
    }
    let may_change = asking.group.open() > 0;
    if asking.job.synchronous && !may_change {
        return Err(Box::new(insufficient_nodes(asking)));
    }
    asking.group.nobody_left = false;
    Ok(true)
}

fn insufficient_nodes(asking: &Asking) -> End {
    let wanted = asking.job.policy.replicas;
    End::Failed {
        reason: FailureReason::InsufficientNodes,
        message: format!(
            "There are not enough nodes of different owners for this model; {wanted} are needed."
        ),
    }
}

/// When to look again without being told: something is overdue, the job is, or there may be room.
fn wake_at(asking: &Asking, hungry: bool) -> Timestamp {
    let look_again = Timestamp::now().after(Duration::from_millis(asking.tenure.config.look_again_ms));
    let mut wake = asking.job.deadline_ms;
    wake = asking.group.next_due().map_or(wake, |due| due.min(wake));
    if hungry { wake.min(look_again) } else { wake }
}

/// How listening for late replicas ended.
#[derive(PartialEq, Eq)]
enum Listened {
    /// All are in, or their time is up.
    ToTheEnd,
    /// This verifier stops before that.
    CutOff,
}

/// After the end, replicas still at work are waited for, to be scored with the others (rule 7).
async fn listen_for_late_ones(asking: &mut Asking) -> Listened {
    let tenure = Arc::clone(&asking.tenure);
    let stop = async {
        tenure.draining.cancelled().await;
        tokio::time::sleep(Duration::from_millis(tenure.config.drain_late_ms)).await;
    };
    tokio::pin!(stop);
    while let Some(due) = asking.group.next_due() {
        tokio::select! {
            arrived = asking.next_arrival() => asking.receive(arrived).await,
            () = sleep_until(due) => asking.expire_overdue().await,
            () = &mut stop => return Listened::CutOff,
        }
    }
    Listened::ToTheEnd
}

/// Gives back a job that no node was asked for: the row is queued again, and the notice acked (rule 4).
async fn release(tenure: &Tenure, job: JobId, held: &mut Held) -> Result<(), LedgerError> {
    let is_released = trials::release(tenure, &[job]).await;
    tenure.in_flight.remove(job);
    if is_released {
        tenure.counters.count(Counted::Released);
        held.ack().await;
    } else {
        held.nack().await;
    }
    Ok(())
}

/// Ends a job that no node was asked for.
async fn end_unasked(tenure: &Tenure, job: &TakenJob, held: &mut Held, end: End) -> Result<(), LedgerError> {
    let settled = settler::settle(tenure, bare_settlement(job, end)).await?;
    settler::publish_completion(tenure, &settled).await;
    held.ack().await;
    Ok(())
}

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

fn settlement(tenure: &Tenure, asking: &Asking, end: End) -> Settlement {
    tracing::debug!(verifier = %tenure.id, job = %asking.job.id, end = end.word(), "ends");
    Settlement { group: asking.record(), ..bare_settlement(&asking.job, end) }
}

/// Sleeps until a time of the wall clock, which deadlines are on.
async fn sleep_until(time: Timestamp) {
    tokio::time::sleep(time.since(Timestamp::now())).await;
}
