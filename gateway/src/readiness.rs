//! Whether this gateway can take work: what is looked at, and what that comes to. The public `/readyz` and the
//! operators' are both this. Jobs can be accepted without any node, and wait for one; where none can come, that is not ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use infera_broker::{Broker, topology};
use infera_ledger::{JobIntake, JobReader};
use infera_telemetry::readiness::{Condition, Readiness};
use infera_types::ids::{GatewayId, JobId};
use infera_types::shutdown::Shutdown;

use crate::network::{Capacity, Catalogue};
use crate::outbox::Outbox;

/// Bounds how long a part may take to answer; one that takes longer counts as one that doesn't.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// How long the answers of others are shared: anybody may ask whether we are ready, and to ask them each time would be a
/// statement and a channel at the broker.
const TTL: Duration = Duration::from_secs(1);

/// Holds the parts that serving needs.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Names this gateway, and with it its queue of completions.
    pub(crate) gateway: GatewayId,
    /// Stores jobs.
    pub(crate) intake: Arc<dyn JobIntake>,
    /// Reads jobs.
    pub(crate) reader: Arc<dyn JobReader>,
    /// Has the queue of completions.
    pub(crate) broker: Arc<dyn Broker>,
    /// Tells whether models and epoch were read.
    pub(crate) catalogue: Arc<Catalogue>,
    /// Tells whether there are nodes.
    pub(crate) capacity: Arc<Capacity>,
    /// Tells whether notices still find a place.
    pub(crate) outbox: Outbox,
    /// True while completions are being consumed.
    pub(crate) completions_ready: Arc<AtomicBool>,
    /// True if nodes can come from outside.
    pub(crate) admits_nodes: bool,
    /// Is cancelled when the shutdown begins.
    pub(crate) stop: Shutdown,
}

/// Holds what others answered.
#[derive(Clone, Copy, Debug)]
struct Answers {
    ledger: bool,
    commits: bool,
    completions: bool,
}

/// Asks the parts that serving needs. What others answered last is kept; a caller that comes while they are asked waits for
/// that and shares it.
#[derive(Debug)]
pub(crate) struct Probe {
    parts: Parts,
    last: tokio::sync::Mutex<Option<(Instant, Answers)>>,
}

impl Probe {
    /// Has asked nothing yet.
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts, last: tokio::sync::Mutex::default() }
    }

    /// Returns whether this gateway is ready now.
    pub(crate) async fn readiness(&self) -> Readiness {
        decide(self.look().await)
    }

    /// Asks ledger and broker, all at once, unless they were asked just now. What is our own is as it is now.
    async fn look(&self) -> Snapshot {
        let Answers { ledger, commits, completions } = self.answers().await;
        let parts = &self.parts;
        Snapshot {
            ledger,
            commits,
            completions: completions && parts.completions_ready.load(Ordering::Relaxed),
            catalogue: parts.catalogue.epoch().is_some(),
            accepting: !parts.stop.is_cancelled(),
            outbox: parts.outbox.len(),
            outbox_max: parts.outbox.max(),
            nodes: parts.capacity.has_nodes(Instant::now()) != Some(false),
            admits_nodes: parts.admits_nodes,
        }
    }

    async fn answers(&self) -> Answers {
        let mut last = self.last.lock().await;
        match *last {
            Some((since, answers)) if since.elapsed() < TTL => answers,
            _ => {
                let parts = &self.parts;
                let (ledger, commits, completions) = tokio::join!(
                    ledger_answers(&*parts.reader),
                    commits_come_through(&*parts.intake),
                    completions_flow(&*parts.broker, &parts.gateway)
                );
                let answers = Answers { ledger, commits, completions };
                *last = Some((Instant::now(), answers));
                answers
            }
        }
    }
}

/// Returns whether the ledger can be read, by asking for a job that can't be there.
async fn ledger_answers(reader: &dyn JobReader) -> bool {
    let asked = [JobId::from_bytes([0; 16])];
    matches!(tokio::time::timeout(ANSWERS_WITHIN, reader.settlements(&asked)).await, Ok(Ok(_)))
}

/// Returns whether jobs can be stored, as far as the last commit tells.
async fn commits_come_through(intake: &dyn JobIntake) -> bool {
    matches!(tokio::time::timeout(ANSWERS_WITHIN, intake.commits_come_through()).await, Ok(Ok(())))
}

/// Returns whether the queue of completions is there.
async fn completions_flow(broker: &dyn Broker, gateway: &GatewayId) -> bool {
    let queue = topology::completions(gateway);
    matches!(tokio::time::timeout(ANSWERS_WITHIN, broker.depth(&queue.name)).await, Ok(Ok(Some(_))))
}

/// Holds what was seen in one look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    /// The ledger answered.
    pub(crate) ledger: bool,
    /// The last commit came through: no disk is full.
    pub(crate) commits: bool,
    /// The catalogue and an epoch were read.
    pub(crate) catalogue: bool,
    /// No shutdown has begun.
    pub(crate) accepting: bool,
    /// The completions' queue is there and consumed: the broker works both ways.
    pub(crate) completions: bool,
    /// Places taken in the outbox.
    pub(crate) outbox: usize,
    /// How many there are.
    pub(crate) outbox_max: usize,
    /// A live node serves a model, as far as verifiers say.
    pub(crate) nodes: bool,
    /// Nodes can come from outside.
    pub(crate) admits_nodes: bool,
}

/// Decides what a look comes to. Without the broker jobs are accepted all the same, ends are read from the ledger and notices
/// wait, until the outbox is full: then jobs are refused here, and another gateway is better.
#[must_use]
pub(crate) fn decide(seen: Snapshot) -> Readiness {
    // What is accepted now waits for nodes; if there never will be any, it waits for nothing.
    let without_nodes = if seen.admits_nodes { Condition::Degraded } else { Condition::Failing };
    Readiness::new([
        ("ledger", Condition::of(seen.ledger, Condition::Failing)),
        ("commits", Condition::of(seen.commits, Condition::Failing)),
        ("completions", Condition::of(seen.completions, Condition::Degraded)),
        ("outbox", Condition::of(seen.outbox < seen.outbox_max, Condition::Failing)),
        ("catalogue", Condition::of(seen.catalogue, Condition::Failing)),
        ("accepting", Condition::of(seen.accepting, Condition::Failing)),
        ("nodes", Condition::of(seen.nodes, without_nodes)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_away_decides() {
        let well = Snapshot {
            ledger: true,
            commits: true,
            catalogue: true,
            accepting: true,
            completions: true,
            outbox: 0,
            outbox_max: 10,
            nodes: true,
            admits_nodes: true,
        };
        let cases: [(&str, Snapshot, bool, &[&str]); 11] = [
            ("all is well", well, true, &[]),
            (
                "broker away, room in the outbox",
                Snapshot { completions: false, outbox: 9, ..well },
                true,
                &["completions"],
            ),
            (
                "broker away, outbox full",
                Snapshot { completions: false, outbox: 10, ..well },
                false,
                &["completions"],
            ),
            ("outbox full though the broker is there", Snapshot { outbox: 10, ..well }, false, &[]),
            ("ledger away", Snapshot { ledger: false, ..well }, false, &[]),
            ("the disk is full", Snapshot { commits: false, ..well }, false, &[]),
            ("draining", Snapshot { accepting: false, ..well }, false, &[]),
            ("nothing read yet", Snapshot { catalogue: false, ..well }, false, &[]),
            ("almost full", Snapshot { outbox: 9, ..well }, true, &[]),
            ("no node yet", Snapshot { nodes: false, ..well }, true, &["nodes"]),
            ("no node ever", Snapshot { nodes: false, admits_nodes: false, ..well }, false, &[]),
        ];
        for (case, seen, ready, degraded) in cases {
            let readiness = decide(seen);
            assert_eq!((readiness.is_ready(), &readiness.degraded()[..]), (ready, degraded), "{case}");
        }
    }
}
