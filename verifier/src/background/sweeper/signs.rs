//! Finds which queues of jobs hold nothing and which are stuck, and declares those again that are stuck for good.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::StreamExt as _;
use infera_broker::{BrokerError, topology};
use infera_types::ids::ModelName;

use super::several::several;
use crate::tenure::Tenure;

/// How often a queue must be found stuck, without a sign of life between, before it is deleted and declared again: one that
/// is just electing a leader isn't stuck, and would lose its order.
const STUCK_TIMES: u32 = 2;

/// What a sweep saw of the models' queues. A queue that showed nothing is in neither set.
#[derive(Default)]
pub(super) struct Signs {
    pub(super) stuck: BTreeSet<ModelName>,
    pub(super) alive: BTreeSet<ModelName>,
}

/// Returns the models whose queue was found stuck often enough, with these signs. They are no suspects any more.
pub(super) fn condemned(suspects: &mut BTreeMap<ModelName, u32>, signs: Signs) -> Vec<ModelName> {
    suspects.retain(|model, _| !signs.alive.contains(model));
    for model in signs.stuck.difference(&signs.alive) {
        *suspects.entry(model.clone()).or_default() += 1;
    }
    suspects.extract_if(.., |_, times| *times >= STUCK_TIMES).map(|(model, _)| model).collect()
}

/// Deletes the model's queue and declares it again. The next sweep finds it empty and hands out what waited there.
pub(super) async fn declare_again(tenure: &Tenure, model: &ModelName) {
    let queue = topology::jobs(model);
    let made = match tenure.seams.broker.delete(&queue.name).await {
        Ok(()) => tenure.seams.broker.declare(&queue).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(()) => {
            tenure.counters.queues_repaired.add_one();
            tracing::error!(%model, "the jobs' queue was stuck and is declared again; its jobs are handed out again");
        }
        Err(error) => tracing::error!(%model, %error, "the jobs' queue is stuck and can't be declared again"),
    }
}

/// Returns the models whose queue holds nothing, or was just declared (again). A queue that can't be asked isn't empty.
pub(super) async fn empty_queues(tenure: &Tenure, signs: &mut Signs) -> Vec<ModelName> {
    let snapshot = tenure.ledger_view.snapshot();
    let looks = snapshot.catalogue.keys().map(|model| async move {
        let queue = topology::jobs(model);
        let depth = match tenure.seams.broker.declare(&queue).await {
            Ok(()) => tenure.seams.broker.depth(&queue.name).await,
            Err(error) => Err(error),
        };
        (model, depth)
    });
    let mut looks = several(looks);
    let mut empty = Vec::new();
    while let Some((model, depth)) = looks.next().await {
        match depth {
            Ok(Some(0) | None) => empty.push(model.clone()),
            Ok(Some(_)) => drop(signs.alive.insert(model.clone())),
            Err(BrokerError::Stuck(_)) => drop(signs.stuck.insert(model.clone())),
            Err(error) => tracing::warn!(%model, %error, "the jobs' queue can't be asked"),
        }
    }
    empty
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(names: &[&str]) -> BTreeSet<ModelName> {
        names.iter().map(|name| ModelName::new((*name).to_owned())).collect()
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
            (vec![("m", "")], None),
        ] {
            let mut suspects = BTreeMap::new();
            let found = sweeps.iter().position(|(stuck, alive)| {
                let signs = Signs { stuck: models(&[stuck]), alive: models(&[alive]) };
                condemned(&mut suspects, signs).contains(&ModelName::new("m".to_owned()))
            });
            assert_eq!(found, condemned_at, "{sweeps:?}");
        }
    }

    #[test]
    fn a_queue_made_anew_is_no_suspect() {
        let mut suspects = BTreeMap::new();
        let stuck = || Signs { stuck: models(&["m"]), ..Signs::default() };
        assert!(condemned(&mut suspects, stuck()).is_empty());
        assert_eq!(condemned(&mut suspects, stuck()).len(), 1);
        assert!(condemned(&mut suspects, stuck()).is_empty());
    }
}
