//! The network's capacity, from the summaries that verifiers broadcast every second, so that no request has to ask
//! others. Apart from the lock it is pure: each call brings its own `now`.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use infera_types::features::Feature;
use infera_types::ids::{ModelName, VerifierId};
use infera_types::messages::{CapacitySummary, ModelCapacity};

/// The number of owners that a request with three replicas needs.
pub(crate) const OWNERS_NEEDED: u32 = 3;

/// The latest summary of each verifier, and when it came.
#[derive(Debug)]
pub(crate) struct Capacity {
    ttl: Duration,
    summaries: RwLock<HashMap<VerifierId, (Instant, Vec<ModelCapacity>)>>,
}

impl Capacity {
    /// Makes an empty capacity, in which each summary is believed for `ttl`.
    #[must_use]
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, summaries: RwLock::default() }
    }

    /// Stores a summary that came at `now`. Stale ones are dropped, so that the map has live verifiers only.
    pub(crate) fn update(&self, summary: CapacitySummary, now: Instant) {
        let mut summaries = self.summaries.write().unwrap_or_else(PoisonError::into_inner);
        summaries.retain(|_, (since, _)| now.duration_since(*since) < self.ttl);
        summaries.insert(summary.verifier, (now, summary.models));
    }

    /// Returns how many owners have nodes that serve the model, by the live verifier that knows of the most.
    #[must_use]
    pub(crate) fn owners(&self, model: &ModelName, now: Instant) -> u32 {
        self.best(model, now, |capacity| capacity.owners)
    }

    /// Returns how many live nodes serve the model, by the live verifier that knows of the most.
    #[must_use]
    pub(crate) fn nodes(&self, model: &ModelName, now: Instant) -> u32 {
        self.best(model, now, |capacity| capacity.nodes)
    }

    /// Returns whether every live verifier that knows of enough owners says that nodes of as many don't have the feature. Those that
    /// don't tell may know of some.
    #[must_use]
    pub(crate) fn lacks(&self, model: &ModelName, feature: Feature, now: Instant) -> bool {
        let summaries = self.summaries.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = summaries.values().filter(|(since, _)| now.duration_since(*since) < self.ttl);
        let of_model = fresh.flat_map(|(_, models)| models).filter(|capacity| capacity.model == *model);
        let mut telling = of_model.filter(|capacity| capacity.owners >= OWNERS_NEEDED).peekable();
        telling.peek().is_some()
            && telling
                .all(|capacity| capacity.features.as_ref().is_some_and(|features| !features.has(feature)))
    }

    /// Returns whether a live verifier offers the model, or none while no verifier is heard.
    #[must_use]
    pub(crate) fn offers(&self, model: &ModelName, now: Instant) -> Option<bool> {
        self.any(now, |capacity| capacity.model == *model)
    }

    /// Returns whether a live verifier knows of a live node, for any model, or none while no verifier is heard.
    #[must_use]
    pub(crate) fn has_nodes(&self, now: Instant) -> Option<bool> {
        self.any(now, |capacity| capacity.nodes > 0)
    }

    fn any(&self, now: Instant, holds: impl Fn(&ModelCapacity) -> bool) -> Option<bool> {
        let summaries = self.summaries.read().unwrap_or_else(PoisonError::into_inner);
        let mut fresh =
            summaries.values().filter(|(since, _)| now.duration_since(*since) < self.ttl).peekable();
        fresh.peek()?;
        Some(fresh.flat_map(|(_, models)| models).any(holds))
    }

    fn best(&self, model: &ModelName, now: Instant, count: impl Fn(&ModelCapacity) -> u32) -> u32 {
        let summaries = self.summaries.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = summaries.values().filter(|(since, _)| now.duration_since(*since) < self.ttl);
        let of_model = fresh.flat_map(|(_, models)| models).filter(|capacity| capacity.model == *model);
        of_model.map(count).max().unwrap_or(0)
    }

    /// Returns how many verifiers are live.
    #[must_use]
    pub(crate) fn verifiers(&self, now: Instant) -> usize {
        let summaries = self.summaries.read().unwrap_or_else(PoisonError::into_inner);
        summaries.values().filter(|(since, _)| now.duration_since(*since) < self.ttl).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_types::features::Features;
    use infera_types::messages::Version;

    fn summary(verifier: &str, owners: u32) -> CapacitySummary {
        let model = ModelName::new("m");
        let models = vec![ModelCapacity { model, nodes: owners + 1, owners, free_slots: 4, features: None }];
        CapacitySummary { verifier: VerifierId::new(verifier), models, speaks: Version::NEWEST }
    }

    #[test]
    fn the_best_fresh_summary_counts() {
        let (model, start) = (ModelName::new("m"), Instant::now());
        let capacity = Capacity::new(Duration::from_secs(5));
        assert_eq!(capacity.owners(&model, start), 0);
        capacity.update(summary("a", 3), start);
        capacity.update(summary("b", 1), start + Duration::from_secs(3));
        assert_eq!(capacity.owners(&model, start + Duration::from_secs(4)), 3);
        assert_eq!(capacity.nodes(&model, start + Duration::from_secs(4)), 4);
        assert_eq!(capacity.owners(&model, start + Duration::from_secs(6)), 1);
        assert_eq!(capacity.verifiers(start + Duration::from_secs(6)), 1);
        assert_eq!(capacity.owners(&ModelName::new("other"), start), 0);
    }

    #[test]
    fn a_feature_is_lacking_if_all_say_so_who_know_of_enough_owners() {
        let (model, start) = (ModelName::new("m"), Instant::now());
        let telling = |verifier: &str, owners, features| {
            let mut told = summary(verifier, owners);
            told.models[0].features = features;
            told
        };
        let lacks = |summaries: &[CapacitySummary]| {
            let capacity = Capacity::new(Duration::from_secs(5));
            summaries.iter().for_each(|summary| capacity.update(summary.clone(), start));
            capacity.lacks(&model, Feature::Sampling2, start)
        };
        let none = || Some(Features::from_iter([Feature::Seed]));
        let all = || Some(Features::from_iter([Feature::Sampling2]));
        assert!(!lacks(&[]));
        assert!(lacks(&[telling("a", 3, none())]));
        assert!(lacks(&[telling("a", 3, none()), telling("b", 2, all())]));
        assert!(!lacks(&[telling("a", 2, none())]));
        assert!(!lacks(&[telling("a", 3, None)]));
        assert!(!lacks(&[telling("a", 3, none()), telling("b", 3, None)]));
        assert!(!lacks(&[telling("a", 3, none()), telling("b", 4, all())]));
    }

    #[test]
    fn what_no_live_verifier_offers_is_gone() {
        let (model, other, start) = (ModelName::new("m"), ModelName::new("other"), Instant::now());
        let capacity = Capacity::new(Duration::from_secs(5));
        assert_eq!((capacity.offers(&model, start), capacity.has_nodes(start)), (None, None));
        capacity.update(summary("a", 0), start);
        assert_eq!(
            (capacity.offers(&model, start), capacity.offers(&other, start)),
            (Some(true), Some(false))
        );
        assert_eq!(capacity.has_nodes(start), Some(true));
        let none =
            CapacitySummary { verifier: VerifierId::new("a"), models: Vec::new(), speaks: Version::NEWEST };
        capacity.update(none, start);
        assert_eq!((capacity.offers(&model, start), capacity.has_nodes(start)), (Some(false), Some(false)));
        let stale = start + Duration::from_secs(6);
        assert_eq!((capacity.offers(&model, stale), capacity.has_nodes(stale)), (None, None));
    }
}
