//! Tells verifiers that the node is alive and how many of its slots are free. Heartbeats come at a steady pace. One
//! comes sooner if the last was not taken, and when the node becomes full or stops being full, because a verifier's
//! draw depends on it. There is always a minimum gap between two. It knows nothing of assignments.

use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Broker, Published, topology};
use infera_model::chat::RENDERING;
use infera_types::features::Features;
use infera_types::ids::NodeId;
use infera_types::{
    messages::{Heartbeat, ServedModel, Version, Wire as _},
    numbers::NumericClass,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

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

/// The last heartbeat.
#[derive(Clone, Copy, Debug)]
struct Said {
    at: Instant,
    free: u32,
    /// How many heartbeats in a row, the last included, no verifier took.
    unheard: u32,
}

/// Returns when the next heartbeat is due. If one was not taken, the next comes after the gap, and then after a time
/// that doubles up to the steady pace: a verifier that comes back should not have to wait long for its nodes.
fn due(pace: Pace, last: Said, free_now: u32) -> Instant {
    let gap = pace.gap.min(pace.steady);
    let turned = (last.free == 0) != (free_now == 0);
    let wait = match last.unheard {
        0 if turned => gap,
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
    pub(crate) numeric_class: NumericClass,
    pub(crate) features: Features,
    pub(crate) slots: u32,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) free_slots: watch::Receiver<u32>,
}

impl Heart {
    /// Sends heartbeats until `draining` is cancelled, and then a last one that says that nothing is served any more.
    pub(crate) async fn beat(mut self, pace: Pace, draining: &CancellationToken) {
        let mut number: u64 = 0;
        let mut unheard = 0_u32;
        while !draining.is_cancelled() {
            let free = *self.free_slots.borrow_and_update();
            let model = ServedModel {
                numeric_class: self.numeric_class.clone(),
                rendering: RENDERING,
                slots: self.slots,
                free_slots: free,
                features: self.features.clone(),
            };
            let is_heard = self.say(vec![model], number, pace).await;
            number += 1;
            unheard = if is_heard { 0 } else { unheard.saturating_add(1) };
            self.wait(pace, Said { at: Instant::now(), free, unheard }, draining).await;
        }
        self.say(Vec::new(), number, pace).await;
    }

    async fn wait(&mut self, pace: Pace, last: Said, draining: &CancellationToken) {
        loop {
            let due = due(pace, last, *self.free_slots.borrow_and_update());
            tokio::select! {
                () = tokio::time::sleep_until(due) => return,
                () = draining.cancelled() => return,
                changed = self.free_slots.changed() => if changed.is_err() {
                    // The sender of the free slots is gone, so they can't change any more: the worker is ending.
                    return draining.cancelled().await;
                }
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
    use infera_types::ids::{Digest, VerifierId};

    use super::*;

    #[tokio::test]
    async fn it_is_due_sooner_only_when_the_node_becomes_full_or_stops_being_full() {
        let pace = Pace { steady: Duration::from_secs(10), gap: Duration::from_millis(500) };
        let at = Instant::now();
        let wait = |pace, free, unheard, now| (due(pace, Said { at, free, unheard }, now) - at).as_millis();
        let cases =
            [(4, 4, 10_000), (4, 1, 10_000), (1, 0, 500), (0, 0, 10_000), (0, 3, 500), (3, 9, 10_000)];
        for (said, now, due_ms) in cases {
            assert_eq!(wait(pace, said, 0, now), due_ms, "{said} -> {now}");
        }
        let hasty = Pace { steady: Duration::from_millis(100), ..pace };
        assert_eq!(wait(hasty, 0, 0, 1), 100);
        // The heartbeat was not taken: the next one comes soon, and each later one after a longer wait.
        for (unheard, due_ms) in
            [(1, 500), (2, 1_000), (3, 2_000), (5, 8_000), (6, 10_000), (u32::MAX, 10_000)]
        {
            assert_eq!(wait(pace, 4, unheard, 4), due_ms, "{unheard} unheard");
        }
        assert_eq!(wait(hasty, 4, 1, 4), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_that_nobody_took_is_said_again_soon() {
        let broker = MemoryBroker::new();
        let (_slots, free_slots) = watch::channel(4);
        let node = NodeId::fresh();
        let numeric_class = NumericClass {
            model_digest: Digest::of(b"model"),
            provider: "stub".to_owned(),
            hardware: "any".to_owned(),
            runtime: "none".to_owned(),
            compute: "f32".to_owned(),
        };
        let heart = Heart {
            node,
            queue: "node.n.x".to_owned(),
            machine: Some("here".to_owned()),
            numeric_class,
            features: Features::default(),
            slots: 4,
            broker: Arc::clone(&broker) as _,
            free_slots,
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
