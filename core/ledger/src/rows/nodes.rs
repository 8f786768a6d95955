//! Nodes as their owners see them: what an owner wants of a node, and what the node did on each day.

use infera_types::day::Day;
use infera_types::ids::{ModelName, NodeId, OwnerId};
use infera_types::time::Timestamp;

/// The nodes that a question may be about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those of this owner.
    Of(OwnerId),
    /// Those of every owner, for an operator.
    Anyone,
}

impl Whose {
    /// Returns the owner's id; none for every owner.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        match self {
            Self::Of(owner) => Some(owner.as_str()),
            Self::Anyone => None,
        }
    }
}

/// A node as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its internal id.
    pub id: NodeId,
    /// The name that its runner chose.
    pub name: String,
    /// Its owner.
    pub owner: OwnerId,
    /// When it was registered.
    pub registered_ms: Timestamp,
    /// Since when it is withdrawn: it is drawn for no job and ends those that it has. None: it may be drawn.
    pub withdrawn_ms: Option<Timestamp>,
    /// The version of its program, as its owner said last.
    pub version: Option<String>,
    /// The models that it may be drawn for; none: all that it serves.
    pub models: Option<Vec<ModelName>>,
    /// Since when it serves only jobs of its owner and of its groups; none: strangers' too.
    pub private_ms: Option<Timestamp>,
    /// Since when it is a backstop of the network, which its operator decides.
    pub backstop_ms: Option<Timestamp>,
}

/// A change that an owner makes to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// It may be drawn, again if it was withdrawn.
    Enlist {
        /// The version of its program; none: what was said before stays.
        version: Option<String>,
    },
    /// It is drawn for no more jobs. The first time of withdrawing stays.
    Withdraw {
        /// The version of its program; none: what was said before stays.
        version: Option<String>,
    },
    /// It may be drawn for these models alone, as far as it serves them.
    OfferModels(Vec<ModelName>),
    /// It serves only jobs of its owner and of its groups, or strangers' too. The first time of restricting stays.
    Restrict {
        /// Whether it is restricted.
        is_private: bool,
    },
}

/// What an owner wants of a node, for the draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeWish {
    /// The node.
    pub node: NodeId,
    /// Whether it is withdrawn.
    pub is_withdrawn: bool,
    /// The models that it may be drawn for; none: all that it serves.
    pub models: Option<Vec<ModelName>>,
}

impl NodeWish {
    /// Returns whether the node may be drawn for jobs of `model`.
    #[must_use]
    pub fn allows(&self, model: &ModelName) -> bool {
        !self.is_withdrawn && self.models.as_ref().is_none_or(|models| models.contains(model))
    }
}

/// How many verdicts of each kind a node got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerdictCounts {
    /// Answers that agree with a quorum.
    pub valid: u64,
    /// Answers with an objective fault.
    pub invalid: u64,
    /// Answers that could not be judged.
    pub inconclusive: u64,
    /// Assignments that were not answered.
    pub missed: u64,
    /// Assignments whose failure was not the node's doing.
    pub neutral: u64,
}

/// What a node's verdicts of one day add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeDay {
    /// The day.
    pub day: Day,
    /// Thousandths of a point earned by answers.
    pub millipoints: i64,
    /// Tokens of VALID answers.
    pub tokens: u64,
    /// The verdicts.
    pub verdicts: VerdictCounts,
    /// The intervals of ten minutes in which the node got a VALID verdict, one bit each, those of eight hours in each
    /// number. Bit 0 of the first number is the interval that begins at midnight.
    pub valid_intervals: [u64; 3],
}

/// A node that served a model lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingNode {
    /// The node.
    pub node: NodeId,
    /// The model.
    pub model: ModelName,
    /// When its last answer for the model, or its last miss, was judged.
    pub judged_ms: Timestamp,
}
