//! What an operator may order about groups of nodes, as the command line says it and the gateway's crate carries it out.

/// One order about the groups of an account. Groups, nodes and accounts are named as the operator wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupTask<'a> {
    /// Make a group of this name.
    Create(&'a str),
    /// List the groups.
    List,
    /// Show this group.
    Show(&'a str),
    /// Add a node to a group, or consent.
    AddNode(&'a str, &'a str),
    /// Remove a node from a group.
    RemoveNode(&'a str, &'a str),
    /// Let an account use a group.
    Allow(&'a str, &'a str),
    /// Take that back.
    Disallow(&'a str, &'a str),
    /// Delete a group.
    Delete(&'a str),
}
