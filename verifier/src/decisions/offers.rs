//! Decides how many jobs of a model may lie in one of its queues, offered and not yet taken.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use infera_ledger::{HeldJob, NodePool};
use infera_types::ids::AccountId;

use super::group_draw::{Candidate, Distinct, are_apart};

/// The nodes that an ordinary job is computed on.
const REPLICAS: u32 = 3;

/// The same, as a number of nodes.
const GROUP: usize = 3;

/// Returns how many jobs may lie in one queue of a model whose live nodes have `free_slots` of `slots`.
///
/// What lies there has had its turn: who comes later stands behind it, so it should be little. But no verifier should find
/// the queue empty before the feeder has looked again. On an idle network that takes twice the free slots. On a busy one
/// there are none, and by them alone the queue would stand empty at each end of a job: there, as many jobs may wait as
/// run at once, a slot for each replica. One job is always offered, so that a network without nodes still decides about it.
pub(crate) fn offered_max(free_slots: u32, slots: u32) -> u32 {
    free_slots.saturating_mul(2).max(slots / REPLICAS).max(1)
}

/// The room that one pool of nodes has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolRoom {
    /// How many held jobs may be offered.
    pub(crate) jobs: usize,
    /// The largest group that the pool's nodes can fill, whatever their room.
    group_max: usize,
}

impl PoolRoom {
    /// Returns whether a job may be offered as soon as there is room. One that asks for more machines than there are waits for these, and
    /// isn't offered in vain. If its client waits it is, so that the client is told what is missing.
    pub(crate) const fn fits(self, job: &HeldJob) -> bool {
        job.is_awaited || job.replicas as usize <= self.group_max
    }
}

/// The nodes of one pool, as far as it matters how much room they have.
#[derive(Default)]
struct PoolNodes<'a> {
    free_slots: u32,
    all: usize,
    /// Nodes on different machines: as many as an ordinary job needs, at most.
    apart: Vec<&'a Candidate>,
    /// The machines that are named, the addresses of nodes that name none, and how many say neither. Two nodes of which just one names
    /// its machine may or may not share it, and count as two.
    named: HashSet<&'a str>,
    addresses: HashSet<IpAddr>,
    unknown: usize,
}

/// Returns the room of each pool of nodes, those of accounts and of groups. Unlike strangers' jobs, none lies ready for room to come: a
/// verifier gives back at once what finds none. Without a free slot that is none. On the machines of a whole group an ordinary job takes
/// a slot for each replica; on fewer, only jobs of one replica can run. Where `distinct` is by nodes, a group may be on one machine.
pub(crate) fn pool_rooms(candidates: &[Candidate], distinct: Distinct) -> HashMap<NodePool, PoolRoom> {
    let mut pools: HashMap<NodePool, PoolNodes<'_>> = HashMap::new();
    for one in candidates.iter().filter(|one| !one.ejected) {
        let of_owner = NodePool::Account(AccountId::new(one.owner.as_str()));
        for pool in one.groups.iter().cloned().map(NodePool::Group).chain([of_owner]) {
            let nodes = pools.entry(pool).or_default();
            nodes.free_slots = nodes.free_slots.saturating_add(one.free_slots);
            nodes.all += 1;
            let is_apart = nodes.apart.iter().all(|other| are_apart(one, other));
            if is_apart && nodes.apart.len() < GROUP {
                nodes.apart.push(one);
            }
            match (&one.machine, one.address) {
                (Some(machine), _) => drop(nodes.named.insert(machine)),
                (None, Some(address)) => drop(nodes.addresses.insert(address.to_canonical())),
                (None, None) => nodes.unknown += 1,
            }
        }
    }
    let room = |nodes: &PoolNodes<'_>| {
        let replicas = if nodes.apart.len() < GROUP { 1 } else { REPLICAS };
        let machines = nodes.named.len() + nodes.addresses.len() + nodes.unknown;
        PoolRoom {
            jobs: usize::try_from(nodes.free_slots.div_ceil(replicas)).unwrap_or(usize::MAX),
            group_max: if distinct == Distinct::Node { nodes.all } else { machines },
        }
    };
    pools.iter().map(|(pool, nodes)| (pool.clone(), room(nodes))).collect()
}

#[cfg(test)]
mod tests {
    use infera_types::features::Features;
    use infera_types::ids::{Digest, JobId, NodeId, OwnerId};
    use infera_types::numbers::NumericClass;

    use super::*;

    #[test]
    fn a_busy_network_is_offered_what_it_runs_at_once() {
        for (free_slots, slots, expected) in [
            (0, 0, 1),
            (0, 2, 1),
            (0, 24, 8),
            (1, 24, 8),
            (4, 24, 8),
            (5, 24, 10),
            (24, 24, 48),
            (u32::MAX, u32::MAX, u32::MAX),
        ] {
            assert_eq!(offered_max(free_slots, slots), expected, "{free_slots} of {slots}");
        }
    }

    fn node(number: u32, machine: Option<&str>, address: Option<&str>) -> Candidate {
        Candidate {
            node: NodeId::new(format!("n{number}")),
            owner: OwnerId::new("acct1"),
            address: address.map(|address| address.parse().unwrap()),
            machine: machine.map(str::to_owned),
            is_private: false,
            is_backstop: false,
            groups: Vec::new(),
            numeric_class: NumericClass {
                model_digest: Digest::of(b"m"),
                provider: "stub".to_owned(),
                hardware: "x".to_owned(),
                runtime: "1".to_owned(),
                compute: "f32".to_owned(),
            },
            features: Features::default(),
            free_slots: 4,
            reputation: 1.0,
            tokens_per_second: None,
            newcomer: false,
            ejected: false,
        }
    }

    /// A job is only left alone if it can't be filled for certain: nodes that may be on different machines are.
    #[test]
    fn a_job_that_asks_for_more_machines_than_there_are_waits_unless_its_client_does() {
        let pool = NodePool::Account(AccountId::new("acct1"));
        let job = |replicas, is_awaited| HeldJob { id: JobId::new(), prompt_tokens: 1, replicas, is_awaited };
        for (nodes, group_max) in [
            (&[(Some("a"), None)][..], 1),
            (&[(Some("a"), Some("192.0.2.1")), (Some("a"), Some("192.0.2.2"))], 1),
            (&[(Some("a"), Some("192.0.2.1")), (Some("b"), Some("192.0.2.1"))], 2),
            (&[(None, Some("192.0.2.1")), (None, Some("::ffff:192.0.2.1"))], 1),
            (&[(None, Some("192.0.2.1")), (Some("a"), Some("192.0.2.1")), (Some("b"), None)], 3),
            (&[(None, None), (None, None), (None, None)], 3),
        ] {
            let at = (0..).zip(nodes).map(|(number, (machine, address))| node(number, *machine, *address));
            let candidates: Vec<_> = at.collect();
            let room = pool_rooms(&candidates, Distinct::Owner)[&pool];
            for replicas in [1, 2, 3] {
                assert_eq!(room.fits(&job(replicas, false)), usize::from(replicas) <= group_max, "{nodes:?}");
                assert!(room.fits(&job(replicas, true)), "its client is told");
                let by_nodes = pool_rooms(&candidates, Distinct::Node)[&pool];
                assert_eq!(by_nodes.fits(&job(replicas, false)), usize::from(replicas) <= nodes.len());
            }
        }
        assert!(
            pool_rooms(&[Candidate { ejected: true, ..node(1, None, None) }], Distinct::Owner).is_empty()
        );
    }
}
