//! The clients that wait for a job's end, in a bounded map by job. Ends arrive as completions, which the broker may
//! lose, so all waiting jobs are also looked up in the ledger once a second, in batches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use infera_ledger::{JobReader, LedgerError};
use infera_types::ids::JobId;
use infera_types::job::Settlement;
use infera_types::shutdown::Shutdown;
use tokio::sync::oneshot;

/// How often the ledger is asked about all jobs that clients wait for. A lost completion delays its client by up to
/// this time.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// The largest number of ids in one statement. They take some kB.
const BATCH_MAX: usize = 1_000;

/// The clients that wait, by their jobs.
#[derive(Debug)]
pub struct Waiters {
    max: usize,
    waiting: Mutex<Waiting>,
}

/// The waiting clients. Several may wait for one job: the one that made it, and others that follow it.
#[derive(Debug, Default)]
struct Waiting {
    clients: usize,
    /// The number of the next client, which distinguishes those of one job.
    next: u64,
    by_job: HashMap<JobId, Vec<(u64, oneshot::Sender<Found>)>>,
}

/// The error of a job that has ended, and of whose end the stored record is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored end of the job is damaged")]
pub struct Damaged;

/// What a waiting client is told.
type Found = Result<Settlement, Damaged>;

/// One client's wait. Dropping it ends the wait.
#[derive(Debug)]
pub struct Wait {
    job: JobId,
    number: u64,
    waiters: Arc<Waiters>,
    end: oneshot::Receiver<Found>,
}

impl Waiters {
    /// Makes room for `max` waiting clients.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, waiting: Mutex::default() })
    }

    /// Begins to wait for a job: before it is accepted, or before its state is read, so that its end can't come
    /// earlier. Returns none if there is no room.
    #[must_use]
    pub fn begin(self: &Arc<Self>, job: JobId) -> Option<Wait> {
        let mut waiting = self.lock();
        if waiting.clients >= self.max {
            return None;
        }
        let (sender, end) = oneshot::channel();
        let number = waiting.next;
        waiting.next += 1;
        waiting.clients += 1;
        waiting.by_job.entry(job).or_default().push((number, sender));
        Some(Wait { job, number, waiters: Arc::clone(self), end })
    }

    /// Tells the clients that wait for a job of its end. Often there is no such client any more, or it was told
    /// before.
    pub fn complete(&self, settlement: Settlement) {
        self.tell(settlement.job_id, Ok(settlement));
    }

    fn tell(&self, job: JobId, found: Found) {
        let mut senders = {
            let mut waiting = self.lock();
            let senders = waiting.by_job.remove(&job).unwrap_or_default();
            waiting.clients -= senders.len();
            senders
        };
        // A client may have gone in this very moment. Its job has ended nevertheless.
        if let Some((_, last)) = senders.pop() {
            for (_, sender) in senders {
                let _ = sender.send(found.clone());
            }
            let _ = last.send(found);
        }
    }

    /// Returns the number of waiting clients.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().clients
    }

    /// Returns whether no client waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the ledger once about all jobs that clients wait for. If an end in a batch is damaged, each job of the
    /// batch is read by itself, so that the damaged one holds up none of the others.
    ///
    /// # Errors
    /// The ledger's error, if a retry may help.
    pub async fn poll(&self, reader: &dyn JobReader) -> Result<(), LedgerError> {
        let ids: Vec<JobId> = self.lock().by_job.keys().copied().collect();
        for batch in ids.chunks(BATCH_MAX) {
            match reader.settlements(batch).await {
                Ok(settlements) => settlements.into_iter().for_each(|settlement| self.complete(settlement)),
                Err(error) if error.may_pass() => return Err(error),
                Err(_) => self.poll_each(reader, batch).await?,
            }
        }
        Ok(())
    }

    async fn poll_each(&self, reader: &dyn JobReader, jobs: &[JobId]) -> Result<(), LedgerError> {
        for job in jobs {
            match reader.settlements(&[*job]).await {
                Ok(settlements) => settlements.into_iter().for_each(|settlement| self.complete(settlement)),
                Err(error) if error.may_pass() => return Err(error),
                Err(error) => {
                    tracing::error!(%job, %error, "a job's end can't be read; its client is told that it is damaged");
                    self.tell(*job, Err(Damaged));
                }
            }
        }
        Ok(())
    }

    /// Polls until `stop`.
    pub async fn run(self: Arc<Self>, reader: Arc<dyn JobReader>, stop: Shutdown) {
        let mut ticks = tokio::time::interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if !self.is_empty()
                && let Err(error) = self.poll(&*reader).await
            {
                tracing::warn!(%error, "the ledger could not be asked about waiting jobs; trying again in a second");
            }
        }
    }
}

impl Wait {
    /// Waits for the job's end. The wait has no time limit of its own; the client's limit ends it.
    ///
    /// # Errors
    /// [`Damaged`].
    pub async fn end(&mut self) -> Result<Settlement, Damaged> {
        match (&mut self.end).await {
            Ok(found) => found,
            // The sender is kept until the end is told or this wait is dropped.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        let Some(clients) = waiting.by_job.get_mut(&self.job) else { return };
        let before = clients.len();
        clients.retain(|(number, _)| *number != self.number);
        let (gone, is_last) = (before - clients.len(), clients.is_empty());
        if is_last {
            waiting.by_job.remove(&self.job);
        }
        waiting.clients -= gone;
    }
}

#[cfg(test)]
mod tests {
    use infera_types::ids::{AccountId, GatewayId, ModelName};
    use infera_types::job::End;
    use infera_types::time::Timestamp;

    use super::*;

    fn settlement(job_id: JobId) -> Settlement {
        Settlement {
            job_id,
            account: AccountId::new("a"),
            model: ModelName::new("m"),
            gateway: GatewayId::new("g"),
            end: End::Expired,
            group: None,
            settled_ms: Timestamp::default(),
        }
    }

    #[tokio::test]
    async fn an_end_reaches_its_waiter_once_and_the_map_is_empty_again() {
        let waiters = Waiters::new(2);
        let (one, two) = (JobId::new(), JobId::new());
        let mut wait = waiters.begin(one).unwrap();
        let gone = waiters.begin(two).unwrap();
        assert!(waiters.begin(JobId::new()).is_none(), "full");
        drop(gone);
        waiters.complete(settlement(one));
        waiters.complete(settlement(one));
        waiters.complete(settlement(two));
        assert_eq!(wait.end().await.map(|end| end.job_id), Ok(one));
        drop(wait);
        assert!(waiters.is_empty());
    }

    #[tokio::test]
    async fn several_clients_may_wait_for_one_job() {
        let waiters = Waiters::new(3);
        let job = JobId::new();
        let mut waits: Vec<Wait> = (0..3).filter_map(|_| waiters.begin(job)).collect();
        assert!(waiters.begin(job).is_none(), "each takes a place");
        drop(waits.remove(1));
        assert_eq!(waiters.len(), 2);
        waiters.complete(settlement(job));
        for wait in &mut waits {
            assert_eq!(wait.end().await.map(|end| end.job_id), Ok(job));
        }
        assert!(waiters.is_empty(), "those that were told wait no more");
        let again = waiters.begin(job);
        drop(waits);
        assert_eq!(waiters.len(), 1, "a wait that is over takes away no later one");
        drop(again);
        assert!(waiters.is_empty());
    }
}
