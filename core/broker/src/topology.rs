//! Which queues there are, what reaches them, and under which keys nodes speak. The only place that spells a queue
//! name or a routing key.

use super::{Address, Binding, Exchange, Queue};
use infera_types::ids::{GatewayId, ModelName, NodeId, VerifierId};

/// Jobs of one model, by id. Shared by all verifiers; survives. A notice that came back too often goes to the
/// [`dead_jobs`].
#[must_use]
pub fn jobs(model: &ModelName) -> Queue {
    Queue {
        name: format!("jobs.{model}"),
        bindings: Vec::new(),
        exclusive: false,
        replicated: true,
        length_max: None,
        bytes_max: None,
        idle_ms: None,
        dead_letters: Some(DEAD_JOBS.to_owned()),
    }
}

/// A model of this last word can't be: declaring its queue would be a mismatch.
const DEAD_JOBS: &str = "jobs.dead";

/// Notices of jobs of any model that were given out too often. The sweeper asks the ledger what became of each.
#[must_use]
pub fn dead_jobs() -> Queue {
    Queue {
        name: DEAD_JOBS.to_owned(),
        bindings: Vec::new(),
        exclusive: false,
        replicated: true,
        length_max: None,
        bytes_max: None,
        idle_ms: None,
        dead_letters: None,
    }
}

/// The topic exchange that nodes speak to, as permissions name it.
pub const NODES_EXCHANGE: &str = "infera.nodes";

/// What verifiers' summaries are delivered under. Nodes can't: their keys begin with their ids.
pub const CAPACITY_KEY: &str = "capacity";

/// One node's private queue. `suffix` is random and told only to the node.
#[must_use]
pub fn node(node: &NodeId, suffix: &str) -> Queue {
    /// A runner's short outage must not lose the queue; a node gone for longer asks for a new one.
    const IDLE_MS: u64 = 10 * 60 * 1000;
    Queue {
        name: format!("node.{node}.{suffix}"),
        bindings: Vec::new(),
        exclusive: false,
        replicated: false,
        length_max: None,
        bytes_max: None,
        idle_ms: Some(IDLE_MS),
        dead_letters: None,
    }
}

/// What strangers may have waiting in one queue, in bytes: 64 of the largest messages that a node can send, thousands
/// of a usual replica's size. Three such queues per verifier are far from any disk's alarm, which would stop every
/// publish of the cluster.
const STRANGERS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What nodes say to one verifier, every node's heartbeat, and every verifier's summary, by which each knows how many
/// share the work.
#[must_use]
pub fn replicas(verifier: &VerifierId) -> Queue {
    /// Three replicas of every job that a verifier may hold, and the heartbeats of 10,000 nodes while it stands still for
    /// five seconds. A bound beside that of bytes, because what a message has beside its body counts in none.
    const LENGTH_MAX: u64 = 10_000;
    let patterns =
        [format!("*.replica.{verifier}"), format!("*.refusal.{verifier}"), "*.heartbeat".to_owned()];
    let mut bindings = patterns.map(|pattern| Binding { exchange: Exchange::Nodes, pattern }).to_vec();
    bindings.push(Binding { exchange: Exchange::Network, pattern: CAPACITY_KEY.to_owned() });
    Queue {
        name: format!("replicas.{verifier}"),
        bindings,
        exclusive: true,
        replicated: false,
        length_max: Some(LENGTH_MAX),
        bytes_max: Some(STRANGERS_BYTES_MAX),
        idle_ms: None,
        dead_letters: None,
    }
}

/// Replicas whose verifier is gone; all verifiers share it.
#[must_use]
pub fn replicas_any() -> Queue {
    /// What a verifier that is gone had asked for: three replicas of each job that it may hold, and some.
    const LENGTH_MAX: u64 = 4_096;
    Queue {
        name: "replicas.any".to_owned(),
        bindings: vec![Binding { exchange: Exchange::Nodes, pattern: "*.replica.any".to_owned() }],
        exclusive: false,
        replicated: true,
        length_max: Some(LENGTH_MAX),
        bytes_max: Some(STRANGERS_BYTES_MAX),
        idle_ms: None,
        dead_letters: None,
    }
}

/// Ends of jobs that one gateway waits for, and every verifier's summary of capacity.
#[must_use]
pub fn completions(gateway: &GatewayId) -> Queue {
    Queue {
        name: format!("completions.{gateway}"),
        bindings: vec![Binding { exchange: Exchange::Network, pattern: CAPACITY_KEY.to_owned() }],
        exclusive: true,
        replicated: false,
        length_max: None,
        bytes_max: None,
        idle_ms: None,
        dead_letters: None,
    }
}

/// Where messages go that this version of the program doesn't know.
#[must_use]
pub fn parked() -> Queue {
    /// Enough to look at what came; a flood of unknown messages must not fill the broker.
    const LENGTH_MAX: u64 = 10_000;
    Queue {
        name: "parked".to_owned(),
        bindings: vec![Binding { exchange: Exchange::Nodes, pattern: "*.parked".to_owned() }],
        exclusive: false,
        replicated: true,
        length_max: Some(LENGTH_MAX),
        bytes_max: Some(STRANGERS_BYTES_MAX),
        idle_ms: None,
        dead_letters: None,
    }
}

/// Where a node sends a replica for `verifier`.
#[must_use]
pub fn replica_to(node: &NodeId, verifier: &VerifierId) -> Address {
    Address::Nodes(format!("{node}.replica.{verifier}"))
}

/// Where a node sends a replica whose verifier is gone.
#[must_use]
pub fn replica_to_any(node: &NodeId) -> Address {
    Address::Nodes(format!("{node}.replica.any"))
}

/// Where a node gives an assignment back.
#[must_use]
pub fn refusal_to(node: &NodeId, verifier: &VerifierId) -> Address {
    Address::Nodes(format!("{node}.refusal.{verifier}"))
}

/// Where a node puts a message that it doesn't know: nodes may write only keys that begin with their id.
#[must_use]
pub fn parked_by(node: &NodeId) -> Address {
    Address::Nodes(format!("{node}.parked"))
}

/// Where a node says that it lives.
#[must_use]
pub fn heartbeat_of(node: &NodeId) -> Address {
    Address::Nodes(format!("{node}.heartbeat"))
}

/// Where a verifier tells all gateways what there is room for.
#[must_use]
pub fn capacity() -> Address {
    Address::Network(CAPACITY_KEY.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that was let in writes what it likes to these queues.
    #[test]
    fn every_queue_that_a_node_can_write_to_is_bounded() {
        let (node, verifier, gateway) = (NodeId::fresh(), VerifierId::fresh(), GatewayId::fresh());
        let model = ModelName::new("m");
        let all = [
            jobs(&model),
            dead_jobs(),
            super::node(&node, "s"),
            replicas(&verifier),
            replicas_any(),
            completions(&gateway),
            parked(),
        ];
        for queue in all {
            let is_open = queue.bindings.iter().any(|binding| binding.exchange == Exchange::Nodes);
            assert_eq!(is_open, queue.length_max.is_some() && queue.bytes_max.is_some(), "{queue:?}");
        }
    }
}
