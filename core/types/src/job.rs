//! What a client may ask, what answering it means, and what a settled job is. Values only: they are stored in the ledger,
//! carried by the broker and written to the archive. What is done with them is the roles' business.

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, AssignmentId, Digest, GatewayId, JobId, ModelName, NodeId, OwnerId, VerifierId};
use crate::numbers::{NumericClass, TokenId, TokenNumbers};
use crate::time::Timestamp;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The turn's text.
    pub content: String,
}

/// What is asked, in the form that is stored, hashed and sent to nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    /// Which model is to answer.
    pub model: ModelName,
    /// The conversation so far.
    pub messages: Vec<ChatMessage>,
    /// At most this many tokens of answer.
    pub max_tokens: u32,
    /// 0 is greedy; the noise of job-bound sampling is scaled by it.
    pub temperature: f64,
    /// Makes the same request reproduce the same tokens: replaces the epoch's secret and the job's id in the
    /// sampling key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
}

impl JobRequest {
    /// SHA-256 of the request's JSON in field order: the `request digest` of the sampling key. It leaves nothing
    /// out that changes the answer and takes nothing in that doesn't.
    #[must_use]
    pub fn digest(&self) -> Digest {
        // Serialising plain strings and numbers to memory can't fail; an empty text would only make a digest that matches
        // no other.
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// How much agreement a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationPolicy {
    /// How many replicas of different owners must agree: 2 or 3 (1 with `replicas: 1`).
    pub quorum: u8,
    /// How many nodes are asked: 3, or 1 for an unverified answer.
    pub replicas: u8,
}

impl Default for VerificationPolicy {
    /// Two of three: the tail latency is that of the second fastest, one liar can't win alone.
    fn default() -> Self {
        Self { quorum: 2, replicas: 3 }
    }
}

/// Why an answer stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn.
    Stop,
    /// `max_tokens` or the context's end was reached.
    Length,
}

/// A job's answer as the client gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The answer's text.
    pub text: String,
    /// The answer's tokens, without the end-of-turn token.
    pub tokens: Vec<TokenId>,
    /// Why it stopped.
    pub finish_reason: FinishReason,
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Which node's replica was drawn; kept for operators, not shown to clients.
    pub node: NodeId,
    /// The model's files whose digest the noise was drawn by; none in answers from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Digest>,
}

/// What verification says of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerificationStatus {
    /// A quorum agreed.
    Verified,
    /// One replica was asked for and nothing was compared.
    Unverified,
    /// A late replica conflicts with the answer; the referee has not spoken.
    Disputed,
    /// The referee confirmed the answer.
    Upheld,
    /// The referee rejected the answer.
    Overturned,
}

/// Which test of the ladder decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// The tokens are the same.
    Identical,
    /// They diverge where both choices were nearly equal.
    Benign,
    /// Texts were compared (engines that report no tokens).
    Text,
    /// The verifier replayed them.
    Referee,
}

/// What the reported numbers say beside the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Numbers {
    /// All compared pairs are within the tolerance of their class pair.
    Inside,
    /// At least one compared pair is not.
    Outside,
}

/// How many replicas there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaCounts {
    /// Nodes that were asked, replacements left out.
    pub asked: u8,
    /// Replicas that were in when the job was settled.
    pub answered: u8,
    /// Of those, how many agree with the answer, its own included.
    pub agreed: u8,
}

/// The verdict on an answer: the one extra key of a reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The verdict.
    pub status: VerificationStatus,
    /// The counts.
    pub replicas: ReplicaCounts,
    /// Absent when nothing was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rung: Option<Rung>,
    /// Absent when nothing was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Numbers>,
    /// Version of the thresholds that judged it.
    pub thresholds: String,
}

/// Why a job failed. Each says whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// Its owner died more than five times while it was handed out: something in it may kill us.
    Poison,
    /// Replicas disagree and there is nothing to decide between them by.
    NoConsensus,
    /// Six nodes that count missed, refused or broke it.
    TooManyMisses,
    /// There are not three nodes of three owners for the model (synchronous requests only; others wait).
    InsufficientNodes,
    /// The rendered prompt leaves no room for an answer in the model's context; the client's fault, and found out
    /// by the verifier, which has the tokenizer.
    ContextLength,
    /// The model's chat template refuses the conversation (roles that don't alternate, say); the client's fault.
    InvalidMessages,
    /// The stored request can't be read or rendered; ours to mend.
    Unprocessable,
}

impl FailureReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Poison,
        Self::NoConsensus,
        Self::TooManyMisses,
        Self::InsufficientNodes,
        Self::ContextLength,
        Self::InvalidMessages,
        Self::Unprocessable,
    ];

    /// Its word, the same as in replies.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::NoConsensus => "no_consensus",
            Self::TooManyMisses => "too_many_misses",
            Self::InsufficientNodes => "insufficient_nodes",
            Self::ContextLength => "context_length",
            Self::InvalidMessages => "invalid_messages",
            Self::Unprocessable => "unprocessable",
        }
    }
}

impl Rung {
    /// Its word, the same as in replies.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Benign => "benign",
            Self::Text => "text",
            Self::Referee => "referee",
        }
    }
}

/// How a job ended. There is exactly one end per job, whoever gets there first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum End {
    /// It has an answer.
    Succeeded {
        /// The answer.
        answer: Answer,
        /// What verification says of it.
        verification: Verification,
    },
    /// It has none, and why.
    Failed {
        /// Why.
        reason: FailureReason,
        /// One sentence for the client.
        message: String,
    },
    /// The client (or its going away) cancelled it.
    Cancelled,
    /// Its deadline passed.
    Expired,
}

impl End {
    /// The word that tables and `GET /v1/jobs/{id}` use.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether the job's idempotency key may be used for a new job after this end. A key is kept by an end that answers
    /// its client, or that the same request would come to again; it is freed by one that says nothing about the request.
    ///
    /// | end | key | why |
    /// |---|---|---|
    /// | succeeded | kept | it is the answer |
    /// | cancelled | kept | its account ended it; a job whose client merely hung up had no key |
    /// | expired | freed | the network was too busy then |
    /// | `insufficient_nodes`, `too_many_misses` | freed | other nodes may be there |
    /// | `no_consensus` | freed | other nodes are drawn, with other noise |
    /// | `unprocessable` | freed | a mistake of ours, which may be mended |
    /// | `context_length`, `invalid_messages` | kept | the request is at fault |
    /// | `poison` | kept | asking again may end verifiers again; an operator replays it once that is mended |
    #[must_use]
    pub const fn frees_key(&self) -> bool {
        match self {
            Self::Succeeded { .. } | Self::Cancelled => false,
            Self::Expired => true,
            Self::Failed { reason, .. } => match reason {
                FailureReason::InsufficientNodes
                | FailureReason::TooManyMisses
                | FailureReason::NoConsensus
                | FailureReason::Unprocessable => true,
                FailureReason::ContextLength | FailureReason::InvalidMessages | FailureReason::Poison => {
                    false
                }
            },
        }
    }
}

/// Where one assignment of a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssignmentState {
    /// Sent, not answered yet.
    Open,
    /// Its replica is in.
    Answered,
    /// Missed, refused or broken: counts against the node.
    Missed,
    /// Busy, draining, undeliverable or our fault: counts for nothing.
    Neutral,
}

/// One assignment as the settlement remembers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssignmentRecord {
    /// The assignment.
    pub id: AssignmentId,
    /// The node that it went to.
    pub node: NodeId,
    /// The owner of that node.
    pub owner: OwnerId,
    /// Where it stands.
    pub state: AssignmentState,
    /// When it was sent.
    pub sent_ms: Timestamp,
    /// What it has to finish in.
    pub budget_ms: u64,
    /// What its replica said, when it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaSummary>,
}

/// What must be kept of a replica to judge it and others against it later.
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
    /// Whether it passed the integrity checks of L0.
    pub sound: bool,
}

/// What the settlement remembers of the group: enough for any verifier to score it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// The verifier that settled it and closes it while alive.
    pub verifier: VerifierId,
    /// All assignments, replacements included.
    pub assignments: Vec<AssignmentRecord>,
    /// When the last open assignment's time is up.
    pub deadline_ms: Timestamp,
    /// The temperature in force, which tolerances need.
    pub temperature: f64,
    /// The key that the replicas' noise was drawn with, so that gaps can be recomputed.
    pub sample_key: Digest,
}

/// The end of a job, as committed: one row, unique per job, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settlement {
    /// The job.
    pub job_id: JobId,
    /// The account that asked.
    pub account: AccountId,
    /// Which model.
    pub model: ModelName,
    /// Which gateway waits for it.
    pub gateway: GatewayId,
    /// How it ended.
    pub end: End,
    /// What is needed to score the group; none if no node was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupRecord>,
    /// When.
    pub settled_ms: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_freed_by_ends_that_say_nothing_about_the_request() {
        let freed: Vec<_> = FailureReason::ALL
            .into_iter()
            .filter(|reason| End::Failed { reason: *reason, message: String::new() }.frees_key())
            .map(FailureReason::word)
            .collect();
        assert_eq!(freed, ["no_consensus", "too_many_misses", "insufficient_nodes", "unprocessable"]);
        assert_eq!((End::Expired.frees_key(), End::Cancelled.frees_key()), (true, false));
    }
}
