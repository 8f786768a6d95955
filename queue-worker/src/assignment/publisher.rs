//! Publishes answers and refusals to the verifier that asked. It decides nothing about jobs and never touches the
//! engine.
//!
//! What follows from each outcome of a publish:
//!
//! * `Confirmed`: the replica is delivered.
//! * `Unroutable`: the verifier is gone. The answer stays in the result cache for the job's next assignment, and is
//!   also published under `{n}.replica.any`, where any verifier can score it. That takes [`TRIES_MIN`] tries and no
//!   more, because no verifier waits for it. A refusal concerns no other verifier.
//! * `Full` (the queue has as many messages as it may, perhaps a stranger's), `Refused` or `Unknown`: the publish is
//!   tried again under the same message id, at growing intervals, until the assignment's budget is over (a later
//!   replica is worth nothing to the verifier that asked) or the worker must stop, but at least [`TRIES_MIN`] times.
//!   After that, the answer is only in the result cache and is counted as `unpublished`. The verifier sees a miss,
//!   and if it hands the job out to this node again, it gets the answer at once. If the worker stopped while it was
//!   trying, the assignment stays unsettled, for the next worker on this queue.

use std::sync::Arc;
use std::time::Duration;

use infera_broker::parking::lasting;
use infera_broker::{Address, Broker, Message, Published, topology};
use infera_telemetry::trace;
use infera_types::ids::NodeId;
use infera_types::messages::{Assignment, MESSAGE_SIZE_MAX_BYTES, Refusal, Wire as _};
use infera_types::retry::Backoff;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::admission::Refused;
use super::answer::Answer;
use crate::counts::Counts;

/// The least number of tries, even for an answer that is ready only just before its deadline.
const TRIES_MIN: u32 = 3;

/// The waits between tries: short enough that a broker's restart costs little of a budget, long enough that a full
/// queue can empty.
const BACKOFF: Backoff = Backoff::doubling(Duration::from_millis(100), Duration::from_secs(5));

/// The number of tries to publish a refusal. It only saves the verifier time, so more aren't worth it.
const REFUSAL_TRIES: u32 = 3;

/// The largest size of the sentence in a refusal, in bytes. A longer one is cut.
const DETAIL_MAX_BYTES: usize = 500;

/// Publishes the messages of one node.
#[derive(Debug)]
pub(crate) struct Publisher {
    node: NodeId,
    broker: Arc<dyn Broker>,
    counts: Arc<Counts>,
}

/// How long to keep trying.
struct Patience {
    tries_min: u32,
    until: Instant,
    stop: CancellationToken,
}

impl Publisher {
    pub(crate) const fn new(node: NodeId, broker: Arc<dyn Broker>, counts: Arc<Counts>) -> Self {
        Self { node, broker, counts }
    }

    /// Publishes the replica that answers `assignment`, and tries until `deadline` or `stop`. Returns false if it
    /// stopped before the broker had the replica; if the worker ends, the assignment must not be settled then.
    pub(crate) async fn answer(
        &self,
        assignment: &Assignment,
        answer: &Answer,
        deadline: Instant,
        stop: &CancellationToken,
    ) -> bool {
        let replica = answer.to_replica(assignment);
        let message = Message {
            trace: trace::current(),
            ..replica.to_message_in(assignment.speaks, assignment.id.to_string())
        };
        if message.body.len() > MESSAGE_SIZE_MAX_BYTES {
            let detail = format!(
                "the replica would take {} bytes, and a message may have {MESSAGE_SIZE_MAX_BYTES}: ask for fewer tokens or fewer \
                 log-probabilities of each",
                message.body.len()
            );
            self.refuse(assignment, &Refused::broken(detail)).await;
            return true;
        }
        let address = topology::replica_to(&self.node, &assignment.verifier);
        let patience = Patience { tries_min: TRIES_MIN, until: deadline, stop: stop.clone() };
        match self.publish(&address, &message, &patience).await {
            Published::Confirmed => self.counts.replicas.add_one(),
            Published::Unroutable => self.answer_any(assignment, message, stop).await,
            Published::Full | Published::Refused | Published::Unknown if stop.is_cancelled() => return false,
            outcome @ (Published::Full | Published::Refused | Published::Unknown) => {
                self.counts.unpublished.add_one();
                let (id, outcome) = (assignment.id, outcome.word());
                tracing::warn!(assignment = %id, outcome, "replica not published in time; kept in the cache");
            }
        }
        true
    }

    /// Offers the replica to any verifier, which may score it. No verifier waits for it, so the assignment is done
    /// whatever the outcome is.
    async fn answer_any(&self, assignment: &Assignment, message: Message, stop: &CancellationToken) {
        self.counts.ownerless.add_one();
        let patience = Patience { tries_min: TRIES_MIN, until: Instant::now(), stop: stop.clone() };
        let outcome = self.publish(&topology::replica_to_any(&self.node), &message, &patience).await;
        if outcome == Published::Confirmed {
            self.counts.replicas.add_one();
        }
        let outcome = outcome.word();
        tracing::info!(assignment = %assignment.id, outcome, "verifier gone; replica offered to any");
    }

    /// Gives `assignment` back to its verifier.
    pub(crate) async fn refuse(&self, assignment: &Assignment, refused: &Refused) {
        self.counts.refused.add_one();
        let mut detail = refused.detail.clone();
        detail.truncate(detail.floor_char_boundary(DETAIL_MAX_BYTES));
        let refusal = Refusal {
            assignment_id: assignment.id,
            job_id: assignment.job_id,
            reason: refused.reason,
            detail,
        };
        let message = refusal.to_message_in(assignment.speaks, assignment.id.to_string());
        let address = topology::refusal_to(&self.node, &assignment.verifier);
        let patience =
            Patience { tries_min: REFUSAL_TRIES, until: Instant::now(), stop: CancellationToken::new() };
        let outcome = self.publish(&address, &message, &patience).await;
        let (id, reason, outcome) = (assignment.id, refused.reason.word(), outcome.word());
        tracing::info!(assignment = %id, reason, detail = refusal.detail, outcome, "refused");
    }

    /// Parks a message that only a newer program can read. If parking fails, the message is lost, and the log says
    /// which one it was.
    pub(crate) async fn park(&self, message: &Message, why: &str) {
        self.counts.parked.add_one();
        let patience =
            Patience { tries_min: TRIES_MIN, until: Instant::now(), stop: CancellationToken::new() };
        // A parked message waits for an operator, even if the assignment's own time is short.
        match self.publish(&topology::parked_by(&self.node), &lasting(message), &patience).await {
            Published::Confirmed => tracing::warn!(id = message.id, why, "message parked"),
            outcome => {
                let outcome = outcome.word();
                tracing::error!(id = message.id, kind = message.kind, outcome, why, "message lost");
            }
        }
    }

    /// Tries until an outcome that another try wouldn't change, or until patience ends. Returns the last outcome.
    async fn publish(&self, address: &Address, message: &Message, patience: &Patience) -> Published {
        let mut tries = 0;
        loop {
            let outcome = self.broker.publish(address, message.clone()).await;
            tries += 1;
            let again = matches!(outcome, Published::Full | Published::Refused | Published::Unknown);
            let wait = BACKOFF.wait(tries);
            let in_time = tries < patience.tries_min || Instant::now() + wait < patience.until;
            if !again || !in_time || patience.stop.is_cancelled() {
                return outcome;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = patience.stop.cancelled() => return outcome,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_grow_apart_up_to_a_limit() {
        let waits: Vec<u128> = (1..=8).map(|tries| BACKOFF.wait(tries).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(BACKOFF.wait(u32::MAX), Duration::from_secs(5));
    }
}
