//! The commands about groups of nodes and backstop nodes, as they are typed. Every program that holds a ledger's nodes has the
//! same; each carries them out on its own ledger.

use clap::{Subcommand, ValueEnum};

/// The commands about groups of nodes. Each acts for an account, named by its id or by the e-mail address that it signed up with,
/// and does no more than that account may. A group is named by its id, or by its name if it is the account's own.
#[derive(Clone, Debug, Subcommand)]
pub enum GroupCommand {
    /// Make an empty group.
    Create {
        /// The account.
        account: String,
        /// The group's name.
        name: String,
    },
    /// List the groups that the account has to do with, the earliest first.
    List {
        /// The account.
        account: String,
    },
    /// Show a group's nodes and the accounts that may use it.
    Show {
        /// The account.
        account: String,
        /// The group.
        group: String,
    },
    /// Add a node: the group's account adds its own or invites another's, and a node's owner consents.
    AddNode {
        /// The account.
        account: String,
        /// The group.
        group: String,
        /// The node: the account's own by its name or id, another's by its id.
        node: String,
    },
    /// Remove a node.
    RemoveNode {
        /// The account.
        account: String,
        /// The group.
        group: String,
        /// The node.
        node: String,
    },
    /// Let another account use a group.
    Allow {
        /// The account.
        account: String,
        /// The group.
        group: String,
        /// The other account.
        other: String,
    },
    /// Take back that another account may use a group.
    Disallow {
        /// The account.
        account: String,
        /// The group.
        group: String,
        /// The other account.
        other: String,
    },
    /// Delete a group.
    Delete {
        /// The account.
        account: String,
        /// The group.
        group: String,
    },
}

/// Whether something is switched on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}
