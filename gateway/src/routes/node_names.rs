//! Names of nodes in requests: which texts are names, and which node of the caller's a name leads to.
//!
//! The seed calls the same thing `node_id`, `node_name` and `node_url`. Here each is the name that the node was registered
//! with. A name may look like a URL; nothing ever connects to it.

use std::sync::Arc;

use infera_ledger::{LedgerError, NodeReader, NodeRoster, NodeView, Scope, Whose};
use infera_types::admission::Refusal;
use infera_types::ids::OwnerId;

use crate::access::Caller;
use crate::api::error::ApiError;
use crate::fastapi::{Flaw, Json, Mistakes, Step};

/// The largest length of a name, in characters. Any host's name fits.
pub(super) const NAME_MAX: usize = 255;
/// The smallest length of a name, in characters.
pub(super) const NAME_MIN: usize = 1;

/// The ledger's parts that know the callers' nodes.
#[derive(Debug)]
pub(crate) struct Runners {
    /// Nodes as their owners see them.
    pub(crate) roster: Arc<dyn NodeRoster>,
    /// What nodes did.
    pub(crate) reader: Arc<dyn NodeReader>,
}

/// Returns whether a text can be a node's name.
pub(super) fn is_name(text: &str) -> bool {
    (NAME_MIN..=NAME_MAX).contains(&text.chars().count()) && !text.contains(char::is_control)
}

/// Notes it if the text in `field` can't be a node's name.
pub(super) fn check_name(mistakes: &mut Mistakes, field: &'static str, name: &str) {
    if !is_name(name) {
        let message = format!(
            "String should have {NAME_MIN} to {NAME_MAX} characters, none of them a control character"
        );
        mistakes.add(&[Step::name(field)], Flaw::new("value_error", message), &Json::Null);
    }
}

/// Returns the nodes that a caller may see and manage: those of its account, or all for an administrator. What a node
/// earns and does shows what its owner earns, and names can be guessed; so other nodes look like unknown ones.
pub(super) fn nodes_of(caller: &Caller) -> Whose {
    if caller.scopes.permits(Scope::Admin) {
        return Whose::Anyone;
    }
    Whose::Of(OwnerId::of_account(&caller.account))
}

impl Runners {
    /// Returns the caller's node of this name.
    ///
    /// # Errors
    /// [`Refusal::NotYours`], or the ledger's error.
    pub(super) async fn node(&self, caller: &Caller, name: &str) -> Result<NodeView, ApiError> {
        found(self.roster.node_of(&nodes_of(caller), name).await)
    }
}

/// Returns the node that was found.
///
/// # Errors
/// [`Refusal::NotYours`], or the ledger's error.
pub(super) fn found(node: Result<Option<NodeView>, LedgerError>) -> Result<NodeView, ApiError> {
    node.map_err(|error| failed(&error))?.ok_or(ApiError::Node(Refusal::NotYours))
}

/// Logs the ledger's error and returns what the client is told.
pub(super) fn failed(error: &LedgerError) -> ApiError {
    tracing::error!(%error, "a node could not be looked up or changed");
    ApiError::from(error)
}
