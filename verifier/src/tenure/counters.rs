//! Counts of what happened, for metrics and tests. No decision depends on them.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Jobs taken.
    Taken,
    /// Jobs settled by this verifier, whatever their end.
    Settled,
    /// Jobs given back before a node was asked.
    Released,
    /// Assignments sent.
    Assigned,
    /// Replicas that came in for open assignments.
    Replica,
    /// Replicas and refusals for no open assignment.
    ReplicaUnknown,
    /// Replicas and refusals from another node than the assignment's.
    ReplicaImpostor,
    /// Replicas and refusals whose verifier was gone.
    ReplicaStray,
    /// Heartbeats from no proper node or with a foreign queue.
    HeartbeatRefused,
    /// Messages dropped because they weren't what their kind promises.
    MessageMalformed,
    /// Messages of unknown kinds or versions, parked.
    MessageParked,
    /// Messages of unknown kinds or versions that could not be parked, or not as fast as they came.
    MessageUnparked,
    /// Groups scored and closed.
    GroupClosed,
    /// Disputes opened.
    Dispute,
    /// Notices that the broker gave up because they came back too often.
    DeadLetter,
    /// Stuck queues of jobs that were deleted and declared again.
    QueueRepaired,
    /// Job tasks that panicked.
    Panic,
    /// Times that this verifier lost its lease.
    LeaseLost,
    /// Connections of nodes closed at the broker.
    ConnectionClosed,
}

/// How many kinds of [`Counted`] there are.
const COUNT: usize = Counted::ConnectionClosed as usize + 1;

/// The counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    counts: [AtomicU64; COUNT],
}

impl Counters {
    /// Counts one more.
    pub(crate) fn count(&self, what: Counted) {
        // The index is the variant's own number, below COUNT by its definition.
        if let Some(count) = self.counts.get(what as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one more, unless `holds`.
    pub(crate) fn count_unless(&self, holds: bool, what: Counted) {
        if !holds {
            self.count(what);
        }
    }

    /// Returns how many there were so far.
    #[must_use]
    pub fn get(&self, what: Counted) -> u64 {
        self.counts.get(what as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}
