//! The halves of the ledger by which owners manage their nodes, and by which the rest is read of them.

use std::fmt;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::rows::{NodeChange, NodeDay, NodePools, NodeStanding, NodeView, NodeWish, ServingNode, Whose};
use infera_types::day::Day;
use infera_types::ids::{NodeId, OwnerId};
use infera_types::time::Timestamp;

/// Shows nodes to their owners and takes their wishes, which [`NodeReader::wishes`] passes on to draws. A
/// node of another owner, an unknown one and a revoked one look alike.
#[async_trait]
pub trait NodeRoster: Send + Sync + fmt::Debug {
    /// Returns the node of this name; none if it isn't among the asker's.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn node_of(&self, whose: &Whose, name: &str) -> Result<Option<NodeView>, LedgerError>;

    /// Counts the nodes that an owner ever registered, revoked ones included.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn count_of(&self, owner: &OwnerId) -> Result<u64, LedgerError>;

    /// Changes the node of this name and returns it as it is then; none if it isn't among the asker's. Repeating the
    /// call changes nothing more.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn change_node(
        &self,
        whose: &Whose,
        name: &str,
        change: &NodeChange,
        now: Timestamp,
    ) -> Result<Option<NodeView>, LedgerError>;
}

/// Reads which nodes may be drawn for whom.
#[async_trait]
pub trait PoolReader: Send + Sync + fmt::Debug {
    /// Returns a number that changes with whatever [`PoolReader::pools`] returns, so that it need be read only then.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn pools_version(&self) -> Result<u64, LedgerError>;

    /// Returns which nodes are private, which are backstops, and who is in which group, for draws.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn pools(&self) -> Result<NodePools, LedgerError>;
}

/// Reads what owners want of nodes and what nodes did; both roles may hold it.
#[async_trait]
pub trait NodeReader: PoolReader {
    /// Returns what owners want of their nodes, for draws. Nodes whose owner never said anything are left out, and so
    /// are revoked ones.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn wishes(&self) -> Result<Vec<NodeWish>, LedgerError>;

    /// Returns what a node's verdicts add up to on each day since `since`, oldest first, as of the projector's
    /// progress. Days without a verdict are left out.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn days(&self, node: &NodeId, since: Day) -> Result<Vec<NodeDay>, LedgerError>;

    /// Returns how a node stands for each model, in the order of models' names.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn standings_of(&self, node: &NodeId) -> Result<Vec<NodeStanding>, LedgerError>;

    /// Returns at most `limit` pairs of a node and a model for which the node was judged since `since` and may still
    /// be drawn, latest first.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn serving(&self, since: Timestamp, limit: u32) -> Result<Vec<ServingNode>, LedgerError>;
}
