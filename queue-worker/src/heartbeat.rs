//! Tells verifiers that the node lives and how many of its slots are free: at a steady pace, and sooner when the node becomes
//! full or stops being full, which a verifier's draw depends on, or when the last heartbeat was not taken. It never sends
//! faster than a set gap. It knows nothing of assignments.

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

/// How often heartbeats are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Between two when nothing changes.
    steady: Duration,
    /// Between two at least.
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
    /// How many in a row, this one included, were not taken.
    unheard: u32,
}

/// Returns when the next heartbeat is due. One that was not taken is said again after the gap, then after twice as long
/// each time up to the steady pace: a verifier that comes back should not have to wait for its nodes.
fn due(pace: Pace, last: Said, free_now: u32) -> Instant {
    let gap = pace.gap.min(pace.steady);
    let turned = (last.free == 0) != (free_now == 0);
    let wait = match last.unheard {
        0 if turned => gap,
        0 => pace.steady,
        // Sixteen doublings are more than any steady pace is long.
        unheard => gap.saturating_mul(1 << (unheard - 1).min(16)).min(pace.steady),
    };
    last.at + wait
}

/// One node's heart.
#[derive(Debug)]
pub(crate) struct Heart {
    pub(crate) node: NodeId,
    pub(crate) queue: String,
    pub(crate) numeric_class: NumericClass,
    pub(crate) slots: u32,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) free_slots: watch::Receiver<u32>,
}

impl Heart {
    /// Beats until `draining` is cancelled, then says once that nothing is served any more.
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
                // The worker samples, above the engine: whatever the engine is, both of today's features are there.
                features: Features::default(),
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
                    // Their sender is gone and they can't change any more; the worker is going.
                    return draining.cancelled().await;
                }
            }
        }
    }

    /// Sends one and returns whether a verifier took it.
    async fn say(&self, models: Vec<ServedModel>, number: u64, pace: Pace) -> bool {
        let heartbeat = Heartbeat { models, queue: self.queue.clone(), speaks: Version::NEWEST };
        let mut message = heartbeat.to_message(format!("heartbeat.{}.{number}", self.node));
        // The next one says it again; a verifier that was away needs no history.
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
        // It was not taken: again soon, then ever later.
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
            numeric_class,
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
            draining.cancel();
            began.elapsed()
        };
        let ((), heard_after) = tokio::join!(beating, listening);
        assert!(heard_after < Duration::from_millis(config.heartbeat_ms) / 2, "{heard_after:?}");
    }
}
