//! Finds which queues of jobs hold nothing and which are stuck, and declares those again that are stuck for good.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::StreamExt as _;
use infera_broker::{BrokerError, topology};
use infera_types::ids::ModelName;
use infera_types::service::Lane;

use super::several::several;
use crate::tenure::Tenure;

/// How often a queue must be found stuck, without a sign of life between, before it is deleted and declared again: one that
/// is just electing a leader isn't stuck, and would lose its order.
const STUCK_TIMES: u32 = 2;

/// A queue of jobs, by its model and lane.
pub(super) type JobsQueue = (ModelName, Lane);

/// What a sweep saw of the queues of jobs. A queue that showed nothing is in neither set.
#[derive(Default)]
pub(super) struct Signs {
    pub(super) stuck: BTreeSet<JobsQueue>,
    pub(super) alive: BTreeSet<JobsQueue>,
}

/// Returns the queues that were found stuck often enough, with these signs. They are no suspects any more.
pub(super) fn condemned(suspects: &mut BTreeMap<JobsQueue, u32>, signs: Signs) -> Vec<JobsQueue> {
    suspects.retain(|queue, _| !signs.alive.contains(queue));
    for queue in signs.stuck.difference(&signs.alive) {
        *suspects.entry(queue.clone()).or_default() += 1;
    }
    suspects.extract_if(.., |_, times| *times >= STUCK_TIMES).map(|(queue, _)| queue).collect()
}

/// Deletes a queue of jobs and declares it again. The next sweep finds it empty and hands out what waited there.
pub(super) async fn declare_again(tenure: &Tenure, (model, lane): &JobsQueue) {
    let queue = topology::jobs_in(model, *lane);
    let lane = lane.word();
    let made = match tenure.seams.broker.delete(&queue.name).await {
        Ok(()) => tenure.seams.broker.declare(&queue).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(()) => {
            tenure.counters.queues_repaired.add_one();
            tracing::error!(%model, lane, "the jobs' queue was stuck and is declared again; its jobs are handed out again");
        }
        Err(error) => {
            tracing::error!(%model, lane, %error, "the jobs' queue is stuck and can't be declared again")
        }
    }
}

/// Returns the queues of jobs that hold nothing, or were just declared (again). A queue that can't be asked isn't empty.
pub(super) async fn empty_queues(tenure: &Tenure, signs: &mut Signs) -> Vec<JobsQueue> {
    let snapshot = tenure.ledger_view.snapshot();
    let queues =
        snapshot.catalogue.keys().flat_map(|model| Lane::ALL.iter().map(|lane| (model.clone(), *lane)));
    let looks = queues.map(|(model, lane)| async move {
        let queue = topology::jobs_in(&model, lane);
        let depth = match tenure.seams.broker.declare(&queue).await {
            Ok(()) => tenure.seams.broker.depth(&queue.name).await,
            Err(error) => Err(error),
        };
        ((model, lane), depth)
    });
    let mut looks = several(looks);
    let mut empty = Vec::new();
    while let Some((queue, depth)) = looks.next().await {
        match depth {
            Ok(Some(0) | None) => empty.push(queue),
            Ok(Some(_)) => drop(signs.alive.insert(queue)),
            Err(BrokerError::Stuck(_)) => drop(signs.stuck.insert(queue)),
            Err(error) => {
                let (model, lane) = (&queue.0, queue.1.word());
                tracing::warn!(%model, lane, %error, "the jobs' queue can't be asked");
            }
        }
    }
    empty
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queues by their models' names; one that ends with a plus is the later one.
    fn queues(names: &[&str]) -> BTreeSet<JobsQueue> {
        let lane = |name: &str| if name.ends_with('+') { Lane::Later } else { Lane::First };
        names.iter().map(|name| (ModelName::new(name.trim_end_matches('+')), lane(name))).collect()
    }

    #[test]
    fn a_queue_is_condemned_by_two_findings_without_a_sign_of_life_between() {
        for (sweeps, condemned_at) in [
            (vec![("m", ""), ("m", "")], Some(1)),
            // Nothing was to be seen for a while.
            (vec![("m", ""), ("", ""), ("", ""), ("m", "")], Some(3)),
            (vec![("m", ""), ("", "m"), ("m", "")], None),
            // Both in one sweep: it lives.
            (vec![("m", ""), ("m", "m"), ("m", "")], None),
            (vec![("m", ""), ("other", "other")], None),
            // The model's other queue shows nothing of this one.
            (vec![("m", "m+"), ("m", "m+")], Some(1)),
            (vec![("m", ""), ("m+", "")], None),
            (vec![("m", "")], None),
        ] {
            let mut suspects = BTreeMap::new();
            let found = sweeps.iter().position(|(stuck, alive)| {
                let signs = Signs { stuck: queues(&[stuck]), alive: queues(&[alive]) };
                condemned(&mut suspects, signs).contains(&(ModelName::new("m"), Lane::First))
            });
            assert_eq!(found, condemned_at, "{sweeps:?}");
        }
    }

    #[test]
    fn a_queue_made_anew_is_no_suspect() {
        let mut suspects = BTreeMap::new();
        let stuck = || Signs { stuck: queues(&["m"]), ..Signs::default() };
        assert!(condemned(&mut suspects, stuck()).is_empty());
        assert_eq!(condemned(&mut suspects, stuck()).len(), 1);
        assert!(condemned(&mut suspects, stuck()).is_empty());
    }
}
