//! The rows with which ledgers are measured: as large as those that the gateway and the verifier make.

use std::time::Duration;

use infera_ledger::{Metadata, NewJob, Posting, PostingEntry, Room, Standby, Verdict};
use infera_types::choice::Choice;
use infera_types::ids::{
    AccountId, AssignmentId, Digest, GatewayId, JobId, ModelName, NodeId, OwnerId, VerifierId,
};
use infera_types::knobs::Knobs;
use infera_types::numbers::{NumericClass, TokenNumbers};
use infera_types::time::Timestamp;
use infera_types::{
    job::{
        Answer, AssignmentRecord, AssignmentState, ChatMessage, End, FinishReason, GroupRecord, JobRequest,
        Numbers, ReplicaCounts, ReplicaSummary, Rung, Settlement, Verification, VerificationPolicy,
        VerificationStatus,
    },
    numbers::TokenId,
};

/// The model of all jobs here.
pub const MODEL: &str = "infera-tiny";
/// The question of all jobs here.
pub const QUESTION: &str = "What is 47 + 38?";
/// The least token of the stub's where pieces of text are counted: infera-tiny's tokens below may be parts of a character, which is shown
/// with the next token.
pub const WHOLE_TOKEN_MIN: TokenId = 263;
/// The most tokens of an answer that is asked for; the stub's answers have 16.
pub const ANSWER_TOKENS_MAX: u32 = 64;

/// Returns the same question as the body of a route; `length` is the name of the field for the answer's length.
#[must_use]
pub fn body(length: &str) -> String {
    body_of(length, ANSWER_TOKENS_MAX as usize)
}

fn body_of(length: &str, tokens_max: usize) -> String {
    format!(
        r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"{QUESTION}"}}],"{length}":{tokens_max},"temperature":0.7}}"#
    )
}

/// Returns the same question as the body of a streamed chat of at most `tokens_max` tokens, with these words in `verification`.
#[must_use]
pub fn streamed_body(verification: &str, tokens_max: usize) -> String {
    let plain = body_of("max_tokens", tokens_max);
    let rest = plain.strip_prefix('{').unwrap_or_default();
    format!(r#"{{"stream":true,"verification":{{{verification}}},{rest}"#)
}

/// Makes jobs of one account.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The account that the jobs belong to.
    pub account: AccountId,
    gateway: GatewayId,
    request: Vec<u8>,
    epoch: u64,
}

impl Asker {
    /// Makes an asker with this account, in this epoch.
    ///
    /// # Errors
    /// The request cannot be written as JSON, which would be a mistake here.
    pub fn new(account: AccountId, epoch: u64) -> Result<Self, serde_json::Error> {
        let message = ChatMessage { role: "user".to_owned(), content: QUESTION.to_owned() };
        let request = JobRequest {
            model: ModelName::new(MODEL),
            messages: vec![message],
            max_tokens: ANSWER_TOKENS_MAX,
            temperature: 0.7,
            seed: None,
            knobs: Knobs::default(),
            top_logprobs: None,
            stream: None,
        };
        Ok(Self { account, gateway: GatewayId::fresh(), request: serde_json::to_vec(&request)?, epoch })
    }

    /// Makes the job that the gateway would make of [`body`].
    #[must_use]
    pub fn job(&self) -> NewJob {
        let now = Timestamp::now();
        NewJob {
            id: JobId::new(),
            choice: Choice::ONLY,
            shows_tokens: false,
            key: None,
            account: self.account.clone(),
            model: ModelName::new(MODEL),
            request: self.request.clone(),
            policy: VerificationPolicy::default(),
            gateway: self.gateway.clone(),
            synchronous: false,
            accepted_ms: now,
            deadline_ms: now.after(Duration::from_secs(3600)),
            epoch: self.epoch,
            idempotency: None,
            waiting_max: u32::MAX,
            room: Room::UNBOUNDED,
            standby: Standby::never_held(&self.account),
            metadata: Metadata::new(),
            keeping: infera_ledger::Keeping::default(),
            charge: None,
        }
    }

    /// Makes the job's end, with three agreeing replicas as long as the stub's.
    #[must_use]
    pub fn settlement(&self, job: JobId, verifier: &VerifierId) -> Settlement {
        let now = Timestamp::now();
        let answer = Answer {
            text: "an answer of some sixteen tokens, as long as the stub's are".to_owned(),
            tokens: tokens(),
            finish_reason: FinishReason::Stop,
            prompt_tokens: 16,
            cached_tokens: 0,
            numbers: Vec::new(),
            spelled: Vec::new(),
            node: NodeId::fresh(),
            model: None,
        };
        let verification = Verification {
            status: VerificationStatus::Verified,
            replicas: ReplicaCounts { asked: 3, answered: 2, agreed: 2 },
            rung: Some(Rung::Identical),
            numbers: Some(Numbers::Inside),
            thresholds: "1".to_owned(),
            backstop: None,
        };
        let group = GroupRecord {
            verifier: verifier.clone(),
            assignments: (0..3).map(|_| assignment(now)).collect(),
            deadline_ms: now.after(Duration::from_secs(30)),
            temperature: 0.7,
            sample_key: Digest::of(b"sample key"),
            choice: 0,
            knobs: Knobs::default(),
            prompt_tokens: Vec::new(),
            payment: infera_types::money::Payment::Free,
            is_for_chosen_nodes: false,
        };
        Settlement {
            job_id: job,
            account: self.account.clone(),
            model: ModelName::new(MODEL),
            gateway: self.gateway.clone(),
            end: End::Succeeded { answer, verification },
            group: Some(group),
            settled_ms: now,
        }
    }
}

/// Returns the postings of a settled group's members.
#[must_use]
pub fn postings(settlement: &Settlement) -> Vec<Posting> {
    let assignments = settlement.group.iter().flat_map(|group| &group.assignments);
    let posting = |assignment: &AssignmentRecord| Posting {
        id: format!("verdict:{}", assignment.id),
        job_id: settlement.job_id,
        posted_ms: settlement.settled_ms,
        entry: PostingEntry::Verdict {
            node: assignment.node.clone(),
            model: settlement.model.clone(),
            verdict: Verdict::Valid,
            millipoints: 500,
            elapsed_ms: 5,
            tokens: 16,
            on_time: true,
            numbers_outside: false,
            is_for_chosen_nodes: false,
        },
    };
    assignments.map(posting).collect()
}

fn tokens() -> Vec<TokenId> {
    (100..116).collect()
}

fn assignment(now: Timestamp) -> AssignmentRecord {
    let top = vec![(100, 256.0), (101, 128.0), (102, 128.0), (103, 128.0)];
    let numbers = TokenNumbers { top, log_sum_exp: 256.0, logit_max: None, likeliest: Vec::new() };
    let numeric_class = NumericClass {
        model_digest: Digest::of(b"model"),
        provider: "stub".to_owned(),
        hardware: "none".to_owned(),
        runtime: "none".to_owned(),
        compute: "none".to_owned(),
    };
    let replica = ReplicaSummary {
        tokens: tokens(),
        numbers: vec![numbers; tokens().len() + 1],
        numeric_class,
        arrived_ms: now,
        prompt_tokens: 16,
        sound: true,
    };
    AssignmentRecord {
        id: AssignmentId::new(),
        node: NodeId::fresh(),
        owner: OwnerId::new(AccountId::fresh().as_str()),
        state: AssignmentState::Answered,
        sent_ms: now,
        budget_ms: 10_000,
        replica: Some(replica),
    }
}
