//! Defines which queues exist, what reaches them, and under which keys nodes send. It is the only place that spells a
//! queue name or a routing key.

use super::{Address, Binding, Exchange, Queue};
use infera_types::ids::{GatewayId, ModelName, NodeId, VerifierId};
use infera_types::service::Lane;

/// Returns the queue of one model's jobs that clients wait for, which is the first of its lanes.
#[must_use]
pub fn jobs(model: &ModelName) -> Queue {
    jobs_in(model, Lane::First)
}

/// Returns the queue of one model's jobs in a lane, by id. All verifiers share it, and it survives a restart. A notice
/// that is returned too often goes to [`dead_jobs`], from either lane.
///
/// The lane comes first in the name, because a model may be called `x.later`.
#[must_use]
pub fn jobs_in(model: &ModelName, lane: Lane) -> Queue {
    let lane = match lane {
        Lane::First => "jobs",
        Lane::Later => "later",
        Lane::Own => "own",
    };
    Queue {
        name: format!("{lane}.{model}"),
        bindings: Vec::new(),
        exclusive: false,
        fleeting: false,
        replicated: true,
        length_max: None,
        bytes_max: None,
        idle_ms: None,
        dead_letters: Some(DEAD_JOBS.to_owned()),
    }
}

/// The name of the queue of dead letters. A model with this last word is impossible: declaring its queue would be a
/// mismatch.
const DEAD_JOBS: &str = "jobs.dead";

/// Returns the queue of notices of any model that were delivered too often. The sweeper asks the ledger what became
/// of their jobs.
#[must_use]
pub fn dead_jobs() -> Queue {
    Queue {
        name: DEAD_JOBS.to_owned(),
        bindings: Vec::new(),
        exclusive: false,
        fleeting: false,
        replicated: true,
        length_max: None,
        bytes_max: None,
        idle_ms: None,
        dead_letters: None,
    }
}

/// The topic exchange to which nodes send, as permissions name it.
pub const NODES_EXCHANGE: &str = "infera.nodes";

/// The key of verifiers' summaries. Nodes cannot use it, because their keys begin with their ids.
pub const CAPACITY_KEY: &str = "capacity";

/// The key of gateways' reports of what keys spent. Nodes cannot use it, because their keys begin with their ids.
pub const SPENDING_KEY: &str = "spending";

/// The last word of the key under which a gateway tells all verifiers which streams it passes on; the first is the gateway. Nodes
/// cannot write to the exchange of roles.
pub const WATCH_KEY: &str = "watch";

/// Returns one node's private queue. `suffix` is random and told only to the node.
#[must_use]
pub fn node(node: &NodeId, suffix: &str) -> Queue {
    /// How long the queue is kept without a consumer, in milliseconds. A short outage of its runner must not lose it;
    /// a node that is gone for longer asks for a new one.
    const IDLE_MS: u64 = 10 * 60 * 1000;
    Queue {
        name: format!("node.{node}.{suffix}"),
        bindings: Vec::new(),
        exclusive: false,
        fleeting: false,
        replicated: false,
        length_max: None,
        bytes_max: None,
        idle_ms: Some(IDLE_MS),
        dead_letters: None,
    }
}

/// The most bytes of strangers' messages that may wait in one queue: 64 of the largest messages that a node can send,
/// or thousands of replicas of usual size. Three such queues per verifier are far from any disk's alarm, which would
/// stop every publish of the cluster.
const STRANGERS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Returns the queue of one verifier: what nodes send to it, every node's heartbeat, and every verifier's summary, by
/// which it knows how many verifiers share the work.
#[must_use]
pub fn replicas(verifier: &VerifierId) -> Queue {
    /// Three replicas of every job that a verifier may hold, and the heartbeats of 10,000 nodes while it pauses for
    /// five seconds. This bound stands beside the one in bytes, because headers count as no bytes there.
    const LENGTH_MAX: u64 = 10_000;
    let patterns =
        [format!("*.replica.{verifier}"), format!("*.refusal.{verifier}"), "*.heartbeat".to_owned()];
    let mut bindings = patterns.map(|pattern| Binding { exchange: Exchange::Nodes, pattern }).to_vec();
    bindings.push(Binding { exchange: Exchange::Network, pattern: CAPACITY_KEY.to_owned() });
    Queue {
        name: format!("replicas.{verifier}"),
        bindings,
        exclusive: true,
        fleeting: false,
        replicated: false,
        length_max: Some(LENGTH_MAX),
        bytes_max: Some(STRANGERS_BYTES_MAX),
        idle_ms: None,
        dead_letters: None,
    }
}

/// Returns the queue of replicas whose verifier is gone; all verifiers share it.
#[must_use]
pub fn replicas_any() -> Queue {
    /// What a vanished verifier had asked for: three replicas of each job that it may hold, and a reserve.
    const LENGTH_MAX: u64 = 4_096;
    Queue {
        name: "replicas.any".to_owned(),
        bindings: vec![Binding { exchange: Exchange::Nodes, pattern: "*.replica.any".to_owned() }],
        exclusive: false,
        fleeting: false,
        replicated: true,
        length_max: Some(LENGTH_MAX),
        bytes_max: Some(STRANGERS_BYTES_MAX),
        idle_ms: None,
        dead_letters: None,
    }
}

/// Returns the queue of one gateway: the ends of jobs that it waits for, every verifier's summary of capacity, and every
/// gateway's report of what keys spent.
#[must_use]
pub fn completions(gateway: &GatewayId) -> Queue {
    Queue {
        name: format!("completions.{gateway}"),
        bindings: [CAPACITY_KEY, SPENDING_KEY]
            .map(|key| Binding { exchange: Exchange::Network, pattern: key.to_owned() })
            .to_vec(),
        exclusive: true,
        fleeting: false,
        replicated: false,
        length_max: None,
        bytes_max: None,
        idle_ms: None,
        dead_letters: None,
    }
}

/// Returns the fleeting queue of one verifier's frames: the tokens that nodes have produced so far for its streams. It
/// carries nothing else, and no end of a job depends on a frame.
#[must_use]
pub fn tokens(verifier: &VerifierId) -> Queue {
    /// One second of a hundred nodes that send a frame each 30 ms, rounded up. A verifier that pauses for longer needs
    /// the newest frames alone, because a later frame begins at the first token again.
    const LENGTH_MAX: u64 = 4_096;
    /// 4 KiB for each of these frames, or sixteen of the largest messages that a node can send. The verifier may keep
    /// as much in its own memory, so it is less than the bytes of answers that may wait.
    const BYTES_MAX: u64 = 16 * 1024 * 1024;
    let binding = Binding { exchange: Exchange::Nodes, pattern: format!("*.tokens.{verifier}") };
    Queue::fleeting(format!("tokens.{verifier}"), vec![binding], LENGTH_MAX, BYTES_MAX)
}

/// Returns the fleeting queue of one gateway's deltas: the text that verifiers have released so far to its streams.
#[must_use]
pub fn deltas(gateway: &GatewayId) -> Queue {
    /// One second of thirty verifiers that send a delta each 30 ms, rounded up. The completion holds the whole answer,
    /// so a client misses nothing by an older delta that was dropped.
    const LENGTH_MAX: u64 = 1_024;
    /// 16 KiB for each of these deltas, which is 32 bytes for each of 500 streams.
    const BYTES_MAX: u64 = 16 * 1024 * 1024;
    Queue::fleeting(format!("deltas.{gateway}"), Vec::new(), LENGTH_MAX, BYTES_MAX)
}

/// Returns the fleeting queue in which one verifier hears which streams gateways pass on, and how far each has come.
#[must_use]
pub fn watch(verifier: &VerifierId) -> Queue {
    /// Four seconds of 64 gateways that send one such message a second with all their streams. A gateway that got no
    /// delta repeats it.
    const LENGTH_MAX: u64 = 256;
    /// 64 KiB for each of these messages, which is 64 bytes for each of 1,000 streams.
    const BYTES_MAX: u64 = 16 * 1024 * 1024;
    let bindings = [format!("*.{WATCH_KEY}"), WATCH_KEY.to_owned()]
        .map(|pattern| Binding { exchange: Exchange::Network, pattern })
        .to_vec();
    Queue::fleeting(format!("watch.{verifier}"), bindings, LENGTH_MAX, BYTES_MAX)
}

/// Returns the queue of messages that this version of the program doesn't know.
#[must_use]
pub fn parked() -> Queue {
    /// Enough to inspect what came; a flood of unknown messages must not fill the broker.
    const LENGTH_MAX: u64 = 10_000;
    Queue {
        name: "parked".to_owned(),
        bindings: vec![Binding { exchange: Exchange::Nodes, pattern: "*.parked".to_owned() }],
        exclusive: false,
        fleeting: false,
        replicated: true,
        length_max: Some(LENGTH_MAX),
        bytes_max: Some(STRANGERS_BYTES_MAX),
        idle_ms: None,
        dead_letters: None,
    }
}

/// Returns the address to which a node sends a replica for `verifier`.
#[must_use]
pub fn replica_to(node: &NodeId, verifier: &VerifierId) -> Address {
    Address::Nodes(format!("{node}.replica.{verifier}"))
}

/// Returns the address to which a node sends a replica whose verifier is gone.
#[must_use]
pub fn replica_to_any(node: &NodeId) -> Address {
    Address::Nodes(format!("{node}.replica.any"))
}

/// Returns the address to which a node sends a refusal for `verifier`.
#[must_use]
pub fn refusal_to(node: &NodeId, verifier: &VerifierId) -> Address {
    Address::Nodes(format!("{node}.refusal.{verifier}"))
}

/// Returns the address to which a node sends a message that it doesn't know: nodes may write only keys that begin
/// with their id.
#[must_use]
pub fn parked_by(node: &NodeId) -> Address {
    Address::Nodes(format!("{node}.parked"))
}

/// Returns the address of a node's heartbeats.
#[must_use]
pub fn heartbeat_of(node: &NodeId) -> Address {
    Address::Nodes(format!("{node}.heartbeat"))
}

/// Returns the address under which a verifier tells all gateways its capacity.
#[must_use]
pub fn capacity() -> Address {
    Address::Network(CAPACITY_KEY.to_owned())
}

/// Returns the address under which a gateway tells all others what keys spent at it.
#[must_use]
pub fn spending() -> Address {
    Address::Network(SPENDING_KEY.to_owned())
}

/// Returns the address to which a node sends frames of tokens for `verifier`.
#[must_use]
pub fn tokens_to(node: &NodeId, verifier: &VerifierId) -> Address {
    Address::Nodes(format!("{node}.tokens.{verifier}"))
}

/// Returns the address to which a verifier sends deltas for `gateway`.
#[must_use]
pub fn deltas_to(gateway: &GatewayId) -> Address {
    Address::Queue(deltas(gateway).name)
}

/// Returns the address under which a gateway tells all verifiers which streams it passes on. Gateways of before spoke under
/// [`WATCH_KEY`] alone, which says nothing of the sender.
#[must_use]
pub fn watching(gateway: &GatewayId) -> Address {
    Address::Network(format!("{gateway}.{WATCH_KEY}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBroker;
    use crate::{Broker as _, Fleeting as _, Message};

    /// An admitted node can write anything to these queues.
    #[test]
    fn every_queue_that_a_node_can_write_to_is_bounded() {
        let (node, verifier, gateway) = (NodeId::fresh(), VerifierId::fresh(), GatewayId::fresh());
        let model = ModelName::new("m");
        let all = [
            jobs(&model),
            jobs_in(&model, Lane::Later),
            dead_jobs(),
            super::node(&node, "s"),
            replicas(&verifier),
            replicas_any(),
            completions(&gateway),
            parked(),
            tokens(&verifier),
            deltas(&gateway),
            watch(&verifier),
        ];
        for queue in all {
            let is_open = queue.bindings.iter().any(|binding| binding.exchange == Exchange::Nodes);
            let is_bounded = queue.length_max.is_some() && queue.bytes_max.is_some();
            assert_eq!(is_open || queue.fleeting, is_bounded, "{queue:?}");
            assert!(queue.check().is_ok(), "{queue:?}");
        }
    }

    /// Each frame reaches the queue of the one that it is for, a broadcast reaches all verifiers, and none reaches a
    /// queue of messages that must not be lost.
    #[tokio::test]
    async fn frames_reach_their_own_queues_alone() {
        let broker = MemoryBroker::new();
        let (node, gateway) = (NodeId::fresh(), GatewayId::fresh());
        let (verifier, other) = (VerifierId::fresh(), VerifierId::fresh());
        let queues = [
            tokens(&verifier),
            deltas(&gateway),
            watch(&verifier),
            watch(&other),
            tokens(&other),
            deltas(&GatewayId::fresh()),
            replicas(&verifier),
            completions(&gateway),
            replicas_any(),
            parked(),
        ];
        for queue in &queues {
            broker.declare(queue).await.unwrap();
        }
        for address in [tokens_to(&node, &verifier), deltas_to(&gateway), watching(&gateway)] {
            let message = Message {
                id: "1".to_owned(),
                kind: "frame".to_owned(),
                body: bytes::Bytes::new(),
                ttl_ms: None,
                trace: None,
            };
            assert_eq!(broker.publish_fleeting(&address, message), crate::Sent::HandedOn);
        }
        let mut depths = Vec::new();
        for queue in &queues {
            depths.push(broker.depth(&queue.name).await.unwrap().unwrap());
        }
        assert_eq!(depths, [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_lanes_differ_in_their_names_alone() {
        let (first, later) = (jobs(&ModelName::new("m")), jobs_in(&ModelName::new("m"), Lane::Later));
        assert_eq!((first.name.as_str(), later.name.as_str()), ("jobs.m", "later.m"));
        assert_eq!(Queue { name: first.name.clone(), ..later.clone() }, first);
        let names = ["m", "later", "m.later", "later.m", "jobs.m"].map(ModelName::new);
        let all = names.iter().flat_map(|model| Lane::ALL.iter().map(|lane| jobs_in(model, *lane).name));
        let different: std::collections::BTreeSet<_> = all.collect();
        assert_eq!(different.len(), Lane::ALL.len() * names.len());
    }
}
