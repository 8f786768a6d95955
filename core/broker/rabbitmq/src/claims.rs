//! Tracks what AMQP does not report, or does later than the seam promises: which exclusive queues are ours and
//! whether they have their consumer, which queues have a limit, and which consumers are still returning what they
//! held.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::terms::Refusal;
use infera_broker::{Published, Queue};

/// How long to wait for leaving consumers; longer than the time that they are given.
const LEAVING: Duration = Duration::from_secs(6);

/// An exclusive queue that this process declared.
struct Exclusive {
    /// The number of the connection that owns it.
    epoch: u64,
    taken: bool,
    fleeting: Option<Bounds>,
}

/// The most that waits in a fleeting queue, and again in this process until its consumer takes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) length_max: u64,
    pub(super) bytes_max: u64,
}

impl Bounds {
    /// Returns the bounds of a fleeting queue; none of any other.
    fn of(queue: &Queue) -> Option<Self> {
        let (length_max, bytes_max) = (queue.length_max?, queue.bytes_max?);
        queue.fleeting.then_some(Self { length_max, bytes_max })
    }
}

/// The exclusive queues of this process.
#[derive(Clone, Default)]
pub(super) struct Claims(Arc<Mutex<HashMap<String, Exclusive>>>);

impl Claims {
    /// Locks the map. No section under the lock can panic halfway, so a poisoned lock holds sound data.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Exclusive>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that an exclusive queue was declared on this connection.
    pub(super) fn declared(&self, queue: &Queue, epoch: u64) {
        let mut claims = self.lock();
        // The queues of earlier connections were deleted with them.
        claims.retain(|_, claim| claim.epoch >= epoch);
        let fleeting = Bounds::of(queue);
        claims.entry(queue.name.clone()).or_insert(Exclusive { epoch, taken: false, fleeting });
    }

    /// Records that the queue was deleted.
    pub(super) fn gone(&self, queue: &str) {
        self.lock().remove(queue);
    }

    /// Reserves an exclusive queue for one consumer; none if the queue is not one of ours.
    pub(super) fn take(&self, queue: &str, epoch: u64) -> Result<Option<Claim>, Refusal> {
        let mut claims = self.lock();
        let Some(claim) = claims.get_mut(queue).filter(|claim| claim.epoch == epoch) else { return Ok(None) };
        if claim.taken {
            return Err(Refusal::Taken);
        }
        claim.taken = true;
        let fleeting = claim.fleeting;
        Ok(Some(Claim { claims: self.clone(), queue: queue.to_owned(), epoch, fleeting }))
    }
}

/// The right to be an exclusive queue's consumer. The queue is deleted with it.
pub(super) struct Claim {
    claims: Claims,
    queue: String,
    epoch: u64,
    /// The bounds of a fleeting queue; none of any other.
    pub(super) fleeting: Option<Bounds>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = self.claims.lock();
        if claims.get(&self.queue).is_some_and(|claim| claim.epoch == self.epoch) {
            claims.remove(&self.queue);
        }
    }
}

/// The queues that this process declared with a limit. The broker does not say why it refuses a publish: a queue with
/// a limit is full, any other is stuck.
#[derive(Clone, Default)]
pub(super) struct Limits(Arc<Mutex<HashSet<String>>>);

impl Limits {
    /// Locks the set. No section under the lock can panic halfway, so a poisoned lock holds sound data.
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the queue was declared, with or without a limit.
    pub(super) fn declared(&self, queue: &str, is_limited: bool) {
        if is_limited {
            self.lock().insert(queue.to_owned());
        } else {
            self.lock().remove(queue);
        }
    }

    /// Returns what a refused publish to this queue means.
    pub(super) fn refusal(&self, queue: &str) -> Published {
        if self.lock().contains(queue) { Published::Full } else { Published::Refused }
    }
}

/// The number of consumers that are leaving.
#[derive(Clone)]
pub(super) struct Leaving(watch::Sender<u32>);

impl Default for Leaving {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Leaving {
    /// Counts one more, until the guard is dropped.
    pub(super) fn enter(&self) -> Leave {
        self.0.send_modify(|count| *count += 1);
        Leave(self.0.clone())
    }

    /// Waits until all consumers that are leaving now have left, so that the messages that they held wait in their
    /// queues again.
    pub(super) async fn left(&self) {
        let mut count = self.0.subscribe();
        if timeout(LEAVING, count.wait_for(|count| *count == 0)).await.is_err() {
            tracing::debug!("leaving consumers are slow; going on without waiting");
        }
    }
}

/// Counts one leaving consumer while it exists.
pub(super) struct Leave(watch::Sender<u32>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
