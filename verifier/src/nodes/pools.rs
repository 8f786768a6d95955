//! Keeps what the ledger notes of single nodes for draws: which are private, which are backstops, and who is in which group.

use std::collections::{HashMap, HashSet};

use infera_ledger::{NodePool, NodePools};
use infera_types::ids::{AccountId, GroupId, NodeId};

/// One reading of it.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    private: HashSet<NodeId>,
    backstops: HashSet<NodeId>,
    groups_of: HashMap<NodeId, Vec<GroupId>>,
    users: HashMap<GroupId, HashSet<AccountId>>,
}

impl Pools {
    /// Sorts a reading by what draws ask for.
    pub(crate) fn of(read: NodePools) -> Self {
        let mut pools = Self {
            private: read.private.into_iter().collect(),
            backstops: read.backstops.into_iter().collect(),
            ..Self::default()
        };
        for (group, node) in read.members {
            pools.groups_of.entry(node).or_default().push(group);
        }
        for (group, account) in read.users {
            pools.users.entry(group).or_default().insert(account);
        }
        pools
    }

    /// Returns whether a node serves only jobs of its owner and of its groups.
    pub(crate) fn is_private(&self, node: &NodeId) -> bool {
        self.private.contains(node)
    }

    /// Returns whether a node is a backstop of the network.
    pub(crate) fn is_backstop(&self, node: &NodeId) -> bool {
        self.backstops.contains(node)
    }

    /// Returns the groups that a node is a member of.
    pub(crate) fn groups_of(&self, node: &NodeId) -> &[GroupId] {
        self.groups_of.get(node).map_or(&[], Vec::as_slice)
    }

    /// Returns whether an account's jobs may go to this pool. A group may have been deleted, or closed to the account, since a
    /// job was accepted.
    pub(crate) fn is_open_to(&self, pool: &NodePool, account: &AccountId) -> bool {
        match pool {
            NodePool::Open => true,
            NodePool::Account(owner) => owner == account,
            NodePool::Group(group) => self.users.get(group).is_some_and(|users| users.contains(account)),
        }
    }
}
