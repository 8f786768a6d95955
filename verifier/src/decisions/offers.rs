//! Decides how many jobs of a model may lie in one of its queues, offered and not yet taken.

use std::collections::HashMap;

use infera_ledger::NodePool;
use infera_types::ids::AccountId;

use super::group_draw::{Candidate, are_apart};

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

/// The nodes of one pool, as far as it matters how much room they have.
#[derive(Default)]
struct PoolNodes<'a> {
    free_slots: u32,
    /// Nodes on different machines: as many as a group needs, at most.
    apart: Vec<&'a Candidate>,
}

/// Returns how many held jobs may be offered now to each pool of nodes, those of accounts and of groups. Unlike strangers' jobs, none
/// lies ready for room to come: a verifier gives back at once what finds none. Without a free slot that is none. On the machines of a
/// whole group an ordinary job takes a slot for each replica; on fewer, only jobs of one replica can run.
pub(crate) fn pool_rooms(candidates: &[Candidate]) -> HashMap<NodePool, usize> {
    let mut pools: HashMap<NodePool, PoolNodes<'_>> = HashMap::new();
    for one in candidates.iter().filter(|one| !one.ejected) {
        let of_owner = NodePool::Account(AccountId::new(one.owner.as_str()));
        for pool in one.groups.iter().cloned().map(NodePool::Group).chain([of_owner]) {
            let nodes = pools.entry(pool).or_default();
            nodes.free_slots = nodes.free_slots.saturating_add(one.free_slots);
            let is_apart = nodes.apart.iter().all(|other| are_apart(one, other));
            if is_apart && nodes.apart.len() < GROUP {
                nodes.apart.push(one);
            }
        }
    }
    let room = |nodes: &PoolNodes<'_>| {
        let replicas = if nodes.apart.len() < GROUP { 1 } else { REPLICAS };
        usize::try_from(nodes.free_slots.div_ceil(replicas)).unwrap_or(usize::MAX)
    };
    pools.iter().map(|(pool, nodes)| (pool.clone(), room(nodes))).collect()
}

#[cfg(test)]
mod tests {
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
}
