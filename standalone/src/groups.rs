//! The operator's commands about groups of nodes and backstop nodes, on the ledger of a data folder.

use infera_program::Failure;
use infera_program::group_command::Switch;

use crate::cli::{GroupOptions, NodeCommand, Settings};
use crate::commands;
use crate::config::Config;
use crate::ledger_orders::LedgerOrder;

/// Does what a command about groups of nodes asks, in the folder of its settings.
///
/// # Errors
/// What is told of a group, a node or an account that doesn't exist is refused; and settings that cannot be read.
pub async fn of_group(
    options: GroupOptions,
    load: impl Fn(Settings) -> Result<Config, Failure>,
) -> Result<String, Failure> {
    commands::order(&load(options.settings)?.data, LedgerOrder::Group(options.command)).await
}

/// Does what a command about a single node asks, in the folder of its settings.
///
/// # Errors
/// As [`of_group`].
pub async fn of_node(
    command: NodeCommand,
    load: impl Fn(Settings) -> Result<Config, Failure>,
) -> Result<String, Failure> {
    let NodeCommand::Backstop { node, switch, settings } = command;
    let order = LedgerOrder::Backstop { node, is_backstop: switch == Switch::On };
    commands::order(&load(settings)?.data, order).await
}
