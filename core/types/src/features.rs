//! Names what an engine can do beyond answering, so that a request is given only to nodes that can do all of it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::job::{JobRequest, Seed};

/// One thing that a request may ask for and that an engine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// A temperature above 0: job-bound sampling.
    Temperature,
    /// The second version of sampling: all of a request's knobs, several choices, and log-probabilities.
    #[serde(rename = "sampling/2")]
    Sampling2,
    /// Tokens are told while the answer is being written.
    Stream,
    /// A seed that makes a request reproduce its tokens.
    Seed,
    /// Prompts may begin with what was computed for an earlier one of the same scope. No request needs it: it says that
    /// the node knows an assignment's scope.
    PrefixCache,
}

impl Feature {
    /// Returns the feature's word, the same as in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Sampling2 => "sampling/2",
            Self::Stream => "stream",
            Self::Seed => "seed",
            Self::PrefixCache => "prefix_cache",
        }
    }
}

/// The features of one served model. Words that this program doesn't know are left out as they are read: it can't ask for
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Features(BTreeSet<Feature>);

impl Default for Features {
    /// What every engine could do before features were told.
    fn default() -> Self {
        Self([Feature::Temperature, Feature::Seed].into())
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<F: IntoIterator<Item = Feature>>(features: F) -> Self {
        Self(features.into_iter().collect())
    }
}

impl Features {
    /// Returns what the request needs.
    #[must_use]
    pub fn needed(request: &JobRequest) -> Self {
        let temperature = (request.temperature > 0.0).then_some(Feature::Temperature);
        let seed = request.seed.map(|_| Feature::Seed);
        // Nodes of the version before read seeds with a sign.
        let is_large = matches!(request.seed, Some(Seed::Large(_)));
        let needs_version_2 = !request.knobs.are_plain() || request.top_logprobs.is_some() || is_large;
        let sampling = needs_version_2.then_some(Feature::Sampling2);
        let stream = request.stream.map(|_| Feature::Stream);
        temperature.into_iter().chain(seed).chain(sampling).chain(stream).collect()
    }

    /// Returns each of these.
    pub fn iter(&self) -> impl Iterator<Item = Feature> {
        self.0.iter().copied()
    }

    /// Returns these and one more.
    #[must_use]
    pub fn with(mut self, feature: Feature) -> Self {
        self.0.insert(feature);
        self
    }

    /// Returns whether this is among these.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.0.contains(&feature)
    }

    /// Returns whether all of `needed` are among these.
    #[must_use]
    pub fn include(&self, needed: &Self) -> bool {
        needed.0.is_subset(&self.0)
    }
}

impl fmt::Display for Features {
    /// Writes their words, separated by commas.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.iter().map(Feature::word).collect();
        formatter.write_str(&words.join(", "))
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A word that is known, or any other value.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Word {
            Known(Feature),
            Unknown(serde::de::IgnoredAny),
        }
        let words = Vec::<Word>::deserialize(deserializer)?;
        Ok(words
            .into_iter()
            .filter_map(|word| match word {
                Word::Known(feature) => Some(feature),
                Word::Unknown(_) => None,
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_have_the_same_words_in_sentences_as_in_messages() {
        let all = [Feature::Temperature, Feature::Sampling2, Feature::Seed, Feature::PrefixCache];
        for feature in all {
            assert_eq!(serde_json::to_value(feature).unwrap(), feature.word());
        }
        assert_eq!(Features::from_iter(all).to_string(), "temperature, sampling/2, seed, prefix_cache");
    }
}
