//! What an answer consists of, and how a settled job is recorded; what a client may ask is `request`. These modules hold
//! values only: they are stored in the ledger, carried by the broker and written to the archive. The roles decide what is
//! done with them.

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

pub use crate::delivered::Delivered;
use crate::ids::{AccountId, AssignmentId, Digest, GatewayId, JobId, ModelName, NodeId, OwnerId, VerifierId};
use crate::knobs::Knobs;
use crate::money::Payment;
use crate::numbers::{NumericClass, TokenId, TokenNumbers, is_zero};
pub use crate::request::{ChatMessage, JobRequest, Seed, VerificationPolicy};
use crate::time::Timestamp;

/// Why an answer stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or a stop string was complete.
    Stop,
    /// `max_tokens` or the context's end was reached.
    Length,
}

/// A job's answer as the client gets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The answer's text.
    pub text: String,
    /// The answer's tokens, without the end-of-turn token.
    pub tokens: Vec<TokenId>,
    /// Why it stopped.
    pub finish_reason: FinishReason,
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// How many of these the node says that it did not compute; never priced.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_tokens: u32,
    /// The bytes of the tokens that the numbers name, by the tokens' ids in ascending order. Text alone doesn't tell a token's: a
    /// character may be spelled by several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spelled: Vec<(TokenId, Vec<u8>)>,
    /// The node whose replica was drawn; kept for operators, not shown to clients.
    pub node: NodeId,
    /// The numbers of each token, and of the end-of-turn token if one was chosen, where the request asked for
    /// log-probabilities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<TokenNumbers>,
    /// The digest of the model's files, from which the noise was drawn; absent in answers that were stored before it
    /// was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Digest>,
}

/// The verdict of verification on an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerificationStatus {
    /// A quorum agreed.
    Verified,
    /// One replica was asked for, so nothing was compared.
    Unverified,
    /// A late replica conflicts with the answer, and the referee has not decided yet; or, as it was settled, the answer isn't what its
    /// client had been shown before its owner died.
    Disputed,
    /// The referee confirmed the answer.
    Upheld,
    /// The referee rejected the answer.
    Overturned,
}

/// The step of the ladder that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Rung {
    /// The tokens are the same.
    Identical,
    /// They diverge where both choices were nearly equal.
    Benign,
    /// Their texts were compared (engines that report no tokens).
    Text,
    /// The verifier recomputed them.
    Referee,
}

/// What the reported numbers say, apart from the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Numbers {
    /// All compared pairs are within the tolerance of their class pair.
    Inside,
    /// At least one compared pair is outside its tolerance.
    Outside,
}

/// How many replicas there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaCounts {
    /// Nodes that were asked, without replacements.
    pub asked: u8,
    /// Replicas that had arrived when the job was settled.
    pub answered: u8,
    /// Replicas among those that agree with the answer, its own included.
    pub agreed: u8,
}

/// The verdict on an answer, which is the one extra key of a reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The verdict.
    pub status: VerificationStatus,
    /// The counts.
    pub replicas: ReplicaCounts,
    /// The deciding step; absent when nothing was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rung: Option<Rung>,
    /// What the numbers say; absent when nothing was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Numbers>,
    /// The version of the thresholds that judged the answer.
    pub thresholds: String,
    /// How many of the replicas that agree came from backstop nodes of the network itself; absent where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backstop: Option<u8>,
}

/// Why a job failed. Each reason says whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FailureReason {
    /// The job's owner died more than five times while the job was handed out: something in it may kill verifiers.
    Poison,
    /// The replicas disagree and no evidence decides between them.
    NoConsensus,
    /// Six assignments that count were missed, refused or broken.
    TooManyMisses,
    /// Fewer than three nodes of three owners serve the model (synchronous requests only; queued ones wait).
    InsufficientNodes,
    /// The rendered prompt leaves no room for an answer in the model's context. This is the client's fault; the
    /// verifier detects it because it has the tokenizer.
    ContextLength,
    /// The model's chat template refuses the conversation (roles that don't alternate, say). This is the client's
    /// fault.
    InvalidMessages,
    /// The stored request cannot be read or rendered. This is our fault.
    Unprocessable,
    /// The model was removed from the network, and no live node serves it any more, before the job had its turn.
    ModelRemoved,
}

impl FailureReason {
    /// All reasons.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Returns the reason's word in the ledger, in messages, logs and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }
}

impl Rung {
    /// Returns the step's word, the same as in replies.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// How a job ended. A job has exactly one end; the first one to be committed stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum End {
    /// The job has an answer.
    Succeeded {
        /// The answer.
        answer: Answer,
        /// The verdict on the answer.
        verification: Verification,
    },
    /// The job has no answer.
    Failed {
        /// Why it failed.
        reason: FailureReason,
        /// One sentence for the client.
        message: String,
    },
    /// The client cancelled the job, or hung up.
    Cancelled {
        /// What its client had of the answer when it hung up; absent where it had nothing, which costs nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delivered: Option<Delivered>,
    },
    /// The job's deadline passed.
    Expired,
}

impl End {
    /// Returns the end of a job that costs nothing because its client gave it up before it had anything of the answer.
    #[must_use]
    pub const fn cancelled() -> Self {
        Self::Cancelled { delivered: None }
    }

    /// Returns the word that tables, messages, metrics and `GET /v1/jobs/{id}` use. The words are written out,
    /// because constant functions need them and a derived conversion is not constant.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Returns how many tokens of the prompt and of the answer the account owes for; none without an answer, or a part of one that a
    /// client had which hung up. An answer that was settled as disputed costs nothing: its client had been shown the beginning of
    /// another one.
    #[must_use]
    pub fn owed(&self) -> Option<(u64, u64)> {
        match self {
            Self::Succeeded { verification, .. } if verification.status == VerificationStatus::Disputed => {
                Some((0, 0))
            }
            Self::Succeeded { answer, .. } => {
                Some((answer.prompt_tokens.into(), u64::try_from(answer.tokens.len()).unwrap_or(u64::MAX)))
            }
            Self::Cancelled { delivered: Some(delivered) } => {
                Some((delivered.prompt_tokens.into(), delivered.tokens.into()))
            }
            Self::Cancelled { delivered: None } | Self::Failed { .. } | Self::Expired => None,
        }
    }

    /// Returns whether the job's idempotency key may be used for a new job after this end. An end keeps the key if it
    /// answers the client or if the same request would end the same way again; it frees the key if it says nothing
    /// about the request.
    ///
    /// | end | key | why |
    /// |---|---|---|
    /// | succeeded | kept | it is the answer |
    /// | cancelled | kept | its account ended it; a job whose client merely hung up had no key |
    /// | expired | freed | the network was too busy then |
    /// | `insufficient_nodes`, `too_many_misses` | freed | other nodes may be there |
    /// | `no_consensus` | freed | other nodes are drawn, with other noise |
    /// | `unprocessable` | freed | a mistake of ours, which may be mended |
    /// | `model_removed` | freed | the model may be added again |
    /// | `context_length`, `invalid_messages` | kept | the request is at fault |
    /// | `poison` | kept | asking again may end verifiers again; an operator replays it once that is mended |
    #[must_use]
    pub const fn frees_key(&self) -> bool {
        match self {
            Self::Succeeded { .. } | Self::Cancelled { .. } => false,
            Self::Expired => true,
            Self::Failed { reason, .. } => match reason {
                FailureReason::InsufficientNodes
                | FailureReason::TooManyMisses
                | FailureReason::NoConsensus
                | FailureReason::Unprocessable
                | FailureReason::ModelRemoved => true,
                FailureReason::ContextLength | FailureReason::InvalidMessages | FailureReason::Poison => {
                    false
                }
            },
        }
    }
}

/// The state of one assignment of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssignmentState {
    /// Sent, not answered yet.
    Open,
    /// Its replica has arrived.
    Answered,
    /// Missed, refused or broken: counts against the node.
    Missed,
    /// Busy, draining, undeliverable or our fault: does not count against the node.
    Neutral,
}

/// One assignment as the settlement records it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssignmentRecord {
    /// The assignment.
    pub id: AssignmentId,
    /// The node that it went to.
    pub node: NodeId,
    /// The owner of that node.
    pub owner: OwnerId,
    /// The assignment's state.
    pub state: AssignmentState,
    /// When it was sent.
    pub sent_ms: Timestamp,
    /// The time it has to finish in, in milliseconds.
    pub budget_ms: u64,
    /// The summary of its replica, once that has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaSummary>,
}

/// What must be kept of a replica to judge it, and other replicas against it, later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaSummary {
    /// Its tokens.
    pub tokens: Vec<TokenId>,
    /// Its numbers, one entry per token (and one for the end-of-turn token, if it ended with one).
    pub numbers: Vec<TokenNumbers>,
    /// Its numeric class.
    pub numeric_class: NumericClass,
    /// When it arrived.
    pub arrived_ms: Timestamp,
    /// Tokens of its rendered prompt.
    pub prompt_tokens: u32,
    /// Whether it passed the integrity checks (L0).
    pub sound: bool,
}

/// What the settlement records of the group: enough for any verifier to score it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// The verifier that settled the job; it closes the group while it is alive.
    pub verifier: VerifierId,
    /// All assignments, replacements included.
    pub assignments: Vec<AssignmentRecord>,
    /// When the time of the last open assignment is up.
    pub deadline_ms: Timestamp,
    /// The temperature in force, which tolerances need.
    pub temperature: f64,
    /// The key that the replicas' noise was drawn with, so that gaps can be recomputed.
    pub sample_key: Digest,
    /// Which of its request's answers the job is, counted from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub choice: u32,
    /// The request's knobs, by which tokens were chosen.
    #[serde(default, skip_serializing_if = "Knobs::are_plain")]
    pub knobs: Knobs,
    /// The different tokens of the prompt, where the knobs look at them, in ascending order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompt_tokens: Vec<TokenId>,
    /// The payment for the job, which decides whether its nodes earn points.
    #[serde(default, skip_serializing_if = "Payment::is_free")]
    pub payment: Payment,
    /// Whether the job was for nodes of its account or of a group alone: it earns no points and no standing. A verifier of the
    /// version before doesn't write it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_for_chosen_nodes: bool,
}

/// The end of a job as it is committed: one row, unique per job, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settlement {
    /// The job.
    pub job_id: JobId,
    /// The account that asked.
    pub account: AccountId,
    /// The model that was asked.
    pub model: ModelName,
    /// The gateway that waits for the end.
    pub gateway: GatewayId,
    /// How it ended.
    pub end: End,
    /// What is needed to score the group; absent if no node was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupRecord>,
    /// When the job was settled.
    pub settled_ms: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_freed_by_ends_that_say_nothing_about_the_request() {
        let failed = |reason| End::Failed { reason, message: String::new() };
        let all = FailureReason::ALL.iter().copied();
        let freed: Vec<_> =
            all.filter(|reason| failed(*reason).frees_key()).map(FailureReason::word).collect();
        assert_eq!(
            freed,
            ["no_consensus", "too_many_misses", "insufficient_nodes", "unprocessable", "model_removed"]
        );
        assert_eq!((End::Expired.frees_key(), End::cancelled().frees_key()), (true, false));
    }
}
