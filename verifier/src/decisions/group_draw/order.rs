//! Ranks the nodes that may be drawn, and tells which two may stand in one group. It hashes and compares; it doesn't choose.

use std::net::IpAddr;

use infera_ledger::NodePool;
use infera_types::ids::OwnerId;

use super::candidates::{Candidate, Distinct};
use super::terms::Draw;
use crate::decisions::keyed_hash::uniform;

/// An eligible candidate and its place in the caller's slice.
#[derive(Debug)]
pub(super) struct Ranked<'a> {
    pub(super) index: usize,
    pub(super) candidate: &'a Candidate,
    score: f64,
}

/// Which candidates a draw looks at. A draw runs under the lock of all live nodes, so it filters them and copies none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Among {
    /// Only backstops, or only others; none: both.
    pub(super) are_backstops: Option<bool>,
    /// Whether a candidate needs a free slot.
    pub(super) need_room: bool,
}

impl Among {
    /// All candidates that have room.
    pub(super) const ALL_WITH_ROOM: Self = Self { are_backstops: None, need_room: true };

    fn has(self, one: &Candidate) -> bool {
        self.are_backstops.is_none_or(|are_backstops| one.is_backstop == are_backstops)
            && (one.free_slots > 0 || !self.need_room)
    }
}

/// Returns the eligible candidates, best first; equal scores (never seen) go by the node's id.
pub(super) fn ranked<'a>(candidates: &'a [Candidate], draw: &Draw<'_>, among: Among) -> Vec<Ranked<'a>> {
    let eligible = candidates.iter().enumerate().filter(|(_, one)| among.has(one) && is_eligible(one, draw));
    let scored = eligible.map(|(index, candidate)| {
        let uniform = uniform(draw.key, b"node", candidate.node.as_str().as_bytes());
        Ranked { index, candidate, score: -uniform.ln() / draw.medians.weight_of(candidate) }
    });
    let mut ranked: Vec<_> = scored.collect();
    ranked.sort_by(|a, b| a.score.total_cmp(&b.score).then_with(|| a.candidate.node.cmp(&b.candidate.node)));
    ranked
}

fn is_eligible(one: &Candidate, draw: &Draw<'_>) -> bool {
    let excluded_owner = match draw.distinct {
        Distinct::Node | Distinct::Machine => false,
        Distinct::Owner => {
            draw.excluded_owners.contains(&one.owner) || one.owner == OwnerId::of_account(draw.account)
        }
    };
    let beside_members = draw.members.iter().all(|member| match draw.distinct {
        Distinct::Node => member.node != one.node,
        Distinct::Machine => {
            let (theirs, own) = ((&member.machine, member.address), (&one.machine, one.address));
            member.node != one.node && !same_machine(theirs, own)
        }
        Distinct::Owner => {
            member.node != one.node && member.owner != one.owner && !same_network(member.address, one.address)
        }
    });
    !one.ejected
        && is_in_pool(one, draw.pool)
        && one.can_do(draw.needed)
        && (draw.classes.is_empty() || draw.classes.contains(&one.numeric_class))
        && !excluded_owner
        && !draw.excluded_nodes.contains(&one.node)
        && beside_members
}

/// Returns whether a candidate serves jobs of this pool.
fn is_in_pool(one: &Candidate, pool: &NodePool) -> bool {
    match pool {
        NodePool::Open => !one.is_private,
        NodePool::Account(account) => one.owner == OwnerId::of_account(account),
        NodePool::Group(group) => one.groups.contains(group),
    }
}

/// Returns how many candidates serve jobs of a pool, and on how many different machines they run at least.
#[must_use]
pub fn machines(candidates: &[Candidate], pool: &NodePool) -> (usize, usize) {
    let mut apart: Vec<&Candidate> = Vec::new();
    for one in in_pool(candidates, pool) {
        if apart.iter().all(|other| are_apart(one, other)) {
            apart.push(one);
        }
    }
    (in_pool(candidates, pool).count(), apart.len())
}

/// Returns whether two candidates are on different machines, as far as they say.
#[must_use]
pub fn are_apart(one: &Candidate, other: &Candidate) -> bool {
    differ(one, other, Distinct::Machine)
}

/// Returns the candidates that serve jobs of a pool, whatever their room.
fn in_pool<'a>(candidates: &'a [Candidate], pool: &'a NodePool) -> impl Iterator<Item = &'a Candidate> {
    candidates.iter().filter(|one| !one.ejected && is_in_pool(one, pool))
}

/// Returns whether two nodes run on one machine, as far as they say. Two that each name their machine are on one if the names
/// are equal. Of one that names none only its address is known: behind one address there may be several machines, which then
/// count as one.
pub(super) fn same_machine(
    (machine, address): (&Option<String>, Option<IpAddr>),
    (other_machine, other_address): (&Option<String>, Option<IpAddr>),
) -> bool {
    match (machine, other_machine) {
        (Some(machine), Some(other)) => machine == other,
        _ => {
            address.is_some()
                && address.map(|one| one.to_canonical()) == other_address.map(|one| one.to_canonical())
        }
    }
}

/// Returns whether two candidates may stand in one group.
pub(super) fn differ(a: &Candidate, b: &Candidate, distinct: Distinct) -> bool {
    match distinct {
        Distinct::Node => a.node != b.node,
        Distinct::Machine => {
            a.node != b.node && !same_machine((&a.machine, a.address), (&b.machine, b.address))
        }
        Distinct::Owner => a.node != b.node && a.owner != b.owner && !same_network(a.address, b.address),
    }
}

/// Returns whether two addresses are in one IPv4 /24 or IPv6 /48, which is what one person commonly rents. An unknown address
/// is no evidence, and neither is one that is not for rent: loopback, private, link-local. Those belong to a proxy, a
/// container, or the operator's own machines, and nodes that have one are told apart by their accounts. An IPv4 address written
/// as IPv6 is the IPv4 address.
pub(super) fn same_network(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let (Some(a), Some(b)) = (a.map(|one| one.to_canonical()), b.map(|one| one.to_canonical())) else {
        return false;
    };
    // Of one network, both are rented or neither is.
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => is_rented(a.into()) && a.octets()[..3] == b.octets()[..3],
        (IpAddr::V6(a), IpAddr::V6(b)) => is_rented(a.into()) && a.segments()[..3] == b.segments()[..3],
        _ => false,
    }
}

/// Returns whether an address is one of the internet's.
fn is_rented(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !(address.is_loopback() || address.is_private() || address.is_link_local()),
        IpAddr::V6(address) => {
            !(address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local())
        }
    }
}
