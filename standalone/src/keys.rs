//! The operator's commands about API keys, on the ledger of a data folder.

use std::path::Path;

use infera_program::Failure;
use infera_program::key_command::KeyCommand;

use crate::commands;
use crate::ledger_orders::LedgerOrder;

/// Carries out a command about keys and returns what it says.
///
/// # Errors
/// What is told of a key or an account that doesn't exist is refused.
pub async fn act(data: &Path, command: &KeyCommand) -> Result<String, Failure> {
    commands::order(data, LedgerOrder::Key(command.clone())).await
}
