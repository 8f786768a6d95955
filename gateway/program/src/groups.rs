//! The operator's commands about groups of nodes and backstop nodes. Verifiers act on what they change within a second.

use infera_gateway::access::group_orders::{self, GroupOrderError};
use infera_ledger::{AccountLook, NodeGroupBook, PoolBook};
use infera_program::group_command::{GroupCommand, Switch};
use infera_program::{Failure, print};

/// Carries out a command about groups.
pub(super) async fn act<L>(command: &GroupCommand, ledger: &L) -> Result<(), Failure>
where
    L: NodeGroupBook + AccountLook,
{
    let (account, task) = command.task();
    Ok(print(&group_orders::carry_out(ledger, account, task).await.map_err(not_done)?)?)
}

/// Makes a node a backstop of the network, or an ordinary one.
pub(super) async fn backstop(node: &str, switch: Switch, book: &dyn PoolBook) -> Result<(), Failure> {
    Ok(print(&group_orders::backstop(book, node, switch == Switch::On).await.map_err(not_done)?)?)
}

/// Maps why an order isn't carried out to the exit code of whose fault it is.
fn not_done(error: GroupOrderError) -> Failure {
    match error {
        GroupOrderError::NoName => Failure::settings(error),
        GroupOrderError::Ledger(error) => error.into(),
        _ => Failure::refused(error),
    }
}
