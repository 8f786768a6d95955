//! Whether this gateway can take work: what is looked at, and what that comes to. The public `/readyz` and the
//! operators' are both this. Jobs can be accepted without any node, and wait for one; where none can come, that is not ready.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use infera_broker::topology;
use infera_telemetry::readiness::{Condition, Readiness};
use infera_types::ids::JobId;

use crate::state::State;

/// A part that takes longer to answer doesn't answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// How long the answers of others are shared: anybody may ask whether we are ready, and to ask them each time would be a
/// statement and a channel at the broker.
const TTL: Duration = Duration::from_secs(1);

/// What others answered.
#[derive(Clone, Copy, Debug)]
struct Answers {
    ledger: bool,
    commits: bool,
    completions: bool,
}

/// Holds what others answered last, and when. A caller that comes while they are asked waits for that and shares it.
#[derive(Debug, Default)]
pub struct Looks(tokio::sync::Mutex<Option<(Instant, Answers)>>);

impl Looks {
    async fn share(&self, state: &State) -> Answers {
        let mut last = self.0.lock().await;
        match *last {
            Some((since, answers)) if since.elapsed() < TTL => answers,
            _ => {
                let (ledger, commits, completions) =
                    tokio::join!(ledger_answers(state), commits_come_through(state), completions_flow(state));
                let answers = Answers { ledger, commits, completions };
                *last = Some((Instant::now(), answers));
                answers
            }
        }
    }
}

/// What was seen in one look.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// The ledger answered.
    pub ledger: bool,
    /// The last commit came through: no disk is full.
    pub commits: bool,
    /// The catalogue and an epoch were read.
    pub catalogue: bool,
    /// No shutdown has begun.
    pub accepting: bool,
    /// The completions' queue is there and consumed: the broker works both ways.
    pub completions: bool,
    /// Places taken in the outbox.
    pub outbox: usize,
    /// How many there are.
    pub outbox_max: usize,
    /// A live node serves a model, as far as verifiers say.
    pub nodes: bool,
    /// Nodes can come from outside.
    pub admits_nodes: bool,
}

/// What a look comes to. Without the broker jobs are accepted all the same, ends are read from the ledger and notices
/// wait, until the outbox is full: then jobs are refused here, and another gateway is better.
#[must_use]
pub fn decide(seen: Snapshot) -> Readiness {
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

/// Looks: asks ledger and broker, both at once, unless they were asked just now. What is our own is as it is now.
pub async fn look(state: &State) -> Snapshot {
    let Answers { ledger, commits, completions } = state.looks.share(state).await;
    Snapshot {
        ledger,
        commits,
        completions: completions && state.completions_ready.load(Ordering::Relaxed),
        catalogue: state.catalogue.epoch().is_some(),
        accepting: !state.stop.is_cancelled(),
        outbox: state.outbox.len(),
        outbox_max: state.outbox.max(),
        nodes: state.capacity.has_nodes(Instant::now()) != Some(false),
        admits_nodes: state.admission.get().is_some(),
    }
}

/// Whether the ledger can be read: by asking for a job that can't be there.
async fn ledger_answers(state: &State) -> bool {
    let nobody = [JobId::from_bytes([0; 16])];
    let asked = state.seams.reader.settlements(&nobody);
    matches!(tokio::time::timeout(ANSWERS_WITHIN, asked).await, Ok(Ok(_)))
}

/// Whether jobs can be stored, as far as the last commit tells.
async fn commits_come_through(state: &State) -> bool {
    let asked = state.seams.intake.commits_come_through();
    matches!(tokio::time::timeout(ANSWERS_WITHIN, asked).await, Ok(Ok(())))
}

/// Whether the queue of completions is there.
async fn completions_flow(state: &State) -> bool {
    let queue = topology::completions(&state.gateway);
    let asked = state.seams.broker.depth(&queue.name);
    matches!(tokio::time::timeout(ANSWERS_WITHIN, asked).await, Ok(Ok(Some(_))))
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
