//! Values that go into and come out of the ledger. No behaviour.

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, AssignmentId, Digest, GatewayId, JobId, ModelName, NodeId, OwnerId, SegmentId};
use crate::job::{GroupRecord, Settlement, VerificationPolicy};
use crate::time::Timestamp;

/// A job about to be accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// Its id, made at the edge.
    pub id: JobId,
    /// Who asks and pays.
    pub account: AccountId,
    /// Which model.
    pub model: ModelName,
    /// The request's JSON ([`crate::job::JobRequest`]).
    pub request: Vec<u8>,
    /// How much agreement is asked for.
    pub policy: VerificationPolicy,
    /// Which gateway waits for the completion.
    pub gateway: GatewayId,
    /// Whether a client waits: such a job fails at once where others would wait for nodes.
    pub synchronous: bool,
    /// When it was accepted; what chat templates see as the present.
    pub accepted_ms: Timestamp,
    /// When it ends as expired.
    pub deadline_ms: Timestamp,
    /// Whose secret keys its noise and its draw.
    pub epoch: u64,
    /// The client's key, if it sent one.
    pub idempotency: Option<Idempotency>,
    /// At most so many of the account's jobs may wait (queued or running); the next is [`Accepted::Full`].
    pub waiting_max: u32,
}

/// A client's idempotency key, hashed, with what it was first used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// SHA-256 of the key.
    pub key: Digest,
    /// SHA-256 of the route and the raw body.
    pub fingerprint: Digest,
}

/// What became of an acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is a job now.
    New,
    /// The same request under the same idempotency key was accepted before, as this job.
    Existing(JobId),
    /// Another request used that idempotency key; the client's fault.
    KeyReused,
    /// The account has as many waiting jobs as it may.
    Full {
        /// How many.
        waiting: u32,
    },
}

/// What became of a cancellation.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, never stored in bulk")]
pub enum Cancelled {
    /// The job ended by it. The settlement is the row that was written.
    Now(Settlement),
    /// It ended before, so.
    Before(Settlement),
    /// There is no such job for this account.
    Unknown,
}

/// How a job that hasn't ended stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for a verifier.
    Queued,
    /// A verifier has it.
    Running,
    /// See its settlement.
    Ended,
}

/// A job as its account sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// The job.
    pub id: JobId,
    /// Which model.
    pub model: ModelName,
    /// Where it stands.
    pub state: JobState,
    /// When it was accepted.
    pub accepted_ms: Timestamp,
    /// When it expires or would have.
    pub deadline_ms: Timestamp,
    /// How it ended, if it did.
    pub settlement: Option<Settlement>,
    /// The dispute's state, if one was opened: `disputed`, `upheld` or `overturned`.
    pub dispute: Option<crate::job::VerificationStatus>,
}

/// Counts of the whole network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Jobs accepted since the ledger began.
    pub accepted: u64,
    /// Waiting for a verifier.
    pub queued: u64,
    /// In a verifier's hands.
    pub running: u64,
    /// Ended with an answer.
    pub succeeded: u64,
    /// Ended as failed.
    pub failed: u64,
    /// Ended as cancelled.
    pub cancelled: u64,
    /// Ended as expired.
    pub expired: u64,
    /// Tokens of all prompts answered.
    pub prompt_tokens: u64,
    /// Tokens of all answers.
    pub completion_tokens: u64,
    /// Nodes registered and not revoked.
    pub nodes: u64,
    /// Jobs with an open dispute.
    pub disputed: u64,
}

/// One message from `jobs.{model}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The job.
    pub job: JobId,
    /// Whether the broker gave it out before.
    pub redelivered: bool,
}

/// What became of one notice.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives for one dispatch; boxing would cost an allocation a job"
)]
pub enum Take {
    /// It is ours now.
    Taken(TakenJob),
    /// It ended: publish its completion again, ack.
    Settled(Settlement),
    /// Unknown, or another live verifier has it: ack and drop.
    Nothing(JobId),
}

/// A job in a verifier's hands.
#[derive(Clone, Debug, PartialEq)]
pub struct TakenJob {
    /// The job.
    pub id: JobId,
    /// Who asked.
    pub account: AccountId,
    /// Which model.
    pub model: ModelName,
    /// The request's JSON.
    pub request: Vec<u8>,
    /// How much agreement is asked for.
    pub policy: VerificationPolicy,
    /// Which gateway waits.
    pub gateway: GatewayId,
    /// Whether a client waits.
    pub synchronous: bool,
    /// When it was accepted.
    pub accepted_ms: Timestamp,
    /// When it expires.
    pub deadline_ms: Timestamp,
    /// Whose secret keys it.
    pub epoch: u64,
    /// How many owners died with it. Over five: `poison`.
    pub lost_handouts: u32,
    /// Misses that counted under earlier owners.
    pub misses: Vec<Miss>,
}

/// A node that failed a job, kept on the job's row so that a new owner doesn't ask it or its owner again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Miss {
    /// The assignment.
    pub assignment: AssignmentId,
    /// Who failed it.
    pub node: NodeId,
    /// Who owns that node.
    pub owner: OwnerId,
}

/// What became of a settlement.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, never stored in bulk")]
pub enum Settled {
    /// The job ended by it.
    Now,
    /// It ended before, so; ours is dropped. (The same settlement sent twice is `Before` with itself.)
    Before(Settlement),
}

/// What a verdict says of one assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It agrees with a quorum.
    Valid,
    /// An objective fault (L0), or the referee's word.
    Invalid,
    /// Nobody can say: pays nothing, costs nothing.
    Inconclusive,
    /// Asked, and no answer in time, or refused for a reason that counts.
    Missed,
    /// Not the node's doing.
    Neutral,
}

/// One line of the append-only account book.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Posting {
    /// Unique for ever: `usage:{job}` or `verdict:{assignment}`.
    pub id: String,
    /// The job that it follows from.
    pub job_id: JobId,
    /// When it was decided.
    pub posted_ms: Timestamp,
    /// What it says.
    pub entry: PostingEntry,
}

/// What a posting says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PostingEntry {
    /// An account used the network.
    Usage {
        /// Who pays.
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
        /// Which model it served.
        model: ModelName,
        /// The verdict.
        verdict: Verdict,
        /// Thousandths of a point earned; integers, so that sums are exact.
        millipoints: i64,
        /// From sending to arrival, as we saw it; 0 where nothing arrived.
        elapsed_ms: u64,
        /// Tokens that it produced.
        tokens: u64,
        /// Whether it arrived within its budget.
        on_time: bool,
        /// Numbers outside the tolerance: recorded, costs nothing until the referee exists.
        numbers_outside: bool,
    },
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

/// A node's record for one model, as far as the projector has come. Counts decay; see the verifier's `reputation`.
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
    /// Weight of answers and misses together, decayed: what `on_time` is a share of.
    pub asked: f64,
    /// Decayed sum of tokens of VALID answers.
    pub tokens: f64,
    /// Decayed sum of the seconds that those took, as we saw it.
    pub seconds: f64,
    /// VALID verdicts ever.
    pub valid_count: u64,
    /// First VALID verdict.
    pub first_valid_ms: Option<Timestamp>,
    /// When this was last folded.
    pub updated_ms: Timestamp,
}

/// The group of a settled job, with what it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The settlement, with the group in it.
    pub settlement: Settlement,
    /// The group.
    pub record: GroupRecord,
    /// Whether its postings are complete.
    pub closed: bool,
}

/// A job past its deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverdueJob {
    /// The job.
    pub id: JobId,
    /// Who asked.
    pub account: AccountId,
    /// Which model.
    pub model: ModelName,
    /// Which gateway waits.
    pub gateway: GatewayId,
}

/// What a model's name means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueEntry {
    /// The name that clients write and queues are called by.
    pub name: ModelName,
    /// Digests of the model folders that may answer for it. The first keys the sampling noise.
    pub digests: Vec<Digest>,
    /// SHA-256 of `tokenizer.json`: all digests share it.
    pub tokenizer: Digest,
    /// Prompt and answer together, in tokens.
    pub context_max: u32,
    /// Ends a turn.
    pub end_tokens: Vec<crate::job::TokenId>,
    /// Microseconds that the reference machine takes per token: what points are scaled by (kappa).
    pub reference_token_us: u64,
    /// Since when.
    pub created_ms: Timestamp,
}

/// A node about to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// What its runner calls it.
    pub name: String,
    /// SHA-256 of its secret.
    pub secret: Digest,
    /// Whose it is, if an account key came with it.
    pub account: Option<AccountId>,
}

/// What became of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The node, new or found again.
    Node(NodeRecord),
    /// The name is taken and the secret is another: the runner's fault.
    WrongSecret,
}

/// A node on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its inner id.
    pub id: NodeId,
    /// What its runner calls it.
    pub name: String,
    /// Who owns it.
    pub owner: OwnerId,
    /// Since when.
    pub registered_ms: Timestamp,
}

/// A span of time with one secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number.
    pub number: u64,
    /// Its secret: keys noise and draws, never sent to anyone.
    pub secret: Digest,
}

/// What became of a sign-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedUp {
    /// The account.
    pub account: AccountId,
    /// Whether it is new; if not, nothing about it may be shown.
    pub is_new: bool,
}

/// A key about to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// SHA-256 of the whole key.
    pub hash: Digest,
    /// Whose it is.
    pub account: AccountId,
    /// Its last four characters, for lists.
    pub hint: String,
}

/// A key on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Whose it is.
    pub account: AccountId,
    /// Its last four characters.
    pub hint: String,
}

/// All that is known of an ended job: what one line of the archive is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettledRecord {
    /// The job.
    pub job_id: JobId,
    /// When it was accepted.
    pub accepted_ms: Timestamp,
    /// What was asked; none if the body was pruned before.
    pub request: Option<serde_json::Value>,
    /// How it ended.
    pub settlement: Settlement,
    /// Its verdicts and usage.
    pub postings: Vec<Posting>,
}

/// Where one record lies within its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// The job.
    pub job: JobId,
    /// Where its frame begins in the object, in bytes.
    pub frame_offset: u64,
    /// How long the frame is, in bytes.
    pub frame_length: u64,
    /// Which line of the frame it is, from 0.
    pub index: u32,
    /// SHA-256 of the line without its newline.
    pub hash: Digest,
}

/// A record's place, and the object that it lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedRecord {
    /// Its segment.
    pub segment: SegmentId,
    /// The object's key.
    pub key: String,
    /// Where in it.
    pub place: RecordPlace,
}
