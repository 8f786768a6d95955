//! Holds the terms of one draw.

use infera_ledger::NodePool;
use infera_types::features::Features;
use infera_types::ids::{AccountId, Digest, NodeId, OwnerId};
use infera_types::numbers::NumericClass;

use super::candidates::{Distinct, Medians, Member};

/// What one draw goes by.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// The job's draw key, by `infera_sampling::draw_key`.
    pub key: &'a Digest,
    /// The account that the job belongs to.
    pub account: &'a AccountId,
    /// The nodes that the job may go to.
    pub pool: &'a NodePool,
    /// What the request needs of a node's engine.
    pub needed: &'a Features,
    /// How many nodes are wanted beside the members.
    pub wanted: usize,
    /// The members already in the group.
    pub members: &'a [Member],
    /// Owners that answered this job or whose miss counts; ignored but under [`Distinct::Owner`].
    pub excluded_owners: &'a [OwnerId],
    /// Nodes that answered this job or whose miss counts.
    pub excluded_nodes: &'a [NodeId],
    /// The classes whose nodes are drawn as long as these can fill the group, because their answers are the likeliest to begin with
    /// what a client has seen; empty where all are alike.
    pub classes: &'a [NumericClass],
    /// What makes members different.
    pub distinct: Distinct,
    /// Medians of the fleet that the candidates are from.
    pub medians: &'a Medians,
}
