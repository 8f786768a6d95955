//! What is different for a job that goes to nodes of its account or of a group: the members of its group are told apart by their
//! machines, and what is told where there are too few. Such a job shares no nodes' room with others, so it waits in no line with
//! them.

use infera_ledger::{NodePool, TakenJob};
use infera_types::ids::Digest;
use tokio::time::Instant;

use crate::decisions::group_draw::{Distinct, machines};
use crate::nodes::fleet;
use crate::tenure::Tenure;

/// Returns what makes the members of a group from `pool` different: for strangers' nodes what the operator says. An account may
/// trust its own machines, so agreement guards against broken ones there.
pub(super) const fn distinct(of_strangers: Distinct, pool: &NodePool) -> Distinct {
    match (of_strangers, pool) {
        (Distinct::Owner, NodePool::Account(_) | NodePool::Group(_)) => Distinct::Machine,
        _ => of_strangers,
    }
}

/// Returns what the client of a job is told for whose pool there are too few nodes.
pub(super) fn too_few(tenure: &Tenure, job: &TakenJob, digests: &[Digest]) -> String {
    let snapshot = tenure.ledger_view.snapshot();
    let views = tenure.nodes.views(digests, Instant::now());
    let fleet = fleet(&snapshot, &job.model, &views, &job.pool, Some(&job.account));
    let (nodes, machines) = machines(&fleet.candidates, &job.pool);
    let whose = match &job.pool {
        NodePool::Group(_) => "nodes of this group",
        _ => "nodes of this account",
    };
    let wanted = job.policy.replicas;
    format!(
        "Too few {whose} serve this model: {nodes} do, on {machines} different machines, and the request asks for {wanted}. \
         Start more of them, ask for one replica, or leave out verification.nodes."
    )
}
