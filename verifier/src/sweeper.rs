//! Finds what was left lying (rule 3): notices that the broker never confirmed or has lost, jobs of dead owners, jobs
//! past their deadline, and groups that nobody is alive to close. One verifier at a time, under a shared lease.
//! Everything else that waits is waiting, not lost.

use std::sync::Arc;
use std::time::Duration;

use infera_core::broker::{Address, Published, topology};
use infera_core::ids::{JobId, ModelName};
use infera_core::job::{End, Settlement};
use infera_core::ledger::{LedgerError, OverdueJob, SweepQuestion};
use infera_core::messages::{JobNotice, Wire};
use infera_core::telemetry::metrics::{VERIFIER_HANDOUTS, VERIFIER_QUEUE, VERIFIER_SWEEPS};
use infera_core::time::Timestamp;
use metrics::{counter, gauge};

use crate::tenure::Tenure;
use crate::{scorer, settler};

/// The shared lease's name.
const LEASE: &str = "sweeper";

/// Sweeps until the tenure ends.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let mut ticks = tokio::time::interval(Duration::from_millis(tenure.config.sweep_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = match sweep(tenure).await {
            Ok(true) => "done",
            Ok(false) => "elsewhere",
            Err(error) => {
                tracing::warn!(%error, "nothing can be swept now");
                "failed"
            }
        };
        counter!(VERIFIER_SWEEPS, "outcome" => outcome).increment(1);
    }
}

/// One look, if the lease is ours. Whether it was.
async fn sweep(tenure: &Arc<Tenure>) -> Result<bool, LedgerError> {
    let sweeping = &tenure.seams.sweeping;
    let now = Timestamp::now();
    let ttl = Duration::from_millis(tenure.config.shared_lease_ms);
    if !sweeping.lease(LEASE, &tenure.id, now, ttl).await? {
        return Ok(false);
    }
    let question = SweepQuestion {
        empty_queues: empty_queues(tenure).await,
        unconfirmed_for: Duration::from_millis(tenure.config.unconfirmed_ms),
        limit: tenure.config.sweep_limit,
    };
    let found = sweeping.sweep(&question, now).await?;
    hand_out(tenure, &found.hand_out).await?;
    for overdue in found.expired {
        let job = overdue.id;
        past_refused(job, expire(tenure, overdue).await)?;
    }
    for group in found.groups {
        past_refused(group.settlement.job_id, scorer::close_stored(tenure, &group).await)?;
    }
    Ok(true)
}

/// A row that can't be stored is reported and passed by, so that it doesn't keep its neighbours waiting for ever.
fn past_refused(job: JobId, outcome: Result<(), LedgerError>) -> Result<(), LedgerError> {
    match outcome {
        Err(LedgerError::Row(problem)) => {
            tracing::error!(%job, problem, "left behind by the sweeper; an operator must look at the ledger");
            Ok(())
        }
        other => other,
    }
}

/// Models whose queue holds nothing, or was just declared (again). A queue that can't be asked isn't empty.
async fn empty_queues(tenure: &Tenure) -> Vec<ModelName> {
    let mut empty = Vec::new();
    for model in tenure.book.page().catalogue.keys() {
        let queue = topology::jobs(model);
        let depth = match tenure.seams.broker.declare(&queue).await {
            Ok(()) => tenure.seams.broker.depth(&queue.name).await,
            Err(error) => Err(error),
        };
        match depth {
            Ok(Some(0) | None) => {
                show(model, 0);
                empty.push(model.clone());
            }
            Ok(Some(waiting)) => show(model, waiting),
            Err(error) => tracing::warn!(%model, %error, "the jobs' queue can't be asked"),
        }
    }
    empty
}

fn show(model: &ModelName, waiting: u64) {
    let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
    gauge!(VERIFIER_QUEUE, "model" => model.to_string()).set(waiting);
}

/// Publishes notices again. Those that the broker doesn't confirm stay unconfirmed and come up again.
async fn hand_out(tenure: &Tenure, jobs: &[(JobId, ModelName)]) -> Result<(), LedgerError> {
    let mut confirmed = Vec::with_capacity(jobs.len());
    for (job, model) in jobs {
        let message = JobNotice { job_id: *job }.to_message(job.to_string());
        let address = Address::Queue(topology::jobs(model).name);
        if tenure.seams.broker.publish(&address, message).await == Published::Confirmed {
            confirmed.push(*job);
        }
    }
    counter!(VERIFIER_HANDOUTS).increment(confirmed.len() as u64);
    if confirmed.is_empty() {
        return Ok(());
    }
    tracing::info!(jobs = confirmed.len(), "handed out again");
    tenure.seams.sweeping.handed_out(&confirmed, Timestamp::now()).await
}

/// Ends a job whose deadline passed. One that is in hand here ends by its own task, which knows its group.
async fn expire(tenure: &Tenure, overdue: OverdueJob) -> Result<(), LedgerError> {
    if tenure.in_flight.has(overdue.id) {
        return Ok(());
    }
    let settlement = Settlement {
        job_id: overdue.id,
        account: overdue.account,
        model: overdue.model,
        gateway: overdue.gateway,
        end: End::Expired,
        group: None,
        settled_ms: Timestamp::now(),
    };
    let settled = settler::settle(tenure, settlement).await?;
    settler::publish_completion(tenure, &settled).await;
    Ok(())
}
