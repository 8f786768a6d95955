//! Finds out which nodes a job may go to: what the request says, or else the caller's key.

use infera_ledger::NodePool;

use super::handle::Jobs;
use crate::access::Caller;
use crate::api::error::ApiError;
use crate::api::group_refusal::GroupRefusal;
use crate::api::nodes_wanted::NodesWanted;

/// Returns the pool of a job that the caller asks for. A group that a key names by default is looked up where the job's nodes are
/// drawn.
///
/// # Errors
/// [`GroupRefusal::Unknown`], or the ledger's error.
pub(super) async fn pool_of(
    jobs: &Jobs,
    caller: &Caller,
    wanted: Option<&NodesWanted>,
) -> Result<NodePool, ApiError> {
    match wanted {
        None => Ok(caller.pool.clone()),
        Some(NodesWanted::Any) => Ok(NodePool::Open),
        Some(NodesWanted::Own) => Ok(NodePool::Account(caller.account.clone())),
        Some(NodesWanted::Group(named)) => {
            let found = jobs.groups.usable_group(&caller.account, named).await.map_err(|error| {
                tracing::error!(%error, "a group of nodes could not be looked up");
                ApiError::from(&error)
            })?;
            found.map(NodePool::Group).ok_or(ApiError::Group(GroupRefusal::Unknown))
        }
    }
}
