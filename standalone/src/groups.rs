//! The operator's commands about groups of nodes and backstop nodes, on the ledger of a data folder that no `infera up` has.

use std::path::Path;

use infera_gateway::access::group_orders::{self, GroupOrderError};
use infera_program::Failure;
use infera_program::group_command::{GroupCommand, Switch};

use crate::cli::{GroupOptions, NodeCommand, Settings};
use crate::commands::ledger_in;
use crate::config::Config;

/// Does what a command about groups of nodes asks, in the folder of its settings.
///
/// # Errors
/// As [`act`]; and settings that cannot be read.
pub async fn of_group(
    options: GroupOptions,
    load: impl Fn(Settings) -> Result<Config, Failure>,
) -> Result<String, Failure> {
    act(&load(options.settings)?.data, &options.command).await
}

/// Does what a command about a single node asks, in the folder of its settings.
///
/// # Errors
/// As [`backstop`]; and settings that cannot be read.
pub async fn of_node(
    command: NodeCommand,
    load: impl Fn(Settings) -> Result<Config, Failure>,
) -> Result<String, Failure> {
    let NodeCommand::Backstop { node, switch, settings } = command;
    backstop(&load(settings)?.data, &node, switch).await
}

/// Carries out a command about groups and returns what it says.
///
/// # Errors
/// A folder in use is refused; so is what is told of a group, a node or an account that doesn't exist.
pub async fn act(data: &Path, command: &GroupCommand) -> Result<String, Failure> {
    let ledger = ledger_in(data).await?;
    let (account, task) = command.task();
    group_orders::carry_out(ledger.as_ref(), account, task).await.map_err(not_done)
}

/// Makes a node a backstop of the network, or an ordinary one, and returns what is said of it.
///
/// # Errors
/// As [`act`].
pub async fn backstop(data: &Path, node: &str, switch: Switch) -> Result<String, Failure> {
    let ledger = ledger_in(data).await?;
    group_orders::backstop(ledger.as_ref(), node, switch == Switch::On).await.map_err(not_done)
}

/// Maps why an order isn't carried out to the exit code of whose fault it is.
fn not_done(error: GroupOrderError) -> Failure {
    match error {
        GroupOrderError::NoName => Failure::settings(error),
        GroupOrderError::Ledger(error) => error.into(),
        _ => Failure::refused(error),
    }
}
