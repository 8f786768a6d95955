//! All that crosses the broker: the kinds of message, their version, and how they become bytes. No behaviour and
//! no queue names (those are `broker::topology`).
//!
//! A message is one version byte and JSON behind it; its kind travels beside it in the broker's envelope. Unknown
//! kinds and versions are parked by whoever gets them, never dropped, so that an older program can't lose what a
//! newer one sent.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::envelope::Message;
use crate::ids::{AssignmentId, Digest, JobId, ModelName, VerifierId};
use crate::job::{FinishReason, JobRequest, Settlement};
use crate::numbers::{NumericClass, TokenId, TokenNumbers};
use crate::time::Timestamp;

/// The version that this build writes and the only one it reads.
pub const VERSION: u8 = 1;

/// No message may be larger: the broker refuses it, and so do we before decoding.
pub const MESSAGE_SIZE_MAX_BYTES: usize = 1024 * 1024;

/// How many best tokens a replica reports per position.
pub const TOP_COUNT: usize = 4;

/// A message that can't be used, and what to do with it.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Another kind than expected: park it.
    #[error("expected a message of kind {expected}, got {found:?}")]
    Kind {
        /// The kind asked for.
        expected: &'static str,
        /// The kind found.
        found: String,
    },
    /// From another version of the program: park it.
    #[error("message version {0} is not {VERSION}")]
    Version(u8),
    /// Not what its kind promises: the sender's fault; count and drop it.
    #[error("malformed message: {0}")]
    Malformed(String),
}

impl DecodeError {
    /// Whether the message must be kept for a newer program instead of being dropped.
    #[must_use]
    pub const fn is_parked(&self) -> bool {
        matches!(self, Self::Kind { .. } | Self::Version(_))
    }
}

/// Something that crosses the broker.
pub trait Wire: Serialize + DeserializeOwned {
    /// The kind's word in the envelope.
    const KIND: &'static str;

    /// The message to publish, under `id` (the same id at every retry).
    fn to_message(&self, id: impl Into<String>) -> Message {
        let mut body = vec![VERSION];
        // Writing our own plain values to memory can't fail; if it did, the reader names the empty body malformed.
        let _ = serde_json::to_writer(&mut body, self);
        Message {
            id: id.into(),
            kind: Self::KIND.to_owned(),
            body: Bytes::from(body),
            ttl_ms: None,
            trace: None,
        }
    }

    /// The value in a message.
    ///
    /// # Errors
    /// See [`DecodeError`]: kinds and versions we don't know are to be parked, malformed ones dropped and counted.
    fn from_message(message: &Message) -> Result<Self, DecodeError> {
        if message.kind != Self::KIND {
            return Err(DecodeError::Kind { expected: Self::KIND, found: message.kind.clone() });
        }
        if message.body.len() > MESSAGE_SIZE_MAX_BYTES {
            return Err(DecodeError::Malformed(format!("{} bytes is over the limit", message.body.len())));
        }
        match message.body.split_first() {
            None => Err(DecodeError::Malformed("empty".to_owned())),
            Some((&VERSION, json)) => {
                serde_json::from_slice(json).map_err(|error| DecodeError::Malformed(error.to_string()))
            }
            Some((&version, _)) => Err(DecodeError::Version(version)),
        }
    }
}

/// A kind as a metric's label: ours by their words, all others under one, since a stranger may write anything.
#[must_use]
pub fn kind_label(kind: &str) -> &'static str {
    const KINDS: [&str; 7] = [
        JobNotice::KIND,
        Assignment::KIND,
        Replica::KIND,
        Refusal::KIND,
        Heartbeat::KIND,
        Completion::KIND,
        CapacitySummary::KIND,
    ];
    KINDS.into_iter().find(|known| *known == kind).unwrap_or("other")
}

/// On `jobs.{model}`: a job waits. Only its id; the ledger has the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobNotice {
    /// The job.
    pub job_id: JobId,
}

impl Wire for JobNotice {
    const KIND: &'static str = "job";
}

/// On `node.{n}`: answer this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// This piece of work.
    pub id: AssignmentId,
    /// The job it belongs to; the result cache's key.
    pub job_id: JobId,
    /// Where the replica goes.
    pub verifier: VerifierId,
    /// The digest that the node announced and must answer with.
    pub model_digest: Digest,
    /// What is asked.
    pub request: JobRequest,
    /// Keys the noise of job-bound sampling.
    pub sample_key: Digest,
    /// What chat templates see as the present: the job's time of acceptance, the same for all its assignments.
    pub now_ms: Timestamp,
    /// How long the node has, on its own clock, from receipt.
    pub budget_ms: u64,
}

impl Wire for Assignment {
    const KIND: &'static str = "assignment";
}

/// Where a node's time went, in its own words: shown, never trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaTiming {
    /// From receipt to the first prefill.
    pub queued_ms: u64,
    /// From prefill to the last token.
    pub decode_ms: u64,
}

/// On `{n}.replica.{verifier}` or `{n}.replica.any`: an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    /// The assignment that it answers.
    pub assignment_id: AssignmentId,
    /// The job.
    pub job_id: JobId,
    /// All files of the model that answered.
    pub numeric_class: NumericClass,
    /// SHA-256 of the rendered prompt's token ids (little-endian u32).
    pub prompt_hash: Digest,
    /// How many those were.
    pub prompt_tokens: u32,
    /// The version of rendering that they come from; where it is absent, the first.
    #[serde(default = "first_rendering")]
    pub rendering: u32,
    /// The answer's tokens without the end-of-turn token.
    pub tokens: Vec<TokenId>,
    /// Their text.
    pub text: String,
    /// Why it stopped.
    pub finish_reason: FinishReason,
    /// One entry per token, and one more for the end-of-turn token where it stopped by one.
    pub numbers: Vec<TokenNumbers>,
    /// Where the time went.
    pub timing: ReplicaTiming,
}

impl Wire for Replica {
    const KIND: &'static str = "replica";
}

/// Why a node gives an assignment back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// No slot free: neutral.
    Busy,
    /// Shutting down: neutral.
    Draining,
    /// Redelivered once already and ran alone: the assignment itself may have killed the worker. Counts.
    Crashed,
    /// Its budget was over before it began. Counts.
    Expired,
    /// Can't be done: another digest, a prompt over the context, a broken engine. Counts.
    Broken,
}

impl RefusalReason {
    /// Whether it counts as a miss of the node.
    #[must_use]
    pub const fn counts(self) -> bool {
        matches!(self, Self::Crashed | Self::Expired | Self::Broken)
    }
}

/// On `{n}.refusal.{verifier}`: no answer will come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The assignment.
    pub assignment_id: AssignmentId,
    /// Its job.
    pub job_id: JobId,
    /// Why.
    pub reason: RefusalReason,
    /// One sentence for the operator's log; bounded and never trusted.
    pub detail: String,
}

impl Wire for Refusal {
    const KIND: &'static str = "refusal";
}

/// Nodes from before versions were told render by the first.
const fn first_rendering() -> u32 {
    1
}

/// What a node serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedModel {
    /// In which numeric class; holds the digest.
    pub numeric_class: NumericClass,
    /// The version of rendering that its prompts come from; where it is absent, the first.
    #[serde(default = "first_rendering")]
    pub rendering: u32,
    /// How many assignments it takes at once.
    pub slots: u32,
    /// How many of those are free.
    pub free_slots: u32,
}

/// On `{n}.heartbeat`, every ten seconds and at every change of the slots that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// What the node serves; empty while it drains.
    pub models: Vec<ServedModel>,
    /// The queue that it reads.
    pub queue: String,
}

impl Wire for Heartbeat {
    const KIND: &'static str = "heartbeat";
}

/// On `completions.{gateway}`: a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Its end. The group's details are left out.
    pub settlement: Settlement,
}

impl Wire for Completion {
    const KIND: &'static str = "completion";
}

/// What one model has room for, as one verifier sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCapacity {
    /// The model.
    pub model: ModelName,
    /// Live nodes that serve it and are not ejected.
    pub nodes: u32,
    /// Different owners among them.
    pub owners: u32,
    /// Their free slots.
    pub free_slots: u32,
}

/// Broadcast by each verifier every second, so that gateways answer without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacitySummary {
    /// The verifier that reports it.
    pub verifier: VerifierId,
    /// Per model that this verifier offers; others of the catalogue are not among them.
    pub models: Vec<ModelCapacity>,
}

impl Wire for CapacitySummary {
    const KIND: &'static str = "capacity";
}
