//! The halves of the ledger about pools of nodes: groups of nodes, which nodes a key's jobs go to by default, and which nodes
//! are the network's backstops. [`super::NodeReader::pools`] passes on to draws what is noted here.

use std::fmt;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::rows::{
    GroupBounds, GroupChanged, GroupMade, GroupOrder, NewGroup, NodeGroup, NodePool, NodeRecord, WholeGroup,
};
use infera_types::ids::{AccountId, GroupId, KeyId};
use infera_types::time::Timestamp;

/// Says which pool a job belongs to, and which nodes are backstops.
#[async_trait]
pub trait PoolBook: Send + Sync + fmt::Debug {
    /// Returns the group that an account means by `named`, if it may use it: one of its own by name or id, another account's
    /// by id.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn usable_group(&self, account: &AccountId, named: &str) -> Result<Option<GroupId>, LedgerError>;

    /// Returns the pool that a key's jobs belong to if a request says nothing. An unknown key has the open one.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn key_pool(&self, id: &KeyId) -> Result<NodePool, LedgerError>;

    /// Sets that pool, which a successor of the key takes over. Returns false if there is no such key or it is revoked.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn set_key_pool(&self, id: &KeyId, pool: &NodePool) -> Result<bool, LedgerError>;

    /// Makes the node of this id or name a backstop of the network, or an ordinary node again, and returns it; none if there
    /// is no such node or it is revoked. The first time stays.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn set_backstop(
        &self,
        named: &str,
        is_backstop: bool,
        now: Timestamp,
    ) -> Result<Option<NodeRecord>, LedgerError>;
}

/// Makes, changes and shows groups of nodes. A node is a member only while the group's account wants it and the node's owner
/// consents; a revoked node is a member no more.
#[async_trait]
pub trait NodeGroupBook: PoolBook {
    /// Makes a group. Making the same group twice makes it once.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn create_group(
        &self,
        group: &NewGroup,
        bounds: &GroupBounds,
        now: Timestamp,
    ) -> Result<GroupMade, LedgerError>;

    /// Changes a group on behalf of an account. Repeating a change changes nothing more.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn change_group(
        &self,
        order: &GroupOrder,
        bounds: &GroupBounds,
        now: Timestamp,
    ) -> Result<GroupChanged, LedgerError>;

    /// Deletes a group of the account `by`. Returns false if it has no such group.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn delete_group(&self, by: &AccountId, group: &GroupId) -> Result<bool, LedgerError>;

    /// Returns at most `limit` groups that the account has to do with, the earliest first: its own, those that it may use, and
    /// those that one of its nodes is in or invited to.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn groups_of(&self, account: &AccountId, limit: u32) -> Result<Vec<NodeGroup>, LedgerError>;

    /// Returns a group with its nodes and users; none if there is no such id.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn group(&self, group: &GroupId) -> Result<Option<WholeGroup>, LedgerError>;
}
