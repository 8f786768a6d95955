//! Holds an answer as this node keeps it: everything in a replica except the assignment that it answers.

use std::sync::Arc;

use infera_model::chat::RENDERING;
use infera_types::ids::{Digest, JobId};
use infera_types::{job::FinishReason, numbers::TokenId};
use infera_types::{
    messages::{Assignment, Replica, ReplicaTiming},
    numbers::{NumericClass, TokenNumbers},
};

/// The identity of an answer: two assignments with the same key ask for the same one. It has the job and everything
/// that determines the tokens and what is reported of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AnswerKey {
    job: JobId,
    inputs: Digest,
}

impl AnswerKey {
    /// Returns the key of the answer that `assignment` asks for. The assignment's id, verifier, budget and cache scope, on
    /// which no token depends, are no part of it.
    pub(crate) fn of(assignment: &Assignment) -> Self {
        let mut inputs = Vec::with_capacity(3 * 32 + 8 + 4 + 2);
        inputs.extend_from_slice(assignment.request.digest().as_bytes());
        inputs.extend_from_slice(assignment.model_digest.as_bytes());
        inputs.extend_from_slice(assignment.sample_key.as_bytes());
        inputs.extend_from_slice(&assignment.now_ms.as_millis().to_le_bytes());
        inputs.extend_from_slice(&assignment.choice.to_le_bytes());
        // No part of the request's digest, because no token depends on it; but it says which numbers there are.
        inputs.extend(assignment.request.top_logprobs.map_or([0, 0], |count| [1, count]));
        Self { job: assignment.job_id, inputs: Digest::of(&inputs) }
    }
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The class of the engine that computed it.
    pub(crate) numeric_class: Arc<NumericClass>,
    pub(crate) prompt_hash: Digest,
    pub(crate) prompt_tokens: u32,
    /// How many of these were not computed for it.
    pub(crate) cached_tokens: u32,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) text: String,
    pub(crate) finish_reason: FinishReason,
    pub(crate) numbers: Vec<TokenNumbers>,
    pub(crate) timing: ReplicaTiming,
}

impl Answer {
    /// Returns the approximate size of the answer in memory, in bytes, by which the cache is bounded.
    pub(crate) fn weight_bytes(&self) -> usize {
        let entries = |numbers: &TokenNumbers| numbers.top.capacity() + numbers.likeliest.capacity();
        let row = |numbers| size_of::<TokenNumbers>() + entries(numbers) * size_of::<(TokenId, f32)>();
        let numbers: usize = self.numbers.iter().map(row).sum();
        size_of::<Self>() + self.tokens.capacity() * size_of::<TokenId>() + self.text.capacity() + numbers
    }

    /// Makes the replica that answers `assignment` with this answer.
    pub(crate) fn to_replica(&self, assignment: &Assignment) -> Replica {
        Replica {
            assignment_id: assignment.id,
            job_id: assignment.job_id,
            numeric_class: NumericClass::clone(&self.numeric_class),
            prompt_hash: self.prompt_hash,
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            rendering: RENDERING,
            tokens: self.tokens.clone(),
            text: self.text.clone(),
            finish_reason: self.finish_reason,
            numbers: self.numbers.clone(),
            timing: self.timing,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashSet;

    use infera_types::ids::{AssignmentId, ModelName, VerifierId};
    use infera_types::job::{ChatMessage, JobRequest};
    use infera_types::knobs::Knobs;
    use infera_types::time::Timestamp;

    use super::*;

    pub(crate) fn assignment(job: u8) -> Assignment {
        Assignment {
            id: AssignmentId::new(),
            job_id: JobId::from_bytes([job; 16]),
            verifier: VerifierId::new("v1"),
            model_digest: Digest::of(b"model"),
            request: JobRequest {
                model: ModelName::new("m"),
                messages: vec![ChatMessage { role: "user".to_owned(), content: "hello".to_owned() }],
                max_tokens: 8,
                temperature: 0.0,
                seed: None,
                knobs: Knobs::default(),
                top_logprobs: None,
            },
            sample_key: Digest::of(b"key"),
            choice: 0,
            cache_scope: None,
            now_ms: Timestamp::from_millis(1),
            budget_ms: 1_000,
            speaks: infera_types::messages::Version::NEWEST,
        }
    }

    pub(crate) fn answer(text: &str) -> Answer {
        let numeric_class = Arc::clone(&crate::capacity::tests::model("model", 1).numeric_class);
        Answer {
            numeric_class,
            prompt_hash: Digest::of(b"prompt"),
            prompt_tokens: 1,
            cached_tokens: 0,
            tokens: vec![1, 2],
            text: text.to_owned(),
            finish_reason: FinishReason::Length,
            numbers: vec![TokenNumbers {
                top: vec![(1, 0.5)],
                log_sum_exp: 1.0,
                logit_max: None,
                likeliest: Vec::new(),
            }],
            timing: ReplicaTiming::default(),
        }
    }

    #[test]
    fn the_key_is_what_the_tokens_depend_on() {
        let first = assignment(1);
        let key = AnswerKey::of(&first);
        let again = Assignment {
            id: AssignmentId::new(),
            verifier: VerifierId::new("v2"),
            budget_ms: 5,
            cache_scope: Some(Digest::of(b"scope")),
            ..first.clone()
        };
        assert_eq!(AnswerKey::of(&again), key);
        let changed = |change: fn(&mut JobRequest)| {
            let mut changed = first.clone();
            change(&mut changed.request);
            changed
        };
        let others = [
            assignment(2),
            Assignment { model_digest: Digest::of(b"other"), ..first.clone() },
            Assignment { sample_key: Digest::of(b"other"), ..first.clone() },
            Assignment { now_ms: Timestamp::from_millis(2), ..first.clone() },
            Assignment { choice: 1, ..first.clone() },
            changed(|request| request.max_tokens += 1),
            changed(|request| request.knobs.stop = vec!["x".to_owned()]),
            changed(|request| request.top_logprobs = Some(0)),
            changed(|request| request.top_logprobs = Some(1)),
        ];
        let keys: HashSet<AnswerKey> = others.iter().map(AnswerKey::of).chain([key]).collect();
        assert_eq!(keys.len(), others.len() + 1, "each has a key of its own");
    }
}
