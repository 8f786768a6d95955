//! Holds which jobs are in this verifier's hands, and learns which of them were ended elsewhere: a client's cancel is a
//! settlement in the ledger, read once a second in one batch, so that nodes don't work on in vain.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use infera_types::ids::JobId;
use infera_types::job::Settlement;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::tenure::Tenure;

/// How often the ledger is asked; also how old a job must be to be asked about, since most end before.
const ASK: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Flight {
    since: Instant,
    ended: Option<oneshot::Sender<Settlement>>,
}

/// Every job that has a task here and has not ended.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    flights: Mutex<HashMap<JobId, Flight>>,
}

impl InFlight {
    /// Whether the job is in hand.
    pub(crate) fn has(&self, job: JobId) -> bool {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&job)
    }

    /// How many are in hand.
    pub(crate) fn len(&self) -> usize {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The job is in hand until [`InFlight::remove`]; the receiver hears of its end if someone else ends it. None if
    /// it was in hand already.
    pub(crate) fn insert(&self, job: JobId) -> Option<oneshot::Receiver<Settlement>> {
        let (sender, receiver) = oneshot::channel();
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.contains_key(&job) {
            return None;
        }
        flights.insert(job, Flight { since: Instant::now(), ended: Some(sender) });
        Some(receiver)
    }

    /// The job left our hands.
    pub(crate) fn remove(&self, job: JobId) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
    }

    fn to_ask_about(&self, now: Instant) -> Vec<JobId> {
        let flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let old = flights.iter().filter(|(_, flight)| now.duration_since(flight.since) >= ASK);
        old.filter(|(_, flight)| flight.ended.is_some()).map(|(job, _)| *job).collect()
    }

    fn tell(&self, settlement: Settlement) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let flight = flights.get_mut(&settlement.job_id);
        if let Some(ended) = flight.and_then(|flight| flight.ended.take()) {
            // The receiver may be gone: the job's task has just settled by itself.
            let _ = ended.send(settlement);
        }
    }
}

/// Asks until the tenure ends.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let mut ticks = tokio::time::interval(ASK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let jobs = tenure.in_flight.to_ask_about(Instant::now());
        if jobs.is_empty() {
            continue;
        }
        tell_ends(tenure, &jobs).await;
    }
}

/// Where one end is damaged, each is asked about by itself, so that it keeps no other from being heard of.
async fn tell_ends(tenure: &Tenure, jobs: &[JobId]) {
    let reader = &tenure.seams.reader;
    let mut found = vec![reader.settlements(jobs).await];
    if jobs.len() > 1 && found.iter().any(|found| found.as_ref().is_err_and(|error| !error.may_pass())) {
        found.clear();
        for job in jobs {
            found.push(reader.settlements(&[*job]).await);
        }
    }
    for found in found {
        match found {
            Ok(ends) => ends.into_iter().for_each(|settlement| tenure.in_flight.tell(settlement)),
            Err(error) => tracing::warn!(%error, "ends of jobs in flight can't be read now"),
        }
    }
}
