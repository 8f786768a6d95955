//! What is told while an answer is being written: tokens from nodes to verifiers, released text from verifiers to gateways, and
//! what gateways have passed on. All of it is fleeting: any of these messages may be lost, and no end of a job, no verdict and no
//! payment depends on one, but for the part of an answer that a client had which hung up.

use serde::{Deserialize, Serialize};

use crate::ids::{AssignmentId, Digest, GatewayId, JobId, VerifierId};
use crate::numbers::TokenId;
use crate::wire::{Columned, Wire};

/// The run of an assignment that a frame belongs to: when the run began, in milliseconds since 1970 on the node's clock, and
/// later than the node's runs of the assignment before. A run that was cut off begins again as another attempt.
pub type Attempt = u64;

/// Tokens of one answer in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerTokens {
    /// The assignment.
    pub assignment: AssignmentId,
    /// The run of it.
    pub attempt: Attempt,
    /// The position of the first of these tokens in the answer, counted from 0.
    #[serde(default, skip_serializing_if = "crate::numbers::is_zero")]
    pub from: u32,
    /// The tokens, without the end-of-turn token.
    pub tokens: Vec<TokenId>,
}

/// Carries tokens of a node's streamed answers on `{n}.tokens.{verifier}`: at most one message a tick. An answer's first frame
/// and every 20th begin at position 0, which mends what was lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokensFrame {
    /// One entry for each answer that has new tokens.
    pub answers: Vec<AnswerTokens>,
}

impl Wire for TokensFrame {
    const KIND: &'static str = "tokens";
}

impl Columned for TokensFrame {}

/// Released tokens of one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// The job.
    pub job: JobId,
    /// The position of the first of these tokens in the answer, counted from 0.
    #[serde(default, skip_serializing_if = "crate::numbers::is_zero")]
    pub from: u32,
    /// The tokens.
    pub tokens: Vec<TokenId>,
    /// The text that they add: whole characters, and nothing that may begin a stop string.
    pub text: String,
}

/// Carries what was released to one gateway on `deltas.{gateway}`: at most one message a tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeltasFrame {
    /// The verifier that owns the jobs.
    pub verifier: VerifierId,
    /// One entry for each job that has new tokens.
    pub deltas: Vec<Delta>,
}

impl Wire for DeltasFrame {
    const KIND: &'static str = "deltas";
}

impl Columned for DeltasFrame {}

/// What a gateway has passed on of a job's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOn {
    /// How many tokens.
    pub count: u32,
    /// SHA-256 of these tokens as little-endian u32s.
    pub sha256: Digest,
}

/// A job that a gateway watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// The job.
    pub job: JobId,
    /// What its client has.
    pub passed_on: PassedOn,
    /// Whether the client hung up: the job is to end with what was passed on. Only the gateway that accepted the job says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop: bool,
}

/// Tells all verifiers on the network's exchange what a gateway has passed on, and asks the owners for what comes next: when
/// events are opened at another gateway, at a gap, after a second of silence, and when a client hung up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The gateway.
    pub gateway: GatewayId,
    /// The jobs.
    pub jobs: Vec<Watched>,
}

impl Wire for Watch {
    const KIND: &'static str = "watch";
}

impl Columned for Watch {}
