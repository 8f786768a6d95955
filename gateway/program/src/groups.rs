//! The operator's commands about groups of nodes and backstop nodes. Verifiers act on what they change within a second.

use infera_gateway::access::group_orders::{self, GroupOrderError, GroupTask};
use infera_ledger::{AccountLook, NodeGroupBook, PoolBook};
use infera_program::group_command::{GroupCommand, Switch};
use infera_program::{Failure, print};

/// Carries out a command about groups.
pub(super) async fn act<L>(command: &GroupCommand, ledger: &L) -> Result<(), Failure>
where
    L: NodeGroupBook + AccountLook,
{
    let (account, task) = task(command);
    Ok(print(&group_orders::carry_out(ledger, account, task).await.map_err(not_done)?)?)
}

/// Makes a node a backstop of the network, or an ordinary one.
pub(super) async fn backstop(node: &str, switch: Switch, book: &dyn PoolBook) -> Result<(), Failure> {
    Ok(print(&group_orders::backstop(book, node, switch == Switch::On).await.map_err(not_done)?)?)
}

/// Returns the account that a command acts for, and what it orders.
fn task(command: &GroupCommand) -> (&str, GroupTask<'_>) {
    match command {
        GroupCommand::Create { account, name } => (account, GroupTask::Create(name)),
        GroupCommand::List { account } => (account, GroupTask::List),
        GroupCommand::Show { account, group } => (account, GroupTask::Show(group)),
        GroupCommand::AddNode { account, group, node } => (account, GroupTask::AddNode(group, node)),
        GroupCommand::RemoveNode { account, group, node } => (account, GroupTask::RemoveNode(group, node)),
        GroupCommand::Allow { account, group, other } => (account, GroupTask::Allow(group, other)),
        GroupCommand::Disallow { account, group, other } => (account, GroupTask::Disallow(group, other)),
        GroupCommand::Delete { account, group } => (account, GroupTask::Delete(group)),
    }
}

/// Maps why an order isn't carried out to the exit code of whose fault it is.
fn not_done(error: GroupOrderError) -> Failure {
    match error {
        GroupOrderError::NoName => Failure::settings(error),
        GroupOrderError::Ledger(error) => error.into(),
        _ => Failure::refused(error),
    }
}
