//! Finds out whether a job has too few nodes because those that serve its model can't do what it asks, and says so.

use std::collections::BTreeSet;

use infera_ledger::{NodePool, TakenJob};
use infera_types::ids::OwnerId;
use tokio::time::Instant;

use super::prompt::Prepared;
use crate::decisions::abilities::lacking;
use crate::decisions::group_draw::{Candidate, Distinct, machines};
use crate::nodes::fleet;
use crate::tenure::Tenure;

/// Returns what the client of a job is told if nodes enough serve its model and too few of them can do what it asks.
pub(super) fn unable(
    tenure: &Tenure,
    job: &TakenJob,
    prepared: &Prepared,
    distinct: Distinct,
) -> Option<String> {
    let snapshot = tenure.ledger_view.snapshot();
    let views = tenure.nodes.views(&prepared.entry.digests, Instant::now());
    let fleet = fleet(&snapshot, &job.model, &views, &job.pool, Some(&job.account))
        .only(&views, |view| prepared.is_rendered_by(view.rendering));
    let wanted = job.policy.replicas;
    let lacking = lacking(&prepared.needed, usize::from(wanted), |features| {
        let able = fleet.candidates.iter().filter(|one| one.can_do(features));
        if job.pool.is_open() {
            strangers(able, job, distinct)
        } else {
            machines(&able.cloned().collect::<Vec<_>>(), &job.pool).1
        }
    })?;
    let whose = match &job.pool {
        NodePool::Open => "nodes of different owners",
        NodePool::Account(_) => "nodes of this account on different machines",
        NodePool::Group(_) => "nodes of this group on different machines",
    };
    Some(format!(
        "Too few {whose} that serve this model can do what the request needs: {wanted} are needed with {lacking}. Leave out of the \
         request what needs it, or try later, when they are upgraded."
    ))
}

/// Counts the different nodes that may be asked for a stranger's job.
fn strangers<'a>(
    candidates: impl Iterator<Item = &'a Candidate>,
    job: &TakenJob,
    distinct: Distinct,
) -> usize {
    let own = OwnerId::of_account(&job.account);
    let may_be_asked = |one: &&Candidate| {
        let is_own = distinct == Distinct::Owner && one.owner == own;
        !one.ejected && !one.is_private && !is_own
    };
    let parties = candidates.filter(may_be_asked).map(|one| distinct.party(&one.owner, &one.node));
    parties.collect::<BTreeSet<_>>().len()
}
