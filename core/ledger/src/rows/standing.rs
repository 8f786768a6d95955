//! The results of work: postings, balances and standings.

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use infera_types::ids::{AccountId, JobId, ModelName, NodeId};
use infera_types::time::Timestamp;

/// The verdict on one assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Verdict {
    /// The answer agrees with a quorum.
    Valid,
    /// The answer has an objective fault (L0), or the referee rejected it.
    Invalid,
    /// The answer cannot be judged: it pays nothing and costs nothing.
    Inconclusive,
    /// The node was asked and did not answer in time, or refused for a reason that counts.
    Missed,
    /// The failure is not the node's doing.
    Neutral,
}

impl Verdict {
    /// Returns the verdict's word in metrics and postings.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// One line of the append-only account book.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Posting {
    /// The id, unique for ever: `usage:{job}`, `verdict:{assignment}`, or `rerun:{assignment}:{number}` for a miss beside a verdict.
    pub id: String,
    /// The job that it follows from.
    pub job_id: JobId,
    /// When it was decided.
    pub posted_ms: Timestamp,
    /// The content.
    pub entry: PostingEntry,
}

/// The content of a posting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PostingEntry {
    /// An account used the network.
    Usage {
        /// The account that pays.
        account: AccountId,
        /// Tokens of the prompt.
        prompt_tokens: u64,
        /// Tokens of the answer.
        completion_tokens: u64,
    },
    /// A node's work was judged.
    Verdict {
        /// The node.
        node: NodeId,
        /// The model that it served.
        model: ModelName,
        /// The verdict.
        verdict: Verdict,
        /// Thousandths of a point earned; integers, so that sums are exact.
        millipoints: i64,
        /// From sending to arrival, as the verifier measured it; 0 if nothing arrived.
        elapsed_ms: u64,
        /// Tokens that it produced.
        tokens: u64,
        /// Whether it arrived within its budget.
        on_time: bool,
        /// Whether its numbers were outside the tolerance. Recorded only, without a cost until the referee exists.
        numbers_outside: bool,
        /// Whether the job was for nodes of its account or of a group alone. Such a verdict is kept and counted, but changes
        /// no standing and no uptime. Rows of the version before don't have it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_for_chosen_nodes: bool,
    },
}

impl PostingEntry {
    /// Returns the node whose work was judged.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Usage { .. } => None,
            Self::Verdict { node, .. } => Some(node),
        }
    }

    /// Returns the node whose work was found VALID, and so is paid: once for a job.
    #[must_use]
    pub fn valid_node(&self) -> Option<&NodeId> {
        match self {
            Self::Verdict { node, verdict: Verdict::Valid, .. } => Some(node),
            Self::Usage { .. } | Self::Verdict { .. } => None,
        }
    }
}

/// Totals of an account or a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Thousandths of a point earned (nodes).
    pub millipoints: i64,
    /// Tokens of prompts used (accounts).
    pub prompt_tokens: u64,
    /// Tokens of answers used (accounts) or produced and paid (nodes).
    pub completion_tokens: u64,
    /// Postings folded in.
    pub postings: u64,
}

/// A node's record for one model, as of the projector's progress. Counts decay; see the verifier's `reputation`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStanding {
    /// The node.
    pub node: NodeId,
    /// The model.
    pub model: ModelName,
    /// Weight of VALID verdicts, decayed to `updated_ms`.
    pub good: f64,
    /// Weight of INVALID verdicts and misses, decayed to `updated_ms`.
    pub bad: f64,
    /// Weight of answers that were in time, decayed.
    pub on_time: f64,
    /// Weight of answers and misses together, decayed: `on_time` is a share of it.
    pub asked: f64,
    /// Decayed sum of tokens of VALID answers.
    pub tokens: f64,
    /// Decayed sum of the seconds that those answers took, as the verifier measured it.
    pub seconds: f64,
    /// The number of VALID verdicts ever.
    pub valid_count: u64,
    /// When the first VALID verdict was posted.
    pub first_valid_ms: Option<Timestamp>,
    /// When the record was last folded.
    pub updated_ms: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Postings store the words as JSON, so a variant that is renamed keeps its word.
    #[test]
    fn verdicts_keep_their_words() {
        for verdict in Verdict::VARIANTS {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.word());
        }
        let words: Vec<_> = Verdict::VARIANTS.iter().map(|verdict| verdict.word()).collect();
        assert_eq!(words, ["valid", "invalid", "inconclusive", "missed", "neutral"]);
    }
}
