//! Decides whether this gateway can take work, for both the public `/readyz` and the operators' one. A gateway
//! without nodes is ready if nodes may still come in from outside, because accepted jobs wait for them; it isn't if
//! no node can come.

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

/// How long a part may take to answer. A slower one counts as failing.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// How long the answers of ledger and broker are shared. Anyone may ask for the readiness, and each look costs a
/// statement in the ledger and a channel at the broker.
const TTL: Duration = Duration::from_secs(1);

/// The parts that serving needs.
#[derive(Debug)]
pub(crate) struct Parts {
    /// This gateway's id, from which its queue of completions is named.
    pub(crate) gateway: GatewayId,
    /// The ledger's part that stores jobs.
    pub(crate) intake: Arc<dyn JobIntake>,
    /// The ledger's part that reads jobs.
    pub(crate) reader: Arc<dyn JobReader>,
    /// The broker, which has the queue of completions.
    pub(crate) broker: Arc<dyn Broker>,
    /// The catalogue, which shows whether models and epoch were read.
    pub(crate) catalogue: Arc<Catalogue>,
    /// The capacity, which shows whether there are nodes.
    pub(crate) capacity: Arc<Capacity>,
    /// The outbox, which shows whether there is a place for another notice.
    pub(crate) outbox: Outbox,
    /// Whether completions are being consumed.
    pub(crate) completions_ready: Arc<AtomicBool>,
    /// Whether nodes may come in from outside.
    pub(crate) admits_nodes: bool,
    /// Whether the network's nodes and verifier run in this process.
    pub(crate) is_one_process: bool,
    /// The signal that a shutdown has begun.
    pub(crate) stop: Shutdown,
}

/// The latest answers of ledger and broker.
#[derive(Clone, Copy, Debug)]
struct Answers {
    ledger: bool,
    commits: bool,
    completions: bool,
}

/// Checks the parts that serving needs. It keeps the latest answers of ledger and broker; callers that come during a
/// check wait for its result and share it.
#[derive(Debug)]
pub(crate) struct Probe {
    parts: Parts,
    last: tokio::sync::Mutex<Option<(Instant, Answers)>>,
}

impl Probe {
    /// Makes a probe that has checked nothing yet.
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts, last: tokio::sync::Mutex::default() }
    }

    /// Returns whether this gateway is ready now.
    pub(crate) async fn readiness(&self) -> Readiness {
        decide(self.look().await)
    }

    /// Asks ledger and broker at the same time, unless they were asked within [`TTL`]. The gateway's own state is
    /// always current.
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
            // Before a verifier has told anything, other machines' nodes may be there; those of this process are still starting.
            nodes: parts.capacity.has_nodes(Instant::now()).unwrap_or(!parts.is_one_process),
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

/// Returns whether the ledger can be read, by asking for a job that can't exist.
async fn ledger_answers(reader: &dyn JobReader) -> bool {
    let asked = [JobId::from_bytes([0; 16])];
    matches!(tokio::time::timeout(ANSWERS_WITHIN, reader.settlements(&asked)).await, Ok(Ok(_)))
}

/// Returns whether jobs can be stored, as far as the last commit shows.
async fn commits_come_through(intake: &dyn JobIntake) -> bool {
    matches!(tokio::time::timeout(ANSWERS_WITHIN, intake.commits_come_through()).await, Ok(Ok(())))
}

/// Returns whether the queue of completions exists.
async fn completions_flow(broker: &dyn Broker, gateway: &GatewayId) -> bool {
    let queue = topology::completions(gateway);
    matches!(tokio::time::timeout(ANSWERS_WITHIN, broker.depth(&queue.name)).await, Ok(Ok(Some(_))))
}

/// The state that one look found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    /// Whether the ledger answered.
    pub(crate) ledger: bool,
    /// Whether the last commit succeeded; it fails if a disk is full.
    pub(crate) commits: bool,
    /// Whether the catalogue and an epoch were read.
    pub(crate) catalogue: bool,
    /// Whether no shutdown has begun.
    pub(crate) accepting: bool,
    /// Whether the queue of completions exists and is consumed, which shows that the broker works in both directions.
    pub(crate) completions: bool,
    /// The number of places taken in the outbox.
    pub(crate) outbox: usize,
    /// The number of places in the outbox.
    pub(crate) outbox_max: usize,
    /// Whether a live node serves a model, as far as verifiers say.
    pub(crate) nodes: bool,
    /// Whether nodes may come in from outside.
    pub(crate) admits_nodes: bool,
}

/// Decides whether a gateway in this state is ready. Without the broker, jobs are still accepted, their ends are read
/// from the ledger, and notices wait. Once the outbox is full, jobs are refused here, and requests had better go to
/// another gateway.
#[must_use]
pub(crate) fn decide(seen: Snapshot) -> Readiness {
    // Accepted jobs wait for nodes. If no node can ever come, waiting is useless.
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
