//! Says that the node lives and how many of its slots are free: at a steady pace, and sooner when the node becomes full
//! or stops being full, which is what a verifier's draw turns on. Never faster than a set gap.

use std::sync::Arc;
use std::time::Duration;

use infera_core::broker::{Broker, Published, topology};
use infera_core::ids::NodeId;
use infera_core::messages::{Heartbeat, NumericClass, ServedModel, Wire as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// What is said when.
#[derive(Clone, Copy, Debug)]
struct Pace {
    steady: Duration,
    gap: Duration,
}

/// When the next heartbeat is due, given when the last one was said and with how many free slots.
fn due(pace: Pace, last: Instant, said_free: u32, free_now: u32) -> Instant {
    let turned = (said_free == 0) != (free_now == 0);
    last + if turned { pace.gap.min(pace.steady) } else { pace.steady }
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
    pub(crate) async fn beat(mut self, config: &Config, draining: &CancellationToken) {
        let pace = Pace {
            steady: Duration::from_millis(config.heartbeat_ms),
            gap: Duration::from_millis(config.heartbeat_gap_ms),
        };
        let mut said: u64 = 0;
        while !draining.is_cancelled() {
            let free = *self.free_slots.borrow_and_update();
            let model = ServedModel {
                numeric_class: self.numeric_class.clone(),
                slots: self.slots,
                free_slots: free,
            };
            self.say(vec![model], said, pace).await;
            said += 1;
            self.wait(pace, Instant::now(), free, draining).await;
        }
        self.say(Vec::new(), said, pace).await;
    }

    async fn wait(&mut self, pace: Pace, last: Instant, said_free: u32, draining: &CancellationToken) {
        loop {
            let due = due(pace, last, said_free, *self.free_slots.borrow_and_update());
            tokio::select! {
                () = tokio::time::sleep_until(due) => return,
                () = draining.cancelled() => return,
                changed = self.free_slots.changed() => if changed.is_err() {
                    // Nobody can change them any more; the worker is going.
                    return draining.cancelled().await;
                }
            }
        }
    }

    async fn say(&self, models: Vec<ServedModel>, number: u64, pace: Pace) {
        let heartbeat = Heartbeat { models, queue: self.queue.clone() };
        let mut message = heartbeat.to_message(format!("heartbeat.{}.{number}", self.node));
        // The next one says it anew; a verifier that was away needs no history.
        message.ttl_ms = u64::try_from(pace.steady.as_millis()).ok();
        let outcome = self.broker.publish(&topology::heartbeat_of(&self.node), message).await;
        if outcome != Published::Confirmed {
            tracing::debug!(node = %self.node, ?outcome, "nobody took the heartbeat");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_due_sooner_only_when_the_node_becomes_full_or_stops_being_full() {
        let pace = Pace { steady: Duration::from_secs(10), gap: Duration::from_millis(500) };
        let last = Instant::now();
        let cases =
            [(4, 4, 10_000), (4, 1, 10_000), (1, 0, 500), (0, 0, 10_000), (0, 3, 500), (3, 9, 10_000)];
        for (said, now, due_ms) in cases {
            assert_eq!((due(pace, last, said, now) - last).as_millis(), due_ms, "{said} -> {now}");
        }
        let hasty = Pace { steady: Duration::from_millis(100), ..pace };
        assert_eq!(due(hasty, last, 0, 1) - last, Duration::from_millis(100));
    }
}
