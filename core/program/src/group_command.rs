//! The commands about groups of nodes and backstop nodes, as they are typed. Every program that holds a ledger's nodes has the
//! same; each carries them out on its own ledger.

use clap::{Subcommand, ValueEnum};
use infera_types::group_task::GroupTask;
use serde::{Deserialize, Serialize};

/// The commands about groups of nodes. Each acts for an account, named by its id or by the e-mail address that it signed up with,
/// and does no more than that account may. A group is named by its id, or by its name if it is the account's own.
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl GroupCommand {
    /// Returns the account that the command acts for, and what it orders.
    #[must_use]
    pub fn task(&self) -> (&str, GroupTask<'_>) {
        match self {
            Self::Create { account, name } => (account, GroupTask::Create(name)),
            Self::List { account } => (account, GroupTask::List),
            Self::Show { account, group } => (account, GroupTask::Show(group)),
            Self::AddNode { account, group, node } => (account, GroupTask::AddNode(group, node)),
            Self::RemoveNode { account, group, node } => (account, GroupTask::RemoveNode(group, node)),
            Self::Allow { account, group, other } => (account, GroupTask::Allow(group, other)),
            Self::Disallow { account, group, other } => (account, GroupTask::Disallow(group, other)),
            Self::Delete { account, group } => (account, GroupTask::Delete(group)),
        }
    }
}

/// Whether something is switched on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(subcommand)]
        command: GroupCommand,
    }

    /// Each word that is typed reaches the order in its place: the account, the group, then the node or the other account.
    #[test]
    fn what_is_typed_is_what_is_ordered() {
        for (typed, task) in [
            ("create a lab", GroupTask::Create("lab")),
            ("list a", GroupTask::List),
            ("show a g", GroupTask::Show("g")),
            ("add-node a g n", GroupTask::AddNode("g", "n")),
            ("remove-node a g n", GroupTask::RemoveNode("g", "n")),
            ("allow a g b", GroupTask::Allow("g", "b")),
            ("disallow a g b", GroupTask::Disallow("g", "b")),
            ("delete a g", GroupTask::Delete("g")),
        ] {
            let words = ["node-group"].into_iter().chain(typed.split(' '));
            assert_eq!(Typed::try_parse_from(words).expect(typed).command.task(), ("a", task), "{typed}");
        }
    }
}
