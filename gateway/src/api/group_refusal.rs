//! Why something about a group of nodes isn't done, with the sentences.

/// Why something about a group of nodes isn't done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupRefusal {
    /// There is no such group, or the account has nothing to say in it. Both look alike.
    Unknown,
    /// There is no such node for the account, or it isn't in the group.
    NoNode,
    /// There is no such account, or the group isn't open to it.
    NoAccount,
    /// The account has a group of this name.
    NameTaken,
    /// A bound of the group, of its account or of the node is reached.
    Full(&'static str),
}

impl GroupRefusal {
    /// Returns the code that programs compare.
    #[must_use]
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Unknown => "node_group_not_found",
            Self::NoNode => "node_not_found",
            Self::NoAccount => "not_found",
            Self::NameTaken => "node_group_name_taken",
            Self::Full(_) => "node_group_full",
        }
    }

    /// Returns what is wrong and what to do.
    #[must_use]
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Unknown => {
                "No group of nodes of this name or id is open to this account; GET /v1/node-groups lists those that are. Another \
                 account's group is named by its id."
            }
            Self::NoNode => {
                "There is no such node, or it is not in this group. Name a node of this account by its name or id, another's by \
                 its id."
            }
            Self::NoAccount => {
                "There is no such account, or this group is not open to it. Name it by its id."
            }
            Self::NameTaken => "This account has a group of this name.",
            Self::Full(bound) => bound,
        }
    }
}
