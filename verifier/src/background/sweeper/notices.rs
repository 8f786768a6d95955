//! Publishes notices again, each queue's by themselves, within a time, and marks those that are confirmed.

use std::collections::BTreeMap;

use futures::future::join_all;
use futures::stream::StreamExt as _;
use infera_broker::{Address, Published, topology};
use infera_ledger::LedgerError;
use infera_telemetry::metrics::VERIFIER_HANDOUTS;
use infera_types::ids::{JobId, ModelName};
use infera_types::messages::{JobNotice, Version, Wire};
use infera_types::service::Lane;
use infera_types::time::Timestamp;
use metrics::counter;
use tokio::time::Instant;

use super::several::{AT_ONCE, several};
use super::signs::{JobsQueue, Signs};
use crate::tenure::Tenure;

/// Publishes notices again, each queue's by themselves, so that none waits for another queue. Those that the broker
/// doesn't confirm stay unconfirmed and come up again.
pub(super) async fn hand_out(
    tenure: &Tenure,
    jobs: Vec<(JobId, ModelName, Lane)>,
    signs: &mut Signs,
    until: Instant,
) -> Result<(), LedgerError> {
    let mut of_queues = BTreeMap::<JobsQueue, Vec<JobId>>::new();
    for (job, model, lane) in jobs {
        of_queues.entry((model, lane)).or_default().push(job);
    }
    let handing = of_queues.into_iter().map(|(queue, jobs)| async move {
        let mut last = None;
        let handed_out = hand_out_of(tenure, &queue, &jobs, until, &mut last).await;
        (queue, last, handed_out)
    });
    let mut handing = several(handing);
    let mut outcome = Ok::<usize, LedgerError>(0);
    while let Some((queue, last, handed_out)) = handing.next().await {
        match last {
            Some(Published::Refused) => drop(signs.stuck.insert(queue.clone())),
            Some(last) => {
                let ((model, lane), outcome) = (&queue, last.word());
                tracing::warn!(%model, lane = lane.word(), outcome, "not all jobs of a queue can be handed out again now")
            }
            None => {}
        }
        if matches!(handed_out, Ok(1..)) {
            signs.alive.insert(queue);
        }
        outcome = outcome.and_then(|jobs| Ok(jobs + handed_out?));
    }
    let jobs = outcome?;
    if jobs > 0 {
        tracing::info!(jobs, "jobs were handed out again");
    }
    Ok(())
}

/// Publishes one queue's notices: the first alone, since a queue that refuses it refuses the others too, then many at a time.
/// Stops at the first that is not confirmed, whose outcome is left in `last`. Returns how many were confirmed.
async fn hand_out_of(
    tenure: &Tenure,
    (model, lane): &JobsQueue,
    jobs: &[JobId],
    until: Instant,
    last: &mut Option<Published>,
) -> Result<usize, LedgerError> {
    let address = &Address::Queue(topology::jobs_in(model, *lane).name);
    let (first, others) = jobs.split_at(jobs.len().min(1));
    let mut handed_out = 0;
    for chunk in std::iter::once(first).chain(others.chunks(AT_ONCE)) {
        let publishing = chunk.iter().map(|job| async move {
            let message = JobNotice { job_id: *job, speaks: Version::NEWEST }.to_message(job.to_string());
            let published = tokio::time::timeout_at(until, tenure.seams.broker.publish(address, message));
            (*job, published.await.unwrap_or(Published::Unknown))
        });
        let mut confirmed = Vec::with_capacity(chunk.len());
        for (job, published) in join_all(publishing).await {
            if published == Published::Confirmed {
                confirmed.push(job);
            } else if *last != Some(Published::Refused) {
                *last = Some(published);
            }
        }
        if !confirmed.is_empty() {
            counter!(VERIFIER_HANDOUTS).increment(confirmed.len() as u64);
            tenure.seams.sweeping.handed_out(&confirmed, Timestamp::now()).await?;
            handed_out += confirmed.len();
        }
        if last.is_some() {
            break;
        }
    }
    Ok(handed_out)
}
