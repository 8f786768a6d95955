//! Tells verifiers that the node is alive, which models it serves, and how many slots each has free. Heartbeats come at a steady
//! pace. One comes sooner if the last was not taken, and when a model comes, goes, becomes full or stops being full, because a
//! verifier's draw depends on it. There is always a minimum gap between two. It knows nothing of assignments.

use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Broker, Published, topology};
use infera_types::ids::{Digest, NodeId};
use infera_types::messages::{Heartbeat, ServedModel, Version, Wire as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::capacity::Capacity;
use crate::config::Config;

/// The pace of heartbeats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The time between two heartbeats when nothing changes.
    steady: Duration,
    /// The shortest time between two heartbeats.
    gap: Duration,
}

impl Pace {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            steady: Duration::from_millis(config.heartbeat_ms),
            gap: Duration::from_millis(config.heartbeat_gap_ms),
        }
    }
}

/// What a draw depends on: the models, and whether each has no slot free.
type Fullness = Vec<(Digest, bool)>;

fn fullness(models: &[ServedModel]) -> Fullness {
    models.iter().map(|model| (model.numeric_class.model_digest, model.free_slots == 0)).collect()
}

/// The last heartbeat.
#[derive(Clone, Debug)]
struct Said {
    at: Instant,
    fullness: Fullness,
    /// How many heartbeats in a row, the last included, no verifier took.
    unheard: u32,
}

/// Returns when the next heartbeat is due. If one was not taken, the next comes after the gap, and then after a time
/// that doubles up to the steady pace: a verifier that comes back should not have to wait long for its nodes.
fn due(pace: Pace, last: &Said, now: &[(Digest, bool)]) -> Instant {
    let gap = pace.gap.min(pace.steady);
    let wait = match last.unheard {
        0 if last.fullness != now => gap,
        0 => pace.steady,
        // Sixteen doublings exceed any steady pace.
        unheard => gap.saturating_mul(1 << (unheard - 1).min(16)).min(pace.steady),
    };
    last.at + wait
}

/// Sends the heartbeats of one node.
#[derive(Debug)]
pub(crate) struct Heart {
    pub(crate) node: NodeId,
    pub(crate) queue: String,
    pub(crate) machine: Option<String>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) capacity: Arc<Capacity>,
}

impl Heart {
    /// Sends heartbeats until `draining` is cancelled, and then a last one that says that nothing is served any more.
    pub(crate) async fn beat(self, pace: Pace, draining: &CancellationToken) {
        let mut number: u64 = 0;
        let mut unheard = 0_u32;
        while !draining.is_cancelled() {
            let models = self.capacity.served();
            let fullness = fullness(&models);
            let is_heard = self.say(models, number, pace).await;
            number += 1;
            unheard = if is_heard { 0 } else { unheard.saturating_add(1) };
            self.wait(pace, &Said { at: Instant::now(), fullness, unheard }, draining).await;
        }
        self.say(Vec::new(), number, pace).await;
    }

    async fn wait(&self, pace: Pace, last: &Said, draining: &CancellationToken) {
        let mut changes = self.capacity.free_slots();
        loop {
            changes.mark_unchanged();
            let due = due(pace, last, &fullness(&self.capacity.served()));
            tokio::select! {
                () = tokio::time::sleep_until(due) => return,
                () = draining.cancelled() => return,
                // The sender is this heart's too, so it can't be gone.
                _ = changes.changed() => {}
            }
        }
    }

    /// Sends one heartbeat, and returns whether a verifier took it.
    async fn say(&self, models: Vec<ServedModel>, number: u64, pace: Pace) -> bool {
        let (queue, machine) = (self.queue.clone(), self.machine.clone());
        let heartbeat = Heartbeat { models, queue, machine, speaks: Version::NEWEST };
        let mut message = heartbeat.to_message(format!("heartbeat.{}.{number}", self.node));
        // The next heartbeat replaces this one, and a verifier that was away needs no older ones.
        message.ttl_ms = u64::try_from(pace.steady.as_millis()).ok();
        let outcome = self.broker.publish(&topology::heartbeat_of(&self.node), message).await;
        if outcome != Published::Confirmed {
            let outcome = outcome.word();
            tracing::debug!(node = %self.node, outcome, "no verifier took the heartbeat");
        }
        outcome == Published::Confirmed
    }
}

#[cfg(test)]
mod tests {
    use infera_broker::memory::MemoryBroker;
    use infera_types::ids::VerifierId;

    use super::*;
    use crate::capacity::tests::model;

    #[tokio::test]
    async fn it_is_due_sooner_only_when_a_model_comes_goes_fills_up_or_has_room_again() {
        let pace = Pace { steady: Duration::from_secs(10), gap: Duration::from_millis(500) };
        let at = Instant::now();
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let wait = |pace, said: &[(Digest, bool)], unheard, now: &[(Digest, bool)]| {
            (due(pace, &Said { at, fullness: said.to_vec(), unheard }, now) - at).as_millis()
        };
        let free = [(one, false), (two, false)];
        let cases: [(&[(Digest, bool)], u128); 5] = [
            (&free, 10_000),
            (&[(one, true), (two, false)], 500),
            (&[(one, false), (two, true)], 500),
            (&[(one, false)], 500),
            (&[], 500),
        ];
        for (now, due_ms) in cases {
            assert_eq!(wait(pace, &free, 0, now), due_ms, "{now:?}");
            assert_eq!(wait(pace, now, 0, &free), due_ms, "{now:?}");
        }
        let hasty = Pace { steady: Duration::from_millis(100), ..pace };
        assert_eq!(wait(hasty, &free, 0, &[]), 100);
        // The heartbeat was not taken: the next one comes soon, and each later one after a longer wait.
        for (unheard, due_ms) in
            [(1, 500), (2, 1_000), (3, 2_000), (5, 8_000), (6, 10_000), (u32::MAX, 10_000)]
        {
            assert_eq!(wait(pace, &free, unheard, &free), due_ms, "{unheard} unheard");
        }
        assert_eq!(wait(hasty, &free, 1, &free), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_that_nobody_took_is_said_again_soon() {
        let broker = MemoryBroker::new();
        let capacity = Arc::new(Capacity::default());
        capacity.open(model("model", 4));
        let heart = Heart {
            node: NodeId::fresh(),
            queue: "node.n.x".to_owned(),
            machine: Some("here".to_owned()),
            broker: Arc::clone(&broker) as _,
            capacity,
        };
        let (config, draining) = (Config::default(), CancellationToken::new());
        let began = Instant::now();
        let beating = heart.beat(Pace::of(&config), &draining);
        let listening = async {
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            let queue = topology::replicas(&VerifierId::fresh());
            broker.declare(&queue).await.unwrap();
            let mut consumer = broker.consume(&queue.name, 9).await.unwrap();
            let heard = consumer.next().await.unwrap();
            assert_eq!(heard.message.kind, Heartbeat::KIND);
            let machine = Heartbeat::from_message(&heard.message).unwrap().machine;
            assert_eq!(machine.as_deref(), Some("here"));
            draining.cancel();
            began.elapsed()
        };
        let ((), heard_after) = tokio::join!(beating, listening);
        assert!(heard_after < Duration::from_millis(config.heartbeat_ms) / 2, "{heard_after:?}");
    }
}
