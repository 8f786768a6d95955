//! The content of `/readyz`: named conditions, which each role decides from a snapshot, and their sum. This module
//! queries nothing and serves nothing.

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use strum::IntoStaticStr;

/// The state of one thing on which serving depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Condition {
    /// It is as it should be.
    Fine,
    /// It is not as it should be, but work can still be taken: callers should not be sent elsewhere because of it.
    Degraded,
    /// Work cannot be taken.
    Failing,
}

impl Condition {
    /// Returns `Fine` if it `holds`, and `or_else` otherwise.
    #[must_use]
    pub const fn of(holds: bool, or_else: Self) -> Self {
        if holds { Self::Fine } else { or_else }
    }
}

/// All conditions of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The conditions that were checked, by name.
    pub conditions: Vec<(&'static str, Condition)>,
}

impl Readiness {
    /// Makes the readiness of these conditions.
    #[must_use]
    pub fn new(conditions: impl IntoIterator<Item = (&'static str, Condition)>) -> Self {
        Self { conditions: conditions.into_iter().collect() }
    }

    /// Returns whether work can be taken: no condition is failing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.conditions.iter().any(|(_, condition)| *condition == Condition::Failing)
    }

    /// Returns the names of the conditions that are degraded.
    #[must_use]
    pub fn degraded(&self) -> Vec<&'static str> {
        let degraded = self.conditions.iter().filter(|(_, condition)| *condition == Condition::Degraded);
        degraded.map(|(name, _)| *name).collect()
    }

    /// Returns the JSON that is shown: `ready`, and each condition's word.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let words: Map<String, Value> = self
            .conditions
            .iter()
            .map(|(name, condition)| ((*name).to_owned(), <&'static str>::from(condition).into()))
            .collect();
        json!({ "ready": self.is_ready(), "conditions": words })
    }
}

/// Shows operators how a role is doing.
#[async_trait]
pub trait Watched: Send + Sync {
    /// Brings gauges, and counters that it counts by itself, up to date; called before each rendering.
    fn observe(&self);

    /// Returns whether it can take work now.
    async fn readiness(&self) -> Readiness;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fails_makes_it_unready() {
        let readiness = |conditions: &[(&'static str, Condition)]| Readiness::new(conditions.iter().copied());
        let (fine, degraded, failing) = (Condition::Fine, Condition::Degraded, Condition::Failing);
        assert!(readiness(&[]).is_ready());
        assert!(readiness(&[("a", fine), ("b", degraded)]).is_ready());
        assert!(!readiness(&[("a", fine), ("b", degraded), ("c", failing)]).is_ready());
        assert_eq!(readiness(&[("a", fine), ("b", degraded), ("c", failing)]).degraded(), ["b"]);
        let shown = readiness(&[("ledger", failing), ("broker", degraded), ("outbox", fine)]).to_json();
        assert_eq!(
            shown,
            json!({
                "ready": false,
                "conditions": { "ledger": "failing", "broker": "degraded", "outbox": "fine" },
            })
        );
    }
}
