//! What an operator does about nodes' owners and nodes, until accounts manage their own: let an account's nodes in, and
//! shut one node out. One row each; what follows from it is the gateways' and the warden's.

use clap::Subcommand;
use infera_gateway::nodes;
use infera_ledger::NodeBook;
use infera_program::{Failure, print};
use infera_types::ids::NodeId;

/// About accounts.
#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// Give an account the scope `fleet`: its nodes may come in over the broker.
    Fleet {
        /// The address that it signed up with.
        email: String,
    },
}

/// About nodes.
#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Shut a node out for good; what it earned stays.
    Revoke {
        /// Its id, as its worker's log says it (`node=…`).
        id: String,
    },
}

/// Does one of the first kind.
pub(super) async fn account(command: &AccountCommand, book: &dyn NodeBook) -> Result<(), Failure> {
    let AccountCommand::Fleet { email } = command;
    match nodes::allow_fleet(book, email).await? {
        Some(account) => Ok(print(&format!("{account}: its nodes may come in"))?),
        None => Err(Failure::refused(format!("nobody signed up as {email}: POST /signup_user first"))),
    }
}

/// Does one of the second kind.
pub(super) async fn node(command: &NodeCommand, book: &dyn NodeBook) -> Result<(), Failure> {
    let NodeCommand::Revoke { id } = command;
    match nodes::revoke(book, &NodeId::new(id.as_str())).await? {
        Some(node) => Ok(print(&format!(
            "{} ({}) is shut out; its connections close within a minute",
            node.id, node.name
        ))?),
        None => Err(Failure::refused(format!("there is no node {id}"))),
    }
}
