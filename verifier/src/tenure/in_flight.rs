//! Holds the jobs in hand, and tells their tasks that they were ended elsewhere.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use infera_types::ids::JobId;
use infera_types::job::Settlement;
use tokio::sync::oneshot;
use tokio::time::Instant;

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
    /// Returns whether the job is in hand.
    pub(crate) fn has(&self, job: JobId) -> bool {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&job)
    }

    /// Returns how many jobs are in hand.
    pub(crate) fn len(&self) -> usize {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Puts a job in hand until [`InFlight::remove`]. The receiver is told of its end if it ends elsewhere; none if it
    /// was in hand already.
    pub(crate) fn insert(&self, job: JobId) -> Option<oneshot::Receiver<Settlement>> {
        let (sender, receiver) = oneshot::channel();
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.contains_key(&job) {
            return None;
        }
        flights.insert(job, Flight { since: Instant::now(), ended: Some(sender) });
        Some(receiver)
    }

    /// Takes a job out of hand.
    pub(crate) fn remove(&self, job: JobId) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
    }

    /// Returns the jobs that are in hand for `age_min` at least and haven't been told of an end.
    pub(crate) fn older_than(&self, age_min: Duration, now: Instant) -> Vec<JobId> {
        let flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let old = flights.iter().filter(|(_, flight)| now.duration_since(flight.since) >= age_min);
        old.filter(|(_, flight)| flight.ended.is_some()).map(|(job, _)| *job).collect()
    }

    /// Tells a job's task of the end that the job has elsewhere.
    pub(crate) fn tell(&self, settlement: Settlement) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let flight = flights.get_mut(&settlement.job_id);
        if let Some(ended) = flight.and_then(|flight| flight.ended.take()) {
            // The receiver may be gone: the job's task has just settled by itself.
            let _ = ended.send(settlement);
        }
    }
}
