//! Draws a job's replica group: which nodes are asked. A pure function of the live nodes, the job's draw key and the
//! members already in the group. It keeps no state, knows no queue, and never sees what the client wrote, so a client
//! can't word a request until it lands on the nodes it likes.
//!
//! **Weighted rendezvous hashing.** Each node gets the score `-ln(u) / w`: `w` is its weight and `u`, uniform in
//! (0, 1), is HMAC-SHA256(draw key, node id). The lowest scores win. Such a score is exponentially distributed with
//! rate `w`, so a node comes first with probability `w / sum of w`, and the k lowest are a weighted draw without
//! replacement. (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005, the logarithmic method;
//! Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006, the same from the other end.) A
//! node's score depends on that node alone: a node that joins changes only the groups that it enters.
//!
//! **Weights** are reputation (its lower bound) times the tokens per second that we measured, the latter capped at
//! three times the model's median, so that one fast machine doesn't get everything. Newcomers draw with the median
//! weight, and in 15 % of the draws one place is theirs.
//!
//! **Bounds**, in this order of importance: never two nodes of one owner or of one network, never a node of the
//! job's own account; at most one newcomer where two established nodes are eligible; one numeric class where three
//! owners have it. Only the last gives way before a group stays short; the bound on newcomers ends where the established
//! nodes do.

pub(crate) mod order;
mod selection;

use std::net::IpAddr;

use infera_types::ids::{AccountId, Digest, NodeId, OwnerId};
use infera_types::numbers::NumericClass;

/// The share of groups in which one place is kept for a newcomer.
pub const NEWCOMER_SHARE: f64 = 0.15;

/// Caps the measured speed that counts, at this many times the model's median.
pub const SPEED_CAP_MEDIANS: f64 = 3.0;

/// How many owners a numeric class needs to be preferred: a group's worth.
pub const CLASS_OWNERS_MIN: usize = 3;

/// No candidate's weight is lower: one whose reputation rounds to nothing is rarely drawn, but never unreachable
/// (keeping nodes out is what `ejected` is for).
pub const REPUTATION_MIN: f64 = 0.001;

/// A live node that serves a digest of the job's model.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// The node's owner.
    pub owner: OwnerId,
    /// Where it connects from; `None` where the broker doesn't say.
    pub address: Option<IpAddr>,
    /// What it announced for this model.
    pub numeric_class: NumericClass,
    /// Slots it announced as free, less what this network has outstanding there. Without one it is not drawn.
    pub free_slots: u32,
    /// R / 1000, in [0, 1]: see [`crate::reputation`].
    pub reputation: f64,
    /// Tokens per second on settled replicas, as we saw it; `None` while nothing was measured.
    pub tokens_per_second: Option<f64>,
    /// Too little evidence to weigh it: see [`crate::reputation::Reputation::is_newcomer`].
    pub newcomer: bool,
    /// Never drawn.
    pub ejected: bool,
}

/// A node that is in the group already: open, or answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// The node's owner.
    pub owner: OwnerId,
    /// Where it connects from.
    pub address: Option<IpAddr>,
    /// Its class.
    pub numeric_class: NumericClass,
    /// Whether it was a newcomer when drawn.
    pub newcomer: bool,
}

impl From<&Candidate> for Member {
    fn from(candidate: &Candidate) -> Self {
        Self {
            node: candidate.node.clone(),
            owner: candidate.owner.clone(),
            address: candidate.address,
            numeric_class: candidate.numeric_class.clone(),
            newcomer: candidate.newcomer,
        }
    }
}

/// What makes two members of a group different.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distinct {
    /// Different owners on different networks, none the job's own account: for nodes of strangers.
    #[default]
    Owner,
    /// Different nodes are enough, whoever owns them and wherever they stand: for an operator whose nodes are all
    /// their own. Agreement then guards against broken machines, not against their owner.
    Node,
}

impl Distinct {
    /// What counts once in a group and in a quorum: the owner, or the node where nodes are told apart by themselves.
    #[must_use]
    pub fn party<'a>(self, owner: &'a OwnerId, node: &'a NodeId) -> &'a str {
        match self {
            Self::Owner => owner.as_str(),
            Self::Node => node.as_str(),
        }
    }
}

/// Holds what the model's candidates have in common, against which newcomers and the cap are measured. Computed once per
/// snapshot of the fleet and not per draw, so that a node's joining moves no node's weight within a snapshot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Medians {
    /// Median of the measured tokens per second of established candidates; 1 if there are none.
    pub tokens_per_second: f64,
    /// Median weight of established candidates; 1 if there are none.
    pub weight: f64,
}

impl Medians {
    /// The medians of a model's candidates; ejected ones and newcomers don't count.
    #[must_use]
    pub fn of(candidates: &[Candidate]) -> Self {
        let established = || candidates.iter().filter(|one| !one.newcomer && !one.ejected);
        let speeds = established().filter_map(|one| one.tokens_per_second).filter(|speed| *speed > 0.0);
        let mut medians = Self { tokens_per_second: median(speeds.collect()), weight: 1.0 };
        medians.weight = median(established().map(|one| medians.established_weight(one)).collect());
        medians
    }

    /// What a candidate draws with; always above zero.
    #[must_use]
    pub fn weight_of(&self, candidate: &Candidate) -> f64 {
        if candidate.newcomer { self.weight } else { self.established_weight(candidate) }
    }

    fn established_weight(&self, candidate: &Candidate) -> f64 {
        let measured = candidate.tokens_per_second.filter(|speed| *speed > 0.0);
        let speed = measured.unwrap_or(self.tokens_per_second);
        candidate.reputation.max(REPUTATION_MIN) * speed.min(SPEED_CAP_MEDIANS * self.tokens_per_second)
    }
}

/// The lower median; 1 of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(1.0)
}

/// One draw.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// `core::sampling::draw_key` of the job.
    pub key: &'a Digest,
    /// The account that the job belongs to.
    pub account: &'a AccountId,
    /// How many nodes are wanted beside the members.
    pub wanted: usize,
    /// The members already in the group.
    pub members: &'a [Member],
    /// Owners that answered this job or whose miss counts; not looked at under [`Distinct::Node`].
    pub excluded_owners: &'a [OwnerId],
    /// Nodes that answered this job or whose miss counts.
    pub excluded_nodes: &'a [NodeId],
    /// What makes members different.
    pub distinct: Distinct,
    /// Of the same fleet as the candidates.
    pub medians: &'a Medians,
}

/// The group, or what it lacks: indexes into `candidates`, best first. Fewer than wanted if there aren't enough;
/// whether that will do is the caller's business. The order of the candidates plays no part.
#[must_use]
pub fn draw(candidates: &[Candidate], draw: &Draw<'_>) -> Vec<usize> {
    let ranked = order::ranked(candidates, draw);
    selection::choose(&ranked, draw)
}

/// How many groups of different owners' nodes could be drawn from: different owners among the candidates that a job
/// of `account` may be given, whatever their free slots.
#[must_use]
pub fn owners(candidates: &[Candidate], account: &AccountId, distinct: Distinct) -> usize {
    let usable = candidates.iter().filter(|one| !one.ejected);
    match distinct {
        Distinct::Node => usable.count(),
        Distinct::Owner => {
            let own = OwnerId::of_account(account);
            let owners = usable.map(|one| &one.owner).filter(|owner| **owner != own);
            owners.collect::<std::collections::BTreeSet<_>>().len()
        }
    }
}
