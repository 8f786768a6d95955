//! Describes candidates for a draw and members of a group, what makes two of them different, and the weight that each draws
//! with.

use std::net::IpAddr;

use infera_types::features::Features;
use infera_types::ids::{GroupId, NodeId, OwnerId};
use infera_types::job::{AssignmentRecord, AssignmentState};
use infera_types::numbers::NumericClass;

/// Caps the measured speed that counts, at this many times the model's median.
const SPEED_CAP_MEDIANS: f64 = 3.0;

/// No candidate's weight is lower: one whose reputation rounds to nothing is rarely drawn, but never unreachable
/// (keeping nodes out is what `ejected` is for).
const REPUTATION_MIN: f64 = 0.001;

/// A live node that serves a digest of the job's model.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// The node's owner; of a backstop, for strangers' jobs, the network.
    pub owner: OwnerId,
    /// Where it connects from; `None` where the broker doesn't say.
    pub address: Option<IpAddr>,
    /// The machine that it says it runs on.
    pub machine: Option<String>,
    /// Whether it serves only jobs of its owner and of its groups.
    pub is_private: bool,
    /// Whether it is a backstop of the network.
    pub is_backstop: bool,
    /// The groups that it is a member of.
    pub groups: Vec<GroupId>,
    /// What it announced for this model.
    pub numeric_class: NumericClass,
    /// What its engine can do beyond answering, as it announced for this model.
    pub features: Features,
    /// Slots that it announced as free, less what this verifier has outstanding there. Without one it is not drawn.
    pub free_slots: u32,
    /// R / 1000, in [0, 1]; see [`crate::decisions::reputation`].
    pub reputation: f64,
    /// Tokens per second on settled replicas, as verifiers measured them; `None` while nothing was measured.
    pub tokens_per_second: Option<f64>,
    /// Whether there is too little evidence to weigh it; see [`crate::decisions::reputation::Reputation::is_newcomer`].
    pub newcomer: bool,
    /// Whether it is kept out of every draw.
    pub ejected: bool,
}

impl Candidate {
    /// Returns whether the node can do all that a request needs. One that can't would refuse it, or answer something else.
    #[must_use]
    pub fn can_do(&self, needed: &Features) -> bool {
        self.features.include(needed)
    }
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
    /// The machine that it says it runs on.
    pub machine: Option<String>,
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
            machine: candidate.machine.clone(),
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
    /// Different machines, whoever owns them: for an account's own nodes and for groups. A machine is what a node says it is, and
    /// where it says nothing, its address; nothing proves either.
    Machine,
    /// Different nodes are enough, whoever owns them and wherever they stand: for an operator whose nodes are all
    /// their own. Agreement then guards against broken machines, not against their owner.
    Node,
}

impl Distinct {
    /// Returns what counts once in a group and in a quorum: the owner, or the node where nodes are told apart by themselves.
    #[must_use]
    pub fn party<'a>(self, owner: &'a OwnerId, node: &'a NodeId) -> &'a str {
        match self {
            Self::Owner => owner.as_str(),
            Self::Machine | Self::Node => node.as_str(),
        }
    }

    /// Returns what tells apart the members of a group that was drawn under these settings. In a group that was drawn by owners no
    /// two answers come from one owner; where two do, it was drawn by machines.
    #[must_use]
    pub fn of_group(self, assignments: &[AssignmentRecord]) -> Self {
        let answered = || assignments.iter().filter(|one| one.state == AssignmentState::Answered);
        let shares_owner = |one: &AssignmentRecord| {
            answered().any(|other| other.node != one.node && other.owner == one.owner)
        };
        if self == Self::Owner && answered().any(shares_owner) { Self::Machine } else { self }
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
    /// Returns the medians of a model's candidates; ejected ones, private ones and newcomers don't count.
    #[must_use]
    pub fn of(candidates: &[Candidate]) -> Self {
        let established = || candidates.iter().filter(|one| !one.newcomer && !one.ejected && !one.is_private);
        let speeds = established().filter_map(|one| one.tokens_per_second).filter(|speed| *speed > 0.0);
        let mut medians = Self { tokens_per_second: median(speeds.collect()), weight: 1.0 };
        medians.weight = median(established().map(|one| medians.established_weight(one)).collect());
        medians
    }

    /// Returns the weight that a candidate draws with; always above zero.
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

/// Returns the lower median, or 1 for no values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(1.0)
}
