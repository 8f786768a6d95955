//! L0.

use infera_types::ids::{AssignmentId, Digest, JobId};
use infera_types::job::FinishReason;
use infera_types::messages::{Replica, ReplicaTiming};
use infera_verifier::decisions::integrity::{Expected, Fault, Spelled, check};
use proptest::prelude::*;

use super::sample::{Decoded, END, HONEST, Sampling, class};

const ASSIGNMENT: AssignmentId = AssignmentId::from_bytes([1; 16]);
const JOB: JobId = JobId::from_bytes([2; 16]);

fn text_of(tokens: &[u32]) -> String {
    tokens.iter().map(|token| format!("w{token} ")).collect()
}

fn replica(decoded: Decoded) -> Replica {
    Replica {
        assignment_id: ASSIGNMENT,
        job_id: JOB,
        numeric_class: class("toy", "a"),
        prompt_hash: Digest::of(b"prompt"),
        prompt_tokens: 5,
        cached_tokens: 0,
        rendering: 2,
        attempt: None,
        text: text_of(&decoded.tokens),
        tokens: decoded.tokens,
        finish_reason: decoded.finish_reason,
        numbers: decoded.numbers,
        timing: ReplicaTiming::default(),
    }
}

fn checked(replica: &Replica, sampling: &Sampling) -> Result<(), Fault> {
    let decoded = text_of(&replica.tokens);
    let expected = Expected {
        assignment: ASSIGNMENT,
        job: JOB,
        model_digest: &Digest::of(b"toy"),
        prompt_hash: &Digest::of(b"prompt"),
        prompt_tokens: 5,
        max_tokens: u32::try_from(sampling.max_tokens).unwrap(),
        context_max: 64,
        end_tokens: &[END],
        spelled: Some(Spelled { text: &decoded, stopped_at: None }),
        rules: &sampling.rules(),
        noise: sampling.noise(),
        has_logit_max: true,
    };
    check(replica, &expected)
}

/// An honest answer of at least three tokens that ended as wanted.
fn honest(finish_reason: FinishReason) -> (Sampling, Replica) {
    let jobs = (0..).map(|job| Sampling::new(job, 0.8, 20));
    let made = jobs.map(|sampling| (sampling, HONEST.decode(&sampling)));
    let mut fitting = made.filter(|(_, one)| one.finish_reason == finish_reason && one.tokens.len() >= 3);
    let (sampling, decoded) = fitting.next().unwrap();
    (sampling, replica(decoded))
}

proptest! {
    #[test]
    fn honest_replicas_pass(job: u64, temperature in 0.0..3.0_f64, max_tokens in 1..59_usize) {
        let sampling = Sampling::new(job, temperature, max_tokens);
        prop_assert_eq!(checked(&replica(HONEST.decode(&sampling)), &sampling), Ok(()));
    }

    /// The noise is the job's: an answer to another job doesn't pass as this one's, however honest its numbers. At
    /// temperature 1 twenty choices that happen to fit both noises are not seen.
    #[test]
    fn an_answer_with_other_noise_is_found(job: u64) {
        let (sampling, other) = (Sampling::new(job, 1.0, 20), Sampling::new(job ^ 1, 1.0, 20));
        let decoded = HONEST.decode(&other);
        prop_assume!(decoded.tokens.len() >= 10);
        let found = checked(&replica(decoded), &sampling);
        prop_assert!(matches!(found, Err(Fault::Order { .. } | Fault::LogitMax { .. })), "{:?}", found);
    }

    /// It survives the way over the broker: what JSON makes of the numbers changes no score.
    #[test]
    fn honest_replicas_pass_after_the_wire(job: u64, temperature in 0.0..3.0_f64) {
        let sampling = Sampling::new(job, temperature, 30);
        let sent = replica(HONEST.decode(&sampling));
        let arrived: Replica = serde_json::from_slice(&serde_json::to_vec(&sent).unwrap()).unwrap();
        prop_assert_eq!(&arrived, &sent);
        prop_assert_eq!(checked(&arrived, &sampling), Ok(()));
    }
}

type Change = fn(&mut Replica);

#[test]
fn each_fault_is_named() {
    let table: [(Fault, Change); 15] = [
        (Fault::Assignment, |one| one.assignment_id = AssignmentId::from_bytes([9; 16])),
        (Fault::Job, |one| one.job_id = JobId::from_bytes([9; 16])),
        (Fault::Model, |one| one.numeric_class = class("other", "a")),
        (Fault::Prompt, |one| one.prompt_hash = Digest::of(b"other")),
        (Fault::Prompt, |one| one.prompt_tokens += 1),
        (Fault::TooLong, |one| one.tokens.extend([1; 20])),
        (Fault::Text, |one| one.text.push('!')),
        (Fault::EndInside { position: 1 }, |one| {
            one.tokens[1] = END;
            one.text = text_of(&one.tokens);
        }),
        (Fault::Length, |one| one.finish_reason = FinishReason::Length),
        (Fault::NumbersCount, |one| one.numbers.truncate(1)),
        (Fault::List { position: 0 }, |one| one.numbers[0].top.truncate(3)),
        (Fault::List { position: 0 }, |one| one.numbers[0].top[3].0 = one.numbers[0].top[1].0),
        (Fault::NotFinite { position: 2 }, |one| one.numbers[2].top[0].1 = f32::INFINITY),
        (Fault::LogSumExp { position: 1 }, |one| one.numbers[1].log_sum_exp -= 5.0),
        (Fault::Order { position: 2 }, |one| one.numbers[2].top.swap(0, 1)),
    ];
    for (expected, change) in table {
        let (sampling, mut replica) = honest(FinishReason::Stop);
        change(&mut replica);
        assert_eq!(checked(&replica, &sampling), Err(expected));
    }
}

#[test]
fn a_false_end_is_named() {
    // Cut short and called an end: the truncating cheat, with or without an entry for the end that never came.
    let (sampling, mut replica) = honest(FinishReason::Length);
    replica.tokens.truncate(2);
    replica.text = text_of(&replica.tokens);
    replica.finish_reason = FinishReason::Stop;
    replica.numbers.truncate(3);
    assert_eq!(checked(&replica, &sampling), Err(Fault::Stop));
    replica.numbers.truncate(2);
    assert_eq!(checked(&replica, &sampling), Err(Fault::NumbersCount));
    replica.finish_reason = FinishReason::Length;
    assert_eq!(checked(&replica, &sampling), Err(Fault::Length));
}

#[test]
fn one_changed_token_with_honest_numbers_is_named() {
    let (sampling, honest) = honest(FinishReason::Stop);
    for position in 0..honest.tokens.len() {
        let mut altered = honest.clone();
        altered.tokens[position] = altered.numbers[position].top[1].0.max(1);
        if altered.tokens[position] == honest.tokens[position] {
            altered.tokens[position] += 1;
        }
        altered.text = text_of(&altered.tokens);
        assert_eq!(checked(&altered, &sampling), Err(Fault::NotBest { position }));
    }
}

#[test]
fn the_context_ends_answers_too() {
    // Of 64 positions the prompt has 5, so 59 tokens are an honest end, whatever was asked for.
    let long = (0..).map(|job| Sampling::new(job, 0.8, 59));
    let mut made = long.map(|sampling| (sampling, HONEST.decode(&sampling)));
    let (mut sampling, decoded) = made.find(|(_, one)| one.finish_reason == FinishReason::Length).unwrap();
    sampling.max_tokens = 1_000;
    assert_eq!(checked(&replica(decoded), &sampling), Ok(()));
}

#[test]
fn undecodable_tokens_are_a_fault() {
    let (sampling, replica) = honest(FinishReason::Stop);
    let expected = Expected {
        assignment: ASSIGNMENT,
        job: JOB,
        model_digest: &Digest::of(b"toy"),
        prompt_hash: &Digest::of(b"prompt"),
        prompt_tokens: 5,
        max_tokens: 20,
        context_max: 64,
        end_tokens: &[END],
        spelled: None,
        rules: &sampling.rules(),
        noise: sampling.noise(),
        has_logit_max: false,
    };
    assert_eq!(check(&replica, &expected), Err(Fault::Text));
}
