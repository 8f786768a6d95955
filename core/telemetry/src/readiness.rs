//! What `/readyz` says: named conditions, decided by each role from a snapshot, and what they add up to. This module
//! queries nothing and serves nothing.

use async_trait::async_trait;
use serde_json::{Map, Value, json};

/// How one thing is that serving depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// As it should be.
    Fine,
    /// Not as it should be, but work can be taken all the same: callers should not be sent elsewhere for it.
    Degraded,
    /// Work can't be taken.
    Failing,
}

impl Condition {
    /// Fine if it `holds`, or else as bad as said.
    #[must_use]
    pub const fn of(holds: bool, or_else: Self) -> Self {
        if holds { Self::Fine } else { or_else }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }
}

/// All conditions of one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// What was looked at, by name.
    pub conditions: Vec<(&'static str, Condition)>,
}

impl Readiness {
    /// Those conditions.
    #[must_use]
    pub fn new(conditions: impl IntoIterator<Item = (&'static str, Condition)>) -> Self {
        Self { conditions: conditions.into_iter().collect() }
    }

    /// Whether work can be taken: nothing fails.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.conditions.iter().any(|(_, condition)| *condition == Condition::Failing)
    }

    /// Which are neither fine nor failing.
    #[must_use]
    pub fn degraded(&self) -> Vec<&'static str> {
        let degraded = self.conditions.iter().filter(|(_, condition)| *condition == Condition::Degraded);
        degraded.map(|(name, _)| *name).collect()
    }

    /// As it is shown: `ready`, and each condition's word.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let words: Map<String, Value> = self
            .conditions
            .iter()
            .map(|(name, condition)| ((*name).to_owned(), condition.word().into()))
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
        let shown = readiness(&[("ledger", failing), ("broker", degraded)]).to_json();
        assert_eq!(
            shown,
            json!({ "ready": false, "conditions": { "ledger": "failing", "broker": "degraded" } })
        );
    }
}
