//! Lists every kind of message that crosses the broker. No behaviour and no queue names (those are `broker::topology`); how
//! a message becomes bytes is `wire`.

use serde::{Deserialize, Serialize};

use crate::features::Features;
use crate::ids::{AssignmentId, Digest, JobId, ModelName, VerifierId};
use crate::job::{End, FailureReason, FinishReason, JobRequest, Settlement};
use crate::numbers::{NumericClass, TokenId, TokenNumbers};
use crate::time::Timestamp;
pub use crate::wire::{DecodeError, MESSAGE_SIZE_MAX_BYTES, Version, Wire};

/// How many best tokens a replica reports per position.
pub const TOP_COUNT: usize = 4;

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
    /// The newest version that the gateway reads which waits for the job's end; the first where it is absent.
    #[serde(default)]
    pub speaks: Version,
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
    /// The newest version that every verifier reads which may get the answer; the first where it is absent.
    #[serde(default)]
    pub speaks: Version,
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
    /// Asks for something that this version of the worker doesn't know, so that it could only answer something else:
    /// neutral. Since version 2 of messages; the first says [`RefusalReason::Busy`], which is neutral too.
    Unsupported,
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

    fn in_first_version(&self) -> Option<Self> {
        (self.reason == RefusalReason::Unsupported)
            .then(|| Self { reason: RefusalReason::Busy, ..self.clone() })
    }
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
    /// What it can do beyond answering; where it is absent, what every engine could before features were told.
    #[serde(default)]
    pub features: Features,
}

/// On `{n}.heartbeat`, every ten seconds and at every change of the slots that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// What the node serves; empty while it drains.
    pub models: Vec<ServedModel>,
    /// The queue that it reads.
    pub queue: String,
    /// The newest version that the node reads; the first where it is absent.
    #[serde(default)]
    pub speaks: Version,
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

    /// The first version has no word for a conversation that the template refuses: it failed such a job as one that can't
    /// be rendered.
    fn in_first_version(&self) -> Option<Self> {
        let End::Failed { reason: FailureReason::InvalidMessages, .. } = self.settlement.end else {
            return None;
        };
        let mut older = self.clone();
        if let End::Failed { reason, .. } = &mut older.settlement.end {
            *reason = FailureReason::Unprocessable;
        }
        Some(older)
    }
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
    /// The newest version that the verifier reads; the first where it is absent.
    #[serde(default)]
    pub speaks: Version,
}

impl Wire for CapacitySummary {
    const KIND: &'static str = "capacity";
}
