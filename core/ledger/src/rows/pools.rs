//! The values of pools of nodes: which nodes a job may go to, which groups of nodes there are, and what is noted of single nodes
//! for draws.

use super::feeding::{Share, Standby};
use infera_types::ids::{AccountId, GroupId, NodeId, OwnerId};
use infera_types::service::Lane;
use infera_types::time::Timestamp;

/// The nodes that a job may go to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodePool {
    /// Nodes of other owners than the job's account, without those that serve only their owners' jobs.
    #[default]
    Open,
    /// The nodes of this account, which is the job's.
    Account(AccountId),
    /// The nodes of this group, which the job's account may use.
    Group(GroupId),
}

/// How the share of a pool of an account's nodes begins. No account's id and no network's address begins so.
const OF_ACCOUNT: &str = "own:";

/// How the share of a pool of a group's nodes begins.
const OF_GROUP: &str = "group:";

impl NodePool {
    /// Returns the share that the jobs of this pool are counted under; none for the open pool, whose jobs are counted under
    /// their accounts. Two jobs of one pool wait for the same nodes, and two of different pools never do.
    #[must_use]
    pub fn share(&self) -> Option<Share> {
        match self {
            Self::Open => None,
            Self::Account(account) => Some(Share::new(format!("{OF_ACCOUNT}{account}"))),
            Self::Group(group) => Some(Share::new(format!("{OF_GROUP}{group}"))),
        }
    }

    /// Returns the pool whose jobs are counted under `share`.
    #[must_use]
    pub fn of_share(share: &str) -> Self {
        if let Some(account) = share.strip_prefix(OF_ACCOUNT) {
            Self::Account(AccountId::new(account))
        } else if let Some(group) = share.strip_prefix(OF_GROUP) {
            Self::Group(GroupId::new(group))
        } else {
            Self::Open
        }
    }

    /// Returns whether this is the open pool.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}

impl Standby {
    /// Makes this the standby of a job for `pool`. In a pool that isn't open the job waits in [`Lane::Own`], counted under the
    /// pool. If its client waits it is never held at first, because whether there are enough nodes is decided where they are
    /// known; other jobs always are.
    #[must_use]
    pub fn in_pool(self, pool: &NodePool) -> Self {
        let Some(share) = pool.share() else { return self };
        let offered_max = if self.lane == Lane::First { u32::MAX } else { 0 };
        Self { lane: Lane::Own, share, offered_max, ..self }
    }
}

/// A group that is about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGroup {
    /// Its id.
    pub id: GroupId,
    /// The account that it belongs to.
    pub account: AccountId,
    /// Its name, which no other group of the account has.
    pub name: String,
}

/// The outcome of making a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupMade {
    /// The group exists now.
    Made,
    /// The account has a group of this name.
    NameTaken,
    /// The account has as many groups as it may.
    Full,
    /// There is no such account.
    NoAccount,
}

/// A group of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeGroup {
    /// Its id.
    pub id: GroupId,
    /// The account that it belongs to.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_ms: Timestamp,
}

/// A group with its nodes and its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeGroup {
    /// The group.
    pub group: NodeGroup,
    /// Its members and those that are invited, the earliest first. Revoked nodes have left.
    pub nodes: Vec<GroupNode>,
    /// The accounts that may use it beside its own, the earliest first.
    pub accounts: Vec<AccountId>,
}

/// A node that a group's account wants in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupNode {
    /// The node.
    pub node: NodeId,
    /// The name that its runner chose.
    pub name: String,
    /// Its owner.
    pub owner: OwnerId,
    /// When it was invited.
    pub invited_ms: Timestamp,
    /// Since when its owner consents, which makes it a member; none while it is only invited.
    pub willing_ms: Option<Timestamp>,
}

/// A change of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// Adds a node: one of the changer's own by its name or id, another's by its id. The group's account invites a node of
    /// another owner by it, and that owner consents by the same change.
    AddNode(String),
    /// Removes a node, by its name if it is the changer's or by its id. The group's account may remove any node, and an owner
    /// its own, also one that is only invited.
    RemoveNode(String),
    /// Lets an account use the group; only the group's account may.
    Allow(AccountId),
    /// Takes that back; only the group's account may, and the account itself.
    Disallow(AccountId),
}

/// A change of a group, and the account that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOrder {
    /// The account.
    pub by: AccountId,
    /// The group.
    pub group: GroupId,
    /// The change.
    pub change: GroupChange,
}

/// The outcome of changing a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupChanged {
    /// The group is as wanted.
    Done,
    /// There is no such group, or the changer has nothing to say in it.
    NoGroup,
    /// There is no such node for the changer, or it isn't in the group.
    NoNode,
    /// There is no such account, or the group isn't open to it.
    NoAccount,
    /// The group has as many nodes or users as it may, the node as many invitations or memberships, or the account as many groups
    /// to use.
    Full,
}

/// Bounds of groups. Callers at the same moment may exceed them by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupBounds {
    /// The most groups of an account.
    pub groups_max: u32,
    /// The most nodes of a group, invited ones included.
    pub nodes_max: u32,
    /// The most accounts that may use a group beside its own.
    pub accounts_max: u32,
    /// The most groups of others that an account may use. They need no consent, so they are bounded for it.
    pub uses_max: u32,
    /// The most invitations of a node that its owner has not answered.
    pub invitations_max: u32,
    /// The most groups that a node is a member of, those of its own account included. With the fixed length of groups' ids this
    /// bounds the bytes, too, that draws keep of a node.
    pub memberships_max: u32,
}

/// What draws must know of single nodes, beyond what [`super::NodeWish`] says. Revoked nodes are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePools {
    /// Nodes that serve only jobs of their owners and of their groups.
    pub private: Vec<NodeId>,
    /// Backstop nodes of the network itself.
    pub backstops: Vec<NodeId>,
    /// The members of groups.
    pub members: Vec<(GroupId, NodeId)>,
    /// The accounts that may use groups, each group's own included.
    pub users: Vec<(GroupId, AccountId)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_read_back_from_its_share_and_no_other_share_is_one() {
        for pool in [NodePool::Account(AccountId::fresh()), NodePool::Group(GroupId::fresh())] {
            let share = pool.share().unwrap();
            assert_eq!(NodePool::of_share(share.as_str()), pool);
        }
        assert_eq!(NodePool::Open.share(), None);
        for share in ["", "net:192.0.2.0/24", AccountId::fresh().as_str()] {
            assert_eq!(NodePool::of_share(share), NodePool::Open, "{share}");
        }
    }

    #[test]
    fn only_what_a_client_waits_for_is_not_held_at_first() {
        let account = AccountId::fresh();
        let pool = NodePool::Account(account.clone());
        for (lane, is_held) in [(Lane::First, false), (Lane::Later, true)] {
            let standby = Standby { lane, ..Standby::never_held(&account) }.in_pool(&pool);
            assert_eq!((standby.lane, standby.is_held(1_000)), (Lane::Own, is_held));
            assert_eq!(Some(standby.share), pool.share());
        }
        let open = Standby::never_held(&account).in_pool(&NodePool::Open);
        assert_eq!(open, Standby::never_held(&account));
    }
}
