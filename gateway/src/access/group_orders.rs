//! What is done about groups of nodes, for the API and for an operator's commands alike: each order is carried out on a ledger on
//! behalf of an account, and changes only what that account may change.

use infera_ledger::{
    AccountLook, GroupBounds, GroupChange, GroupChanged, GroupMade, GroupNode, GroupOrder, LedgerError,
    NewGroup, NodeGroup, NodeGroupBook, PoolBook, WholeGroup,
};
use infera_types::group_task::GroupTask;
use infera_types::ids::{AccountId, GroupId, OwnerId};
use infera_types::time::Timestamp;

use super::account_name::account_named;
use crate::api::nodes_wanted::is_group_name;

/// The bounds of groups. An account with more than fifty sorts of jobs is rare; a thousand nodes are a data centre; a hundred users
/// and fifty open invitations are more than people keep an eye on, and so are fifty groups of others to use. A node is in all fifty
/// groups that its account may have, and in as many of others: every verifier keeps these ids for each of its nodes, 4 kB each, so
/// 40 MB for ten thousand.
pub const BOUNDS: GroupBounds = GroupBounds {
    groups_max: 50,
    nodes_max: 1_000,
    accounts_max: 100,
    uses_max: 50,
    invitations_max: 50,
    memberships_max: 100,
};

/// The largest number of groups in a list. An account's own and those that it may use are a hundred at most and come first; those
/// that its nodes are in come next. Each of its nodes may have fifty invitations, so the last of these may be left out.
pub const LISTED_MAX: u32 = 1_000;

/// Why an order about groups isn't carried out.
#[derive(Debug, thiserror::Error)]
pub enum GroupOrderError {
    /// There is no such account.
    #[error("there is no account {0}: name its id (acct…) or the address that it signed up with")]
    NoAccount(String),
    /// There is no such group, or the account has nothing to say in it.
    #[error("there is no group {0} in which this account has something to say")]
    NoGroup(String),
    /// There is no such node, or it isn't in the group.
    #[error(
        "there is no node {0} for this account, or it is not in the group; name another account's node by its id"
    )]
    NoNode(String),
    /// The account has a group of this name.
    #[error("the account has a group of this name")]
    NameTaken,
    /// A text can't be a group's name.
    #[error(
        "a group's name has up to 64 letters, digits, dots, hyphens and underscores, and does not begin with grp_"
    )]
    NoName,
    /// A bound is reached.
    #[error("{0}")]
    Full(&'static str),
    /// The ledger is at fault.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Makes a group of an account.
///
/// # Errors
/// [`GroupOrderError`].
pub async fn create(
    book: &dyn NodeGroupBook,
    account: &AccountId,
    name: &str,
) -> Result<NodeGroup, GroupOrderError> {
    if !is_group_name(name) {
        return Err(GroupOrderError::NoName);
    }
    let now = Timestamp::now();
    let new = NewGroup { id: GroupId::fresh(), account: account.clone(), name: name.to_owned() };
    match book.create_group(&new, &BOUNDS, now).await? {
        GroupMade::Made => {
            let NewGroup { id, account, name } = new;
            Ok(NodeGroup { id, account, name, created_ms: now })
        }
        GroupMade::NameTaken => Err(GroupOrderError::NameTaken),
        GroupMade::Full => Err(GroupOrderError::Full("This account has 50 groups, which is the most.")),
        GroupMade::NoAccount => Err(GroupOrderError::NoAccount(account.to_string())),
    }
}

/// Returns a group that an account names by its id, or by its name if it is its own, as far as the account has to do with it.
///
/// # Errors
/// [`GroupOrderError::NoGroup`], or the ledger's error.
pub async fn find(
    book: &dyn NodeGroupBook,
    account: &AccountId,
    named: &str,
) -> Result<WholeGroup, GroupOrderError> {
    let none = || GroupOrderError::NoGroup(named.to_owned());
    let id = book.usable_group(account, named).await?.unwrap_or_else(|| GroupId::new(named));
    let whole = book.group(&id).await?.ok_or_else(none)?;
    let owner = OwnerId::of_account(account);
    let is_concerned = whole.group.account == *account
        || whole.accounts.contains(account)
        || whole.nodes.iter().any(|node| node.owner == owner);
    if is_concerned { Ok(whole) } else { Err(none()) }
}

/// Changes a group on behalf of an account, and returns it as it is then; none if the account has nothing to do with it any more.
///
/// # Errors
/// [`GroupOrderError`].
pub async fn change(
    book: &dyn NodeGroupBook,
    by: &AccountId,
    named: &str,
    change: GroupChange,
) -> Result<Option<WholeGroup>, GroupOrderError> {
    let found = find(book, by, named).await?.group;
    let is_own = found.account == *by;
    let order = GroupOrder { by: by.clone(), group: found.id, change };
    match book.change_group(&order, &BOUNDS, Timestamp::now()).await? {
        GroupChanged::Done => {}
        GroupChanged::NoGroup => return Err(GroupOrderError::NoGroup(named.to_owned())),
        GroupChanged::NoNode => return Err(GroupOrderError::NoNode(subject(&order.change))),
        GroupChanged::NoAccount => return Err(GroupOrderError::NoAccount(subject(&order.change))),
        GroupChanged::Full => {
            return Err(GroupOrderError::Full(match order.change {
                GroupChange::Allow(_) => {
                    "100 accounts may use this group, or this account may use 50 groups of others, which is the most."
                }
                _ if is_own => {
                    "This group has 1000 nodes, or the node is in 100 groups or has 50 invitations that its owner has not answered, which is the most."
                }
                _ => "This node is in 100 groups, which is the most. Take it out of another one first.",
            }));
        }
    }
    match find(book, by, order.group.as_str()).await {
        Ok(whole) => Ok(Some(whole)),
        Err(GroupOrderError::NoGroup(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn subject(change: &GroupChange) -> String {
    match change {
        GroupChange::AddNode(node) | GroupChange::RemoveNode(node) => node.clone(),
        GroupChange::Allow(account) | GroupChange::Disallow(account) => account.to_string(),
    }
}

/// Deletes a group of an account, and returns its id.
///
/// # Errors
/// [`GroupOrderError`].
pub async fn delete(
    book: &dyn NodeGroupBook,
    by: &AccountId,
    named: &str,
) -> Result<GroupId, GroupOrderError> {
    let group = find(book, by, named).await?.group.id;
    let is_deleted = book.delete_group(by, &group).await?;
    if is_deleted { Ok(group) } else { Err(GroupOrderError::NoGroup(named.to_owned())) }
}

/// Carries out what an operator orders for the account of this id or address, and returns what is said of it.
///
/// # Errors
/// [`GroupOrderError`].
pub async fn carry_out<L>(ledger: &L, named: &str, task: GroupTask<'_>) -> Result<String, GroupOrderError>
where
    L: NodeGroupBook + AccountLook,
{
    let by = account(ledger, named).await?;
    let (group, change) = match task {
        GroupTask::Create(name) => return Ok(line(&create(ledger, &by, name).await?)),
        GroupTask::List => {
            let groups = ledger.groups_of(&by, LISTED_MAX).await?;
            return Ok(groups.iter().map(line).collect::<Vec<_>>().join("\n"));
        }
        GroupTask::Show(group) => return Ok(lines(&find(ledger, &by, group).await?)),
        GroupTask::Delete(group) => {
            return Ok(format!("{} is deleted", delete(ledger, &by, group).await?));
        }
        GroupTask::AddNode(group, node) => (group, GroupChange::AddNode(node.to_owned())),
        GroupTask::RemoveNode(group, node) => (group, GroupChange::RemoveNode(node.to_owned())),
        GroupTask::Allow(group, other) => (group, GroupChange::Allow(account(ledger, other).await?)),
        GroupTask::Disallow(group, other) => (group, GroupChange::Disallow(account(ledger, other).await?)),
    };
    let changed = self::change(ledger, &by, group, change).await?;
    Ok(changed.map_or_else(|| format!("{by} has nothing to do with {group} any more"), |whole| lines(&whole)))
}

/// Returns the line that a list has for a group: id, account and name.
fn line(group: &NodeGroup) -> String {
    format!("{} {} {}", group.id, group.account, group.name)
}

/// Returns the lines that show a group: itself, its nodes and its users.
fn lines(whole: &WholeGroup) -> String {
    let node = |node: &GroupNode| {
        let status = if node.willing_ms.is_some() { "member" } else { "invited" };
        format!("  node {} of {} {status}", node.node, node.owner)
    };
    let nodes = whole.nodes.iter().map(node);
    let accounts = whole.accounts.iter().map(|account| format!("  account {account}"));
    let all: Vec<String> = [line(&whole.group)].into_iter().chain(nodes).chain(accounts).collect();
    all.join("\n")
}

/// Makes a node a backstop of the network or an ordinary one, on an operator's order, and returns a sentence about it.
///
/// # Errors
/// [`GroupOrderError::NoNode`], or the ledger's error.
pub async fn backstop(
    book: &dyn PoolBook,
    named: &str,
    is_backstop: bool,
) -> Result<String, GroupOrderError> {
    let found = book.set_backstop(named, is_backstop, Timestamp::now()).await?;
    let record = found.ok_or_else(|| GroupOrderError::NoNode(named.to_owned()))?;
    let is = if is_backstop {
        "is a backstop: it is asked only where others can't fill a group, and earns no points"
    } else {
        "is a node like others"
    };
    Ok(format!("{} ({}) {is}; verifiers know it within a second", record.id, record.name))
}

async fn account(book: &dyn AccountLook, named: &str) -> Result<AccountId, GroupOrderError> {
    account_named(book, named).await?.ok_or_else(|| GroupOrderError::NoAccount(named.to_owned()))
}
