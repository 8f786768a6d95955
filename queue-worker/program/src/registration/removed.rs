//! Says in the log which of a node's models the network serves no more, once for each, by what gateways tell at each visit.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use infera_types::admission::RemovedModel;
use infera_types::ids::{Digest, ModelName};

/// What a node serves, and of which of it the log said already that it is served for nothing.
#[derive(Debug, Default)]
pub(super) struct Removed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    serves: HashSet<Digest>,
    said: HashSet<ModelName>,
}

impl Removed {
    /// Notes the digests of all models that the node serves now.
    pub(super) fn serves(&self, digests: impl IntoIterator<Item = Digest>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).serves = digests.into_iter().collect();
    }

    /// Notes what a gateway told, and writes the log.
    pub(super) fn heard(&self, removed: &[RemovedModel]) {
        for model in self.news(removed) {
            tracing::warn!(
                %model,
                "the network serves this model no more: its jobs that wait are answered, and no others come; serve another"
            );
        }
    }

    /// Returns the served models among the removed that weren't said before. One that came back may be said again.
    fn news(&self, removed: &[RemovedModel]) -> Vec<ModelName> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_served =
            |model: &&RemovedModel| model.digests.iter().any(|digest| state.serves.contains(digest));
        let served: Vec<ModelName> =
            removed.iter().filter(is_served).map(|model| model.name.clone()).collect();
        let news = served.iter().filter(|name| !state.said.contains(*name)).cloned().collect();
        state.said = served.into_iter().collect();
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_model_is_said_once_by_the_nodes_that_serve_it() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let model = |name: &str| RemovedModel {
            name: ModelName::new(name),
            digests: vec![digest(name), digest("x")],
        };
        let removed = Removed::default();
        assert!(removed.news(&[model("a")]).is_empty(), "it serves nothing yet");
        removed.serves([digest("a"), digest("c")]);
        assert_eq!(removed.news(&[model("b"), model("a")]), [ModelName::new("a")]);
        assert!(removed.news(&[model("b"), model("a")]).is_empty(), "said already");
        assert!(removed.news(&[]).is_empty(), "it is back");
        assert_eq!(removed.news(&[model("a"), model("c")]), ["a", "c"].map(ModelName::new));
    }
}
