//! Lists every kind of message that crosses the broker. No behaviour and no queue names (those are `broker::topology`); how
//! a message becomes bytes is `wire`.

use std::mem;

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::columns::{MalformedColumns, finite, read_numbers, read_tokens, write_numbers, write_tokens};
use crate::features::Features;
use crate::frames::{Attempt, DeltasFrame, TokensFrame, Watch};
use crate::ids::{AssignmentId, Digest, JobId, ModelName, VerifierId};
use crate::job::{End, FailureReason, FinishReason, JobRequest, Settlement};
use crate::numbers::{NumericClass, TokenId, TokenNumbers};
use crate::time::Timestamp;
use crate::wire::Columned;
pub use crate::wire::{DecodeError, MESSAGE_SIZE_MAX_BYTES, Version, Wire};

/// How many of the best tokens a replica reports per position.
pub const TOP_COUNT: usize = 4;

/// Returns a kind as a metric's label: our kinds by their words, and all others under one label, because a stranger
/// may write anything.
#[must_use]
pub fn kind_label(kind: &str) -> &'static str {
    const KINDS: [&str; 10] = [
        JobNotice::KIND,
        Assignment::KIND,
        Replica::KIND,
        Refusal::KIND,
        Heartbeat::KIND,
        Completion::KIND,
        CapacitySummary::KIND,
        TokensFrame::KIND,
        DeltasFrame::KIND,
        Watch::KIND,
    ];
    KINDS.into_iter().find(|known| *known == kind).unwrap_or("other")
}

/// Says on `jobs.{model}` or `later.{model}` that a job waits. It carries only the id; the ledger has the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobNotice {
    /// The job.
    pub job_id: JobId,
    /// The newest version that the gateway reads which waits for the job's end; the first where it is absent.
    #[serde(default)]
    pub speaks: Version,
}

impl Columned for JobNotice {}

impl Wire for JobNotice {
    const KIND: &'static str = "job";
}

/// Asks a node on `node.{n}` for an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// This piece of work.
    pub id: AssignmentId,
    /// The job that it belongs to; the key of the result cache.
    pub job_id: JobId,
    /// The verifier to which the replica goes.
    pub verifier: VerifierId,
    /// The digest that the node announced and must answer with.
    pub model_digest: Digest,
    /// The request to answer.
    pub request: JobRequest,
    /// The key of the noise of job-bound sampling.
    pub sample_key: Digest,
    /// Which of the request's answers is asked for, counted from 0: each has noise of its own. Only nodes that announce
    /// [`Feature::Sampling2`](crate::features::Feature::Sampling2) are asked for another than the first.
    #[serde(default, skip_serializing_if = "crate::numbers::is_zero")]
    pub choice: u32,
    /// The scope: prompts of the same one share what is computed for them. One account's have the same in one epoch.
    /// Only nodes that announce [`Feature::PrefixCache`](crate::features::Feature::PrefixCache) are sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_scope: Option<Digest>,
    /// The time that chat templates see as the present: when the job was accepted, the same for all its assignments.
    pub now_ms: Timestamp,
    /// How long the node has, on its own clock, from receipt, in milliseconds.
    pub budget_ms: u64,
    /// The newest version that every verifier reads which may get the answer; the first where it is absent.
    #[serde(default)]
    pub speaks: Version,
}

impl Columned for Assignment {}

impl Wire for Assignment {
    const KIND: &'static str = "assignment";
}

/// Where a node's time went, as the node reports it: shown, never trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaTiming {
    /// From receipt to the first prefill, in milliseconds.
    pub queued_ms: u64,
    /// From prefill to the last token, in milliseconds.
    pub decode_ms: u64,
}

/// Carries an answer, on `{n}.replica.{verifier}` or `{n}.replica.any`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    /// The assignment that it answers.
    pub assignment_id: AssignmentId,
    /// The job.
    pub job_id: JobId,
    /// The class in which the answer was computed; holds the digest of the model's files.
    pub numeric_class: NumericClass,
    /// SHA-256 of the rendered prompt's token ids (little-endian u32).
    pub prompt_hash: Digest,
    /// How many token ids the rendered prompt has.
    pub prompt_tokens: u32,
    /// How many of these the node says that it did not compute, because an earlier prompt of the same scope began with them:
    /// shown, never priced, never compared.
    #[serde(default, skip_serializing_if = "crate::numbers::is_zero")]
    pub cached_tokens: u32,
    /// The version of rendering that made them; where it is absent, the first.
    #[serde(default = "first_rendering")]
    pub rendering: u32,
    /// The run that made the answer, as its frames name it; absent where it was not streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// The answer's tokens without the end-of-turn token, up to the one that completed a stop string.
    pub tokens: Vec<TokenId>,
    /// Their text, up to where the stop string begins.
    pub text: String,
    /// Why the answer stopped.
    pub finish_reason: FinishReason,
    /// One entry per token, and one more for the end-of-turn token if the answer stopped by one.
    pub numbers: Vec<TokenNumbers>,
    /// Where the node's time went.
    pub timing: ReplicaTiming,
}

impl Wire for Replica {
    const KIND: &'static str = "replica";
}

impl Columned for Replica {
    fn in_columns(&self) -> Option<(Self, Vec<u8>)> {
        // All fields are named, so that the numbers aren't copied to be thrown away.
        let rest = Self {
            assignment_id: self.assignment_id,
            job_id: self.job_id,
            numeric_class: self.numeric_class.clone(),
            prompt_hash: self.prompt_hash,
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            rendering: self.rendering,
            attempt: self.attempt,
            tokens: Vec::new(),
            text: self.text.clone(),
            finish_reason: self.finish_reason,
            numbers: Vec::new(),
            timing: self.timing,
        };
        Some((rest, columns_of(&self.tokens, &self.numbers)))
    }

    fn take_columns(&mut self, columns: &mut &[u8]) -> Result<(), MalformedColumns> {
        self.tokens = read_tokens(columns)?;
        self.numbers = finite(read_numbers(columns)?)?;
        Ok(())
    }
}

fn columns_of(tokens: &[TokenId], numbers: &[TokenNumbers]) -> Vec<u8> {
    let mut columns = Vec::new();
    write_tokens(tokens, &mut columns);
    write_numbers(numbers, &mut columns);
    columns
}

/// Why a node returns an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RefusalReason {
    /// No slot is free: neutral.
    Busy,
    /// The node is shutting down: neutral.
    Draining,
    /// The assignment was redelivered once already and ran alone, so it may itself have killed the worker. Counts.
    Crashed,
    /// The budget was used up before work began. Counts.
    Expired,
    /// Asks for something that this version of the worker doesn't know, so that it could only answer something else:
    /// neutral. Since version 2 of messages; the first says [`RefusalReason::Busy`], which is neutral too.
    Unsupported,
    /// The assignment cannot be done: another digest, a prompt over the context, a broken engine. Counts.
    Broken,
}

impl RefusalReason {
    /// Returns the reason's word, for logs: the same as in messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// Returns whether the refusal counts as a miss of the node.
    #[must_use]
    pub const fn counts(self) -> bool {
        matches!(self, Self::Crashed | Self::Expired | Self::Broken)
    }
}

/// Says on `{n}.refusal.{verifier}` that no answer will come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The assignment.
    pub assignment_id: AssignmentId,
    /// Its job.
    pub job_id: JobId,
    /// Why the node refused.
    pub reason: RefusalReason,
    /// One sentence for the operator's log; bounded and never trusted.
    pub detail: String,
}

impl Columned for Refusal {}

impl Wire for Refusal {
    const KIND: &'static str = "refusal";

    fn in_first_version(&self) -> Option<Self> {
        (self.reason == RefusalReason::Unsupported)
            .then(|| Self { reason: RefusalReason::Busy, ..self.clone() })
    }
}

/// Returns the version of nodes that do not report one: they render by the first.
const fn first_rendering() -> u32 {
    1
}

/// A model that a node serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedModel {
    /// The numeric class in which it is served; holds the digest.
    pub numeric_class: NumericClass,
    /// The version of rendering of its prompts; where it is absent, the first.
    #[serde(default = "first_rendering")]
    pub rendering: u32,
    /// How many assignments the node takes at once.
    pub slots: u32,
    /// How many of those are free.
    pub free_slots: u32,
    /// What it can do beyond answering; where it is absent, what every engine could before features were told.
    #[serde(default)]
    pub features: Features,
}

/// Reports a node's state on `{n}.heartbeat`, every ten seconds and at every change of the slots that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// What the node serves; empty while it drains.
    pub models: Vec<ServedModel>,
    /// The queue that the node reads.
    pub queue: String,
    /// The machine that the node runs on, in its own words, which nothing proves: nodes that name the same one are not drawn
    /// together for a job of their owner's. Absent where the node doesn't know, and from programs that don't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The newest version that the node reads; the first where it is absent.
    #[serde(default)]
    pub speaks: Version,
}

impl Columned for Heartbeat {}

impl Wire for Heartbeat {
    const KIND: &'static str = "heartbeat";
}

/// Says on `completions.{gateway}` that a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The job's end, without the group's details.
    pub settlement: Settlement,
}

/// Only answers have tokens and numbers.
impl Columned for Completion {
    fn in_columns(&self) -> Option<(Self, Vec<u8>)> {
        let mut rest = self.clone();
        let End::Succeeded { answer, .. } = &mut rest.settlement.end else { return None };
        let (tokens, numbers) = (mem::take(&mut answer.tokens), mem::take(&mut answer.numbers));
        Some((rest, columns_of(&tokens, &numbers)))
    }

    fn take_columns(&mut self, columns: &mut &[u8]) -> Result<(), MalformedColumns> {
        if let End::Succeeded { answer, .. } = &mut self.settlement.end {
            answer.tokens = read_tokens(columns)?;
            answer.numbers = finite(read_numbers(columns)?)?;
        }
        Ok(())
    }
}

impl Wire for Completion {
    const KIND: &'static str = "completion";

    /// The first version has no word for a conversation that the template refuses, nor for a removed model: it failed such jobs
    /// as ones that can't be rendered, and those for models without nodes as ones for too few.
    fn in_first_version(&self) -> Option<Self> {
        let End::Failed { reason, .. } = &self.settlement.end else { return None };
        let known = match reason {
            FailureReason::InvalidMessages => FailureReason::Unprocessable,
            FailureReason::ModelRemoved => FailureReason::InsufficientNodes,
            _ => return None,
        };
        let mut older = self.clone();
        if let End::Failed { reason, .. } = &mut older.settlement.end {
            *reason = known;
        }
        Some(older)
    }
}

/// A model's capacity as one verifier sees it.
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
    /// The features that nodes of three owners have, each feature counted by itself: a request for three replicas that needs
    /// another can't be answered. Where all that it needs are here, different nodes may still have them. Absent from
    /// verifiers that don't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
}

/// Reports capacity to all gateways: each verifier broadcasts it every second, so that gateways answer from memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacitySummary {
    /// The verifier that reports it.
    pub verifier: VerifierId,
    /// The capacity of each model that this verifier offers; other models of the catalogue are left out.
    pub models: Vec<ModelCapacity>,
    /// The newest version that the verifier reads; the first where it is absent.
    #[serde(default)]
    pub speaks: Version,
}

impl Columned for CapacitySummary {}

impl Wire for CapacitySummary {
    const KIND: &'static str = "capacity";
}
