//! Verdicts at group close, and on one late replica.

use infera_ledger::Verdict;
use infera_types::ids::{AccountId, AssignmentId, GatewayId, JobId, ModelName, NodeId, OwnerId, VerifierId};
use infera_types::job::{
    Answer, AssignmentRecord, AssignmentState, End, FailureReason, FinishReason, GroupRecord, ReplicaCounts,
    ReplicaSummary, Rung, Settlement, Verification, VerificationStatus,
};
use infera_types::knobs::Knobs;
use infera_types::time::Timestamp;
use infera_verifier::decisions::compare::{Agreement, Context, compare};
use infera_verifier::decisions::group_draw::Distinct;
use infera_verifier::decisions::thresholds::Thresholds;
use infera_verifier::decisions::verdicts::{Case, Closing, Witness, close, judge};

use super::sample::{HONEST, Sampling, Toy};

const SENT_MS: u64 = 1_000;
const SETTLED_MS: u64 = 2_000;
const BUDGET_MS: u64 = 5_000;

/// A group in letters, one member of its own owner each:
/// `a` the answer, `A` the same tokens with numbers of a coarser model, `b` another answer, `~` a benign divergence,
/// `l` the answer after the job's end, `L` the same past its own budget, `!` an L0 fault, `x` missed, `X` missed and
/// in later with another answer, `n` neutral, `o` open, `O` open and its time was up before the end.
fn group(letters: &str, sampling: &Sampling) -> GroupRecord {
    let members = letters.chars().enumerate().map(|(place, letter)| member(place, letter, sampling));
    GroupRecord {
        verifier: VerifierId::new("v1"),
        assignments: members.collect(),
        deadline_ms: Timestamp::from_millis(SENT_MS + BUDGET_MS),
        temperature: sampling.temperature,
        sample_key: sampling.key,
        choice: 0,
        knobs: Knobs::default(),
        prompt_tokens: Vec::new(),
        payment: infera_types::money::Payment::Free,
        is_for_chosen_nodes: false,
    }
}

fn member(place: usize, letter: char, sampling: &Sampling) -> AssignmentRecord {
    let honest = || HONEST.summary(sampling, "a");
    let replica = match letter {
        'a' | '!' | 'l' | 'L' => Some(honest()),
        'A' => Some(coarse(sampling)),
        'b' | 'X' => Some(other(sampling)),
        '~' => Some(benign(sampling)),
        _ => None,
    };
    let state = match letter {
        'x' | 'X' => AssignmentState::Missed,
        'n' => AssignmentState::Neutral,
        'o' | 'O' => AssignmentState::Open,
        _ => AssignmentState::Answered,
    };
    let arrived_ms = Timestamp::from_millis(match letter {
        'l' => SETTLED_MS + 1,
        'L' | 'X' => SENT_MS + BUDGET_MS + 1,
        _ => SETTLED_MS - 500,
    });
    let replica = replica.map(|one| ReplicaSummary { arrived_ms, sound: letter != '!', ..one });
    AssignmentRecord {
        id: assignment(place),
        node: NodeId::new(format!("n{place}")),
        owner: OwnerId::new(format!("o{place}")),
        state,
        sent_ms: Timestamp::from_millis(SENT_MS),
        budget_ms: if letter == 'O' { 10 } else { BUDGET_MS },
        replica,
    }
}

pub(super) fn assignment(place: usize) -> AssignmentId {
    AssignmentId::from_bytes([u8::try_from(place + 1).unwrap(); 16])
}

/// The honest tokens, with the numbers of a model on a coarser grid.
fn coarse(sampling: &Sampling) -> ReplicaSummary {
    let mut one = HONEST.summary(sampling, "a");
    for row in &mut one.numbers {
        row.top.iter_mut().for_each(|entry| entry.1 = (entry.1 * 8.0).round() / 8.0);
        row.log_sum_exp += 0.05;
    }
    one
}

fn other(sampling: &Sampling) -> ReplicaSummary {
    Toy { weights: 2, ..HONEST }.summary(sampling, "a")
}

/// The second best token at the last position, which its machine of another kind saw ahead by a hair.
fn benign(sampling: &Sampling) -> ReplicaSummary {
    let mut one = HONEST.summary(sampling, "b");
    let last = one.tokens.len() - 1;
    one.numbers.truncate(last + 1);
    one.numbers[last].top.swap(0, 1);
    one.tokens[last] = one.numbers[last].top[0].0;
    one
}

/// A job whose honest answer runs to its length, and whose last token was nearly another one, so that a benign
/// divergence can be made of it.
fn sampling() -> Sampling {
    let thresholds = Thresholds::committed().unwrap();
    let mut jobs = (0..2_000).map(|job| Sampling::new(job, 1.0, 6));
    let found = jobs.find(|sampling| {
        let honest = HONEST.summary(sampling, "a");
        let context = Context { rules: &sampling.rules(), noise: sampling.noise(), thresholds: &thresholds };
        let whole = honest.tokens.len() == 6;
        whole && matches!(compare(&honest, &benign(sampling), &context).agreement, Agreement::Benign { .. })
    });
    found.unwrap()
}

fn succeeded(status: VerificationStatus, sampling: &Sampling) -> End {
    let honest = HONEST.summary(sampling, "a");
    let answer = Answer {
        text: String::new(),
        tokens: honest.tokens,
        finish_reason: FinishReason::Length,
        prompt_tokens: 5,
        cached_tokens: 0,
        numbers: Vec::new(),
        spelled: Vec::new(),
        node: NodeId::new("n0"),
        model: None,
    };
    let replicas = ReplicaCounts { asked: 3, answered: 2, agreed: 2 };
    let verification = Verification {
        status,
        replicas,
        rung: None,
        numbers: None,
        thresholds: "1".to_owned(),
        backstop: None,
    };
    End::Succeeded { answer, verification }
}

fn failed(reason: FailureReason) -> End {
    End::Failed { reason, message: String::new() }
}

pub(super) fn with_case<T>(
    letters: &str,
    end: End,
    witness: Witness,
    then: impl FnOnce(&Case<'_>) -> T,
) -> T {
    let sampling = sampling();
    let record = group(letters, &sampling);
    let settlement = Settlement {
        job_id: JobId::from_bytes([5; 16]),
        account: AccountId::new("client"),
        model: ModelName::new("m"),
        gateway: GatewayId::new("g1"),
        end,
        group: None,
        settled_ms: Timestamp::from_millis(SETTLED_MS),
    };
    let thresholds = Thresholds::committed().unwrap();
    then(&Case {
        settlement: &settlement,
        group: &record,
        witness,
        distinct: Distinct::Owner,
        thresholds: &thresholds,
    })
}

/// The verdicts in letters: Valid, Invalid, inconclusive `?`, Missed, Neutral; and ` disputed`.
pub(super) fn word(closing: &Closing) -> String {
    let verdicts = closing.judged.iter().map(|one| match one.verdict {
        Verdict::Valid => 'V',
        Verdict::Invalid => 'I',
        Verdict::Inconclusive => '?',
        Verdict::Missed => 'M',
        Verdict::Neutral => 'N',
    });
    let disputed = if closing.dispute.is_some() { " disputed" } else { "" };
    format!("{}{disputed}", verdicts.collect::<String>())
}

#[test]
fn table() {
    let verified = || succeeded(VerificationStatus::Verified, &sampling());
    let unverified = || succeeded(VerificationStatus::Unverified, &sampling());
    let disputed = |found| match succeeded(VerificationStatus::Disputed, &sampling()) {
        End::Succeeded { answer, verification } => {
            End::Succeeded { answer, verification: Verification { rung: found, ..verification } }
        }
        other => other,
    };
    let (owner, successor) = (Witness::Owner, Witness::Successor);
    let table = [
        // The client was shown something else before, which is no fault of those that agree.
        ("aa~", disputed(Some(Rung::Identical)), owner, "VV?"),
        ("a", disputed(None), owner, "?"),
        ("aaa", verified(), owner, "VVV"),
        ("aab", verified(), owner, "VV? disputed"),
        ("aa~", verified(), owner, "VV?"),
        ("aaA", verified(), owner, "VVV"),
        ("aa!", verified(), owner, "VVI"),
        ("aax", verified(), owner, "VVM"),
        ("aaX", verified(), owner, "VVM disputed"),
        ("aan", verified(), owner, "VVN"),
        ("aao", verified(), owner, "VVM"),
        ("aal", verified(), owner, "VVV"),
        ("aaL", verified(), owner, "VVV"),
        ("aao", verified(), successor, "VVN"),
        ("aax!", verified(), successor, "VVMI"),
        ("a", unverified(), owner, "?"),
        ("a!x", unverified(), owner, "?IM"),
        ("ab~", failed(FailureReason::NoConsensus), owner, "???"),
        ("ab!x", failed(FailureReason::NoConsensus), owner, "??IM"),
        ("abo", failed(FailureReason::NoConsensus), successor, "??N"),
        ("xxx", failed(FailureReason::TooManyMisses), owner, "NNN"),
        ("xx!", failed(FailureReason::TooManyMisses), owner, "NNI"),
        ("axx", failed(FailureReason::TooManyMisses), owner, "?MM"),
        ("aax", failed(FailureReason::InsufficientNodes), owner, "VVM"),
        ("axo", failed(FailureReason::Poison), successor, "?NN"),
        ("xx!", failed(FailureReason::Unprocessable), owner, "NNI"),
        ("aab", End::cancelled(), owner, "VV?"),
        ("aa~", End::Expired, owner, "VV?"),
        ("ab!", End::cancelled(), owner, "??I"),
        ("al", End::cancelled(), owner, "?N"),
        ("ll", End::Expired, owner, "NN"),
        ("axoO", End::cancelled(), owner, "?MNM"),
        ("axoO", End::cancelled(), successor, "?MNN"),
        ("", verified(), owner, ""),
    ];
    for (letters, end, witness, expected) in table {
        let name = format!("{letters} {} {witness:?}", end.word());
        let closing = with_case(letters, end, witness, close);
        assert_eq!(word(&closing), expected, "{name}");
    }
}

#[test]
fn nobody_is_invalid_but_for_a_fault() {
    let sampling = sampling();
    let ends = || {
        [
            succeeded(VerificationStatus::Verified, &sampling),
            succeeded(VerificationStatus::Unverified, &sampling),
            failed(FailureReason::NoConsensus),
            failed(FailureReason::TooManyMisses),
            failed(FailureReason::Poison),
            End::cancelled(),
            End::Expired,
        ]
    };
    let letters = "aAb~lLxXnoO!";
    for end in ends() {
        for witness in [Witness::Owner, Witness::Successor] {
            let closing = with_case(letters, end.clone(), witness, close);
            let (fault, rest) = closing.judged.split_last().unwrap();
            assert_eq!(fault.verdict, Verdict::Invalid);
            assert!(rest.iter().all(|one| one.verdict != Verdict::Invalid), "{}", word(&closing));
        }
    }
}

#[test]
fn a_partner_of_the_same_owner_vouches_for_nothing() {
    let sampling = sampling();
    with_case("aa", End::cancelled(), Witness::Owner, |case| {
        let mut record = group("aa", &sampling);
        record.assignments[1].owner = record.assignments[0].owner.clone();
        let twins = Case { group: &record, ..*case };
        assert_eq!(word(&close(&twins)), "??");
        assert_eq!(word(&close(&Case { distinct: Distinct::Node, ..twins })), "VV");
    });
}

#[test]
fn numbers_outside_are_told_of_the_one_that_is_off() {
    let outside = |letters: &str| {
        let end = succeeded(VerificationStatus::Verified, &sampling());
        let closing = with_case(letters, end, Witness::Owner, close);
        closing.judged.iter().map(|one| one.numbers_outside).collect::<Vec<_>>()
    };
    assert_eq!(outside("aaA"), [false, false, true]);
    assert_eq!(outside("aaa"), [false; 3]);
    assert_eq!(outside("aab"), [false, false, true]);
    // Of two that differ it can't be said which is off.
    assert_eq!(outside("aA"), [true, true]);
    assert_eq!(outside("ax"), [false, false], "nothing compared, nothing told");
}

#[test]
fn facts_for_the_posting() {
    let end = succeeded(VerificationStatus::Verified, &sampling());
    let closing = with_case("aalLx", end.clone(), Witness::Owner, close);
    let elapsed: Vec<u64> = closing.judged.iter().map(|one| one.elapsed_ms).collect();
    assert_eq!(elapsed, [500, 500, 1_001, 5_001, 0]);
    let on_time: Vec<bool> = closing.judged.iter().map(|one| one.on_time).collect();
    assert_eq!(on_time, [true, true, true, false, false]);
    let first = &closing.judged[0];
    assert_eq!((first.own_tokens, first.canonical_tokens, first.prompt_tokens), (6, 6, 5));
    assert_eq!(first.agreement, Some(Agreement::Identical));
    assert_eq!(closing.judged[4].agreement, None);
    // What the owner's death cost isn't the node's.
    let closing = with_case("aaL", end, Witness::Successor, close);
    assert_eq!((closing.judged[2].elapsed_ms, closing.judged[2].on_time), (BUDGET_MS, true));
}

#[test]
fn one_alone_is_judged_as_in_the_group() {
    for letters in ["aab", "aa~", "aa!", "aal", "aao"] {
        let end = succeeded(VerificationStatus::Verified, &sampling());
        with_case(letters, end, Witness::Owner, |case| {
            let closing = close(case);
            let (judged, dispute) = judge(case, assignment(2)).unwrap();
            assert_eq!((&judged, &dispute), (&closing.judged[2], &closing.dispute), "{letters}");
            assert_eq!(judge(case, assignment(9)), None);
        });
    }
}

#[test]
fn the_dispute_says_who_and_where() {
    let end = succeeded(VerificationStatus::Verified, &sampling());
    let dispute = with_case("aab", end, Witness::Owner, close).dispute.unwrap();
    for part in [assignment(2).to_string(), "n2".to_owned(), "at token ".to_owned()] {
        assert!(dispute.contains(&part), "{dispute}");
    }
}

/// Where the client is given numbers, the same tokens with others are not the answer that was agreed on.
#[test]
fn numbers_count_where_the_client_is_given_them() {
    let sampling = sampling();
    for (gives, expected) in [(true, "VV?"), (false, "VVV")] {
        let mut end = succeeded(VerificationStatus::Verified, &sampling);
        if let End::Succeeded { answer, .. } = &mut end {
            answer.numbers = if gives { HONEST.summary(&sampling, "a").numbers } else { Vec::new() };
        }
        for witness in [Witness::Owner, Witness::Successor] {
            assert_eq!(word(&with_case("aaA", end.clone(), witness, close)), expected, "{witness:?}");
        }
    }
}

/// A successor knows of a job what its group says, and judges as its owner would have.
#[test]
fn a_group_with_knobs_is_judged_by_them() {
    let sampling = Sampling { temperature: 0.0, ..sampling() };
    // Both said a token that the prompt has; the penalty for it brings it near to another, which the last one chose.
    let knobs = Knobs { repetition_penalty: Some(2.0), ..Knobs::default() };
    let of = |best: (u32, f32), second: (u32, f32), hardware: &str| {
        let mut one = HONEST.summary(&sampling, hardware);
        one.numbers.truncate(1);
        one.numbers[0].top = vec![best, second];
        one.tokens = vec![best.0];
        one
    };
    let judged = |knobs: &Knobs, prompt_tokens: &[u32]| {
        let mut record = group("aab", &sampling);
        for (place, one) in record.assignments.iter_mut().enumerate() {
            let replica = if place < 2 { of((3, 5.0), (9, 9.8), "a") } else { of((9, 10.0), (3, 4.9), "b") };
            one.replica = Some(ReplicaSummary { arrived_ms: Timestamp::from_millis(SETTLED_MS), ..replica });
        }
        (record.knobs, record.prompt_tokens) = (knobs.clone(), prompt_tokens.to_vec());
        let stored: GroupRecord = serde_json::from_slice(&serde_json::to_vec(&record).unwrap()).unwrap();
        let mut end = succeeded(VerificationStatus::Verified, &sampling);
        if let End::Succeeded { answer, .. } = &mut end {
            answer.tokens = vec![3];
        }
        with_case("aab", end, Witness::Successor, |case| word(&close(&Case { group: &stored, ..*case })))
    };
    assert_eq!(judged(&knobs, &[9]), "VV?", "excused");
    assert_eq!(judged(&knobs, &[]), "VV? disputed");
    assert_eq!(judged(&Knobs::default(), &[]), "VV? disputed", "as a group that was stored without them");
}

/// A record without its canonical replica, which nothing of ours writes, judges no node.
#[test]
fn without_the_answers_replica_nobody_is_valid() {
    let sampling = sampling();
    let End::Succeeded { mut answer, verification } = succeeded(VerificationStatus::Verified, &sampling)
    else {
        panic!("succeeded");
    };
    answer.node = NodeId::new("elsewhere");
    let closing = with_case("aab", End::Succeeded { answer, verification }, Witness::Owner, close);
    assert_eq!(word(&closing), "???");
}
