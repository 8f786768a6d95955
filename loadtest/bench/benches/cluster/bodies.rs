//! The messages of one job as the programs write them, with the same length in bytes: the echo carries these.

use std::time::Duration;

use bytes::Bytes;
use infera_types::ids::{AssignmentId, Digest, JobId, VerifierId};
use infera_types::job::{FinishReason, JobRequest, Settlement};
use infera_types::time::Timestamp;
use infera_types::{
    messages::{Assignment, Completion, JobNotice, Replica, ReplicaTiming, Version, Wire as _},
    numbers::{NumericClass, TokenNumbers},
};

use infera_bench::Fault;
use infera_bench::fixtures::Asker;

/// One body for each kind of message.
pub(crate) struct Bodies {
    pub(crate) notice: Bytes,
    pub(crate) assignment: Bytes,
    pub(crate) replica: Bytes,
    pub(crate) completion: Bytes,
}

impl Bodies {
    pub(crate) fn new(asker: &Asker) -> Result<Self, Fault> {
        let (job, verifier) = (asker.job(), VerifierId::fresh());
        let request: JobRequest = serde_json::from_slice(&job.request)?;
        let settlement = asker.settlement(job.id, &verifier);
        let settlement = Settlement { group: None, ..settlement };
        let assignment = Assignment {
            id: AssignmentId::new(),
            job_id: job.id,
            verifier,
            model_digest: Digest::of(b"model"),
            request,
            sample_key: Digest::of(b"sample key"),
            choice: 0,
            cache_scope: Some(Digest::of(b"cache scope")),
            now_ms: Timestamp::now(),
            budget_ms: Duration::from_secs(10).as_secs() * 1_000,
            speaks: Version::NEWEST,
        };
        Ok(Self {
            notice: JobNotice { job_id: job.id, speaks: Version::NEWEST }.to_message("").body,
            assignment: assignment.to_message("").body,
            replica: replica(job.id).to_message("").body,
            completion: Completion { settlement }.to_message("").body,
        })
    }
}

/// Makes the stub's answer: 16 tokens and the end token, with four candidates each.
fn replica(job_id: JobId) -> Replica {
    let tokens: Vec<u32> = (100..116).collect();
    let top = vec![(100, 256.0), (101, 128.0), (102, 128.0), (103, 128.0)];
    let numbers = TokenNumbers { top, log_sum_exp: 256.0, logit_max: None, likeliest: Vec::new() };
    Replica {
        assignment_id: AssignmentId::new(),
        job_id,
        numeric_class: NumericClass {
            model_digest: Digest::of(b"model"),
            provider: "stub".to_owned(),
            hardware: "none".to_owned(),
            runtime: "none".to_owned(),
            compute: "none".to_owned(),
        },
        prompt_hash: Digest::of(b"prompt"),
        rendering: 1,
        attempt: None,
        prompt_tokens: 16,
        cached_tokens: 0,
        numbers: vec![numbers; tokens.len() + 1],
        tokens,
        text: "an answer of some sixteen tokens, as long as the stub's are".to_owned(),
        finish_reason: FinishReason::Stop,
        timing: ReplicaTiming::default(),
    }
}
