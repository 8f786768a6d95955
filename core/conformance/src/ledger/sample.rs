//! Makes jobs, settlements and postings for the checks.

use std::time::Duration;

use super::{Halves, at, must};
use infera_ledger::{
    Accepted, Keeping, Metadata, NewJob, Notice, Posting, PostingEntry, Room, Standby, Take, TakenJob,
    Verdict,
};
use infera_types::choice::Choice;
use infera_types::ids::{
    AccountId, AssignmentId, Digest, GatewayId, JobId, ModelName, NodeId, OwnerId, VerifierId,
};
use infera_types::job::{
    Answer, AssignmentRecord, AssignmentState, End, FinishReason, GroupRecord, ReplicaCounts, ReplicaSummary,
    Rung, Settlement, Verification, VerificationPolicy, VerificationStatus,
};
use infera_types::knobs::Knobs;
use infera_types::numbers::{NumericClass, TokenNumbers};

/// When sample jobs expire, in milliseconds into the check.
pub(super) const DEADLINE: u64 = 600_000;

/// When sample groups are overdue, in milliseconds into the check.
pub(super) const GROUP_DEADLINE: u64 = 60_000;

/// The outcome for a new job that is not held.
pub(super) const NEW: Accepted = Accepted::New { is_held: false };

pub(super) fn model() -> ModelName {
    ModelName::new("sample-model")
}

/// Makes a job of `account` that is not accepted yet.
pub(super) fn new_job(account: &AccountId) -> NewJob {
    NewJob {
        id: JobId::new(),
        choice: Choice::ONLY,
        shows_tokens: false,
        key: None,
        account: account.clone(),
        model: model(),
        request: br#"{"model":"sample-model","messages":[],"max_tokens":8,"temperature":0.5}"#.to_vec(),
        policy: VerificationPolicy { quorum: 3, replicas: 3 },
        gateway: GatewayId::new("gsample"),
        synchronous: true,
        accepted_ms: at(0),
        deadline_ms: at(DEADLINE),
        epoch: 7,
        idempotency: None,
        waiting_max: 1000,
        room: Room::UNBOUNDED,
        standby: Standby::never_held(account),
        metadata: Metadata::new(),
        keeping: Keeping::default(),
        charge: None,
    }
}

/// Accepts a job of `account` at `now` milliseconds into the check.
pub(super) async fn accept_at(ledger: &Halves, account: &AccountId, now: u64) -> NewJob {
    let job = NewJob { accepted_ms: at(now), ..new_job(account) };
    assert_eq!(must(ledger.intake.accept(job.clone()).await), NEW);
    job
}

/// Accepts a job of a new account.
pub(super) async fn accept(ledger: &Halves) -> NewJob {
    accept_at(ledger, &AccountId::fresh(), 0).await
}

/// Makes a verifier whose lease lasts `ttl` milliseconds of the check.
pub(super) async fn verifier(ledger: &Halves, ttl: u64) -> VerifierId {
    let verifier = VerifierId::fresh();
    let ttl = Duration::from_millis(ttl);
    assert!(must(ledger.sweeping.lease(verifier.as_str(), &verifier, at(0), ttl).await));
    verifier
}

/// Takes by one notice and returns its outcome.
pub(super) async fn take(
    ledger: &Halves,
    owner: &VerifierId,
    job: JobId,
    redelivered: bool,
    now: u64,
) -> Take {
    let notices = [Notice::together(job, redelivered)];
    let mut takes = must(ledger.owner.take(owner, &notices, at(now)).await);
    assert_eq!(takes.len(), 1, "one notice, one outcome");
    takes.remove(0)
}

/// Returns the job of a take that must succeed.
#[expect(clippy::panic, reason = "a check fails by panicking")]
#[track_caller]
pub(super) fn taken(take: Take) -> TakenJob {
    match take {
        Take::Taken(job) => job,
        other => panic!("not taken: {other:?}"),
    }
}

fn numbers() -> TokenNumbers {
    TokenNumbers {
        top: vec![(4, 1.5), (8, -0.25)],
        log_sum_exp: 2.5,
        logit_max: Some(1.75),
        likeliest: vec![(15, 1.75), (4, 1.5)],
    }
}

/// Makes the end of `job` with an answer and no group.
pub(super) fn succeeded(job: &NewJob) -> Settlement {
    let answer = Answer {
        text: "12 is the answer".to_owned(),
        tokens: vec![4, 8, 15],
        finish_reason: FinishReason::Stop,
        prompt_tokens: 11,
        cached_tokens: 0,
        numbers: vec![numbers()],
        spelled: vec![(4, b"four".to_vec()), (8, vec![0xE2, 0x82])],
        node: NodeId::new("nsample"),
        model: Some(Digest::of(b"model")),
    };
    let verification = Verification {
        status: VerificationStatus::Verified,
        replicas: ReplicaCounts { asked: 3, answered: 3, agreed: 3 },
        rung: Some(Rung::Identical),
        numbers: None,
        thresholds: "1".to_owned(),
        backstop: None,
    };
    ended(job, End::Succeeded { answer, verification })
}

/// Makes the given end of `job`, without a group.
pub(super) fn ended(job: &NewJob, end: End) -> Settlement {
    Settlement {
        job_id: job.id,
        account: job.account.clone(),
        model: job.model.clone(),
        gateway: job.gateway.clone(),
        end,
        group: None,
        settled_ms: at(1_000),
    }
}

/// Makes a group of one answered and one open assignment.
pub(super) fn group(verifier: &VerifierId) -> GroupRecord {
    let numeric_class = NumericClass {
        model_digest: Digest::of(b"model"),
        provider: "cpu".to_owned(),
        hardware: "x86_64-avx2".to_owned(),
        runtime: "1.0".to_owned(),
        compute: "fp32".to_owned(),
    };
    let replica = ReplicaSummary {
        tokens: vec![4, 8, 15],
        numbers: vec![numbers()],
        numeric_class,
        arrived_ms: at(900),
        prompt_tokens: 11,
        sound: true,
    };
    let record = |state, replica| AssignmentRecord {
        id: AssignmentId::new(),
        node: NodeId::fresh(),
        owner: OwnerId::anonymous(),
        state,
        sent_ms: at(100),
        budget_ms: 30_000,
        replica,
    };
    GroupRecord {
        verifier: verifier.clone(),
        assignments: vec![
            record(AssignmentState::Answered, Some(replica)),
            record(AssignmentState::Open, None),
        ],
        deadline_ms: at(GROUP_DEADLINE),
        temperature: 0.5,
        sample_key: Digest::of(b"key"),
        choice: 0,
        knobs: Knobs { stop: vec!["12 is".to_owned()], repetition_penalty: Some(1.1), ..Knobs::default() },
        prompt_tokens: vec![2, 4],
        payment: infera_types::money::Payment::Free,
        is_for_chosen_nodes: false,
    }
}

/// Makes a verdict on `node` of 500 millipoints, 3 tokens and 250 ms, posted `now` milliseconds into the check.
pub(super) fn verdict(job: JobId, node: &NodeId, verdict: Verdict, now: u64) -> Posting {
    let entry = PostingEntry::Verdict {
        node: node.clone(),
        model: model(),
        verdict,
        millipoints: if verdict == Verdict::Valid { 500 } else { 0 },
        elapsed_ms: 250,
        tokens: 3,
        on_time: true,
        numbers_outside: false,
        is_for_chosen_nodes: false,
    };
    Posting { id: format!("verdict:{}", AssignmentId::new()), job_id: job, posted_ms: at(now), entry }
}
