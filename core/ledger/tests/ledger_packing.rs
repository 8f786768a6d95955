//! Packed rows: what is packed comes back to the bit, what is common is stored once, and other bytes are refused.

use infera_ledger::stored::packing::group::{pack_group, unpack_group};
use infera_ledger::stored::packing::posting::{
    PostingRow, pack_entry, pack_id, pack_node, unpack_entry, unpack_id,
};
use infera_ledger::stored::packing::settlement::{pack_settlement, unpack_settlement};
use infera_ledger::stored::packing::{content_bytes, is_packed};
use infera_ledger::stored::{group_of, settlement_of};
use infera_ledger::{Posting, PostingEntry, Verdict};
use infera_types::ids::{
    AccountId, AssignmentId, Digest, GatewayId, JobId, ModelName, NodeId, OwnerId, VerifierId,
};
use infera_types::job::{
    Answer, AssignmentRecord, AssignmentState, End, FailureReason, FinishReason, GroupRecord, ReplicaCounts,
    ReplicaSummary, Settlement, Verification, VerificationStatus,
};
use infera_types::knobs::Knobs;
use infera_types::money::Payment;
use infera_types::numbers::{NumericClass, TokenNumbers};
use infera_types::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

/// Makes the numbers of an answer as a model gives them: all different.
fn numbers(tokens: u32, salt: u32) -> Vec<TokenNumbers> {
    let noise = |of: u32| {
        let bytes = Digest::of(&[of.to_le_bytes(), salt.to_le_bytes()].concat());
        f32::from(u16::from_le_bytes([bytes.as_bytes()[0], bytes.as_bytes()[1]])) / 4_099.0
    };
    let row = |place: u32| TokenNumbers {
        top: (0..4).map(|other| (place * 31 % 997 + other, noise(place * 4 + other))).collect(),
        log_sum_exp: f64::from(noise(place + 99_999)) + 0.1,
        logit_max: Some(noise(place * 4)),
        likeliest: Vec::new(),
    };
    (0..=tokens).map(row).collect()
}

fn replica(tokens: u32, salt: u32) -> ReplicaSummary {
    ReplicaSummary {
        tokens: (0..tokens).map(|place| place * 31 % 997).collect(),
        numbers: numbers(tokens, salt),
        numeric_class: NumericClass {
            model_digest: Digest::of(b"model"),
            provider: "cpu".to_owned(),
            hardware: "x86_64-avx512vnni".to_owned(),
            runtime: "1.23.0".to_owned(),
            compute: "fp32".to_owned(),
        },
        arrived_ms: Timestamp::from_millis(1_790_000_000_000),
        prompt_tokens: 11,
        sound: true,
    }
}

fn group(replicas: &[Option<ReplicaSummary>]) -> GroupRecord {
    let assignment = |replica: &Option<ReplicaSummary>| AssignmentRecord {
        id: AssignmentId::new(),
        node: NodeId::fresh(),
        owner: OwnerId::new(AccountId::fresh().as_str()),
        state: if replica.is_some() { AssignmentState::Answered } else { AssignmentState::Open },
        sent_ms: Timestamp::from_millis(1_790_000_000_000),
        budget_ms: 10_000,
        replica: replica.clone(),
    };
    GroupRecord {
        verifier: VerifierId::fresh(),
        assignments: replicas.iter().map(assignment).collect(),
        deadline_ms: Timestamp::from_millis(1_790_000_030_000),
        temperature: 0.7,
        sample_key: Digest::of(b"key"),
        choice: 3,
        knobs: Knobs { stop: vec!["\u{7}".to_owned()], top_p: Some(0.1), ..Knobs::default() },
        prompt_tokens: vec![1, 2, 90_000],
        payment: Payment::Unpaid,
        is_for_chosen_nodes: true,
    }
}

fn settlement(end: End) -> Settlement {
    Settlement {
        job_id: JobId::new(),
        account: AccountId::fresh(),
        model: ModelName::new("m"),
        gateway: GatewayId::fresh(),
        end,
        group: None,
        settled_ms: Timestamp::from_millis(1_790_000_000_000),
    }
}

fn answer(text: &str, tokens: Vec<u32>, numbers: Vec<TokenNumbers>) -> End {
    let answer = Answer {
        spelled: Vec::new(),
        text: text.to_owned(),
        tokens,
        finish_reason: FinishReason::Length,
        prompt_tokens: 11,
        cached_tokens: 3,
        node: NodeId::fresh(),
        numbers,
        model: Some(Digest::of(b"model")),
    };
    let verification = Verification {
        status: VerificationStatus::Verified,
        replicas: ReplicaCounts { asked: 3, answered: 3, agreed: 3 },
        rung: None,
        numbers: None,
        thresholds: "1".to_owned(),
        backstop: Some(1),
    };
    End::Succeeded { answer, verification }
}

#[test]
fn a_group_comes_back_and_replicas_that_agree_are_stored_once() {
    let plain = |group: &GroupRecord| serde_json::to_vec(group).unwrap();
    for tokens in [0, 16, 256] {
        let (one, other) = (replica(tokens, 1), replica(tokens, 2));
        let agreeing = group(&[Some(one.clone()), Some(one.clone()), Some(one.clone())]);
        let alone = group(&[Some(one.clone()), None, None]);
        let differing = group(&[Some(one.clone()), Some(other), None, Some(one)]);
        for group in [&agreeing, &alone, &differing] {
            let packed = pack_group(group).unwrap();
            assert!(is_packed(&packed));
            assert_eq!(&unpack_group(&packed).unwrap(), group);
            assert_eq!(&group_of(&packed, Some(Digest::of(&packed))).unwrap(), group);
            assert_eq!(&group_of(&plain(group), None).unwrap(), group, "as rows of before are");
        }
        let [agreeing, alone, differing] = [agreeing, alone, differing]
            .map(|group| (pack_group(&group).unwrap().len(), plain(&group).len()));
        println!(
            "{tokens} tokens: agreeing {agreeing:?}, alone {alone:?}, differing {differing:?} (packed, JSON)"
        );
        assert!(agreeing.0 < alone.0 + 250, "the second and the third cost their names alone");
        assert!(tokens == 0 || agreeing.0 * 5 < agreeing.1);
    }
}

/// Numbers that no logit is, too: what a node reported is stored as it was.
#[test]
fn a_group_keeps_every_bit() {
    let mut odd = replica(2, 1);
    odd.numbers[0] = TokenNumbers {
        top: vec![(u32::MAX, f32::NEG_INFINITY), (0, -0.0), (7, f32::MIN_POSITIVE / 2.0)],
        log_sum_exp: f64::MAX,
        logit_max: Some(0.0),
        likeliest: vec![(3, f32::MAX); 20],
    };
    odd.numbers[1] =
        TokenNumbers { top: Vec::new(), log_sum_exp: -0.0, logit_max: None, likeliest: Vec::new() };
    let group = group(&[Some(odd)]);
    let read = unpack_group(&pack_group(&group).unwrap()).unwrap();
    assert_eq!(read, group);
    let bits = |group: &GroupRecord| {
        let replica = group.assignments[0].replica.as_ref().unwrap();
        (replica.numbers[0].top[1].1.to_bits(), replica.numbers[1].log_sum_exp.to_bits())
    };
    assert_eq!(bits(&read), bits(&group), "the sign of zero too");
}

#[test]
fn a_settlement_comes_back_whatever_its_end() {
    for end in [
        End::cancelled(),
        End::Expired,
        End::Failed { reason: FailureReason::Poison, message: "\0\"\u{1F980}".to_owned() },
        answer("", Vec::new(), Vec::new()),
        answer("12 is the answer\0", (0..300).collect(), numbers(300, 1)),
    ] {
        let settlement = settlement(end);
        let packed = pack_settlement(&settlement).unwrap();
        assert_eq!(unpack_settlement(&packed).unwrap(), settlement);
        assert_eq!(settlement_of(settlement.job_id, &packed, None).unwrap(), settlement);
        let json = serde_json::to_vec(&settlement).unwrap();
        assert_eq!(settlement_of(settlement.job_id, &json, None).unwrap(), settlement);
        assert!(settlement_of(JobId::new(), &packed, None).is_err(), "it is another job's");
        assert!(settlement_of(settlement.job_id, &packed, Some(Digest::of(b"other"))).is_err());
        let content = content_bytes(&packed[..packed.len().min(11)]).unwrap();
        assert!(content > 0 && content < json.len() as u64 + 99_999, "{content}");
        println!("{}: {} bytes packed, {} of JSON", settlement.end.word(), packed.len(), json.len());
    }
    assert_eq!(content_bytes(b"{}"), None);
}

proptest! {
    #[test]
    fn changed_rows_are_refused_or_read(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let one = replica(9, 1);
        let mut packed = pack_group(&group(&[Some(one.clone()), Some(one)])).unwrap();
        prop_assert!(unpack_group(&packed[..cut.index(packed.len())]).is_err());
        let at = at.index(packed.len());
        packed[at] = to;
        let _ = unpack_group(&packed);
        let _ = unpack_settlement(&packed);
        let _ = content_bytes(&packed);
    }

    #[test]
    fn any_bytes_are_refused_without_harm(bytes in vec(any::<u8>(), 0..99)) {
        prop_assert!(unpack_group(&bytes).is_err());
        let _ = unpack_settlement(&bytes);
        let _ = unpack_entry(&bytes, Some(&bytes));
        let _ = unpack_id(&bytes);
        let _ = group_of(&bytes, None);
    }

    #[test]
    fn postings_come_back(
        node in "n[0-9a-f]{32}|[a-zA-Zäß0-9]{0,40}",
        account in "acct[0-9a-f]{32}|.{0,50}",
        verdict in 0..5_usize,
        points in any::<i64>(),
        counts in any::<(u64, u64, bool, bool, bool)>(),
    ) {
        let verdict = [Verdict::Valid, Verdict::Invalid, Verdict::Inconclusive, Verdict::Missed, Verdict::Neutral][verdict];
        let (elapsed_ms, tokens, on_time, numbers_outside, is_for_chosen_nodes) = counts;
        let judged = PostingEntry::Verdict {
            node: NodeId::new(node), model: ModelName::new("a \"model\""), verdict, millipoints: points,
            elapsed_ms, tokens, on_time, numbers_outside, is_for_chosen_nodes,
        };
        let used = PostingEntry::Usage { account: AccountId::new(account), prompt_tokens: tokens, completion_tokens: elapsed_ms };
        let (job_id, posted_ms) = (JobId::new(), Timestamp::from_millis(7));
        for (id, entry) in [
            (format!("verdict:{}", AssignmentId::new()), judged.clone()),
            (format!("usage:{job_id}"), used),
            ("verdict:1".to_owned(), judged),
        ] {
            let posting = Posting { id, job_id, posted_ms, entry };
            for row in [PostingRow::packed(&posting).unwrap(), PostingRow::plain(&posting).unwrap()] {
                prop_assert_eq!(&row.posting(job_id, posted_ms).unwrap(), &posting);
            }
        }
    }
}

#[test]
fn only_ids_that_are_written_as_ours_are_packed() {
    let assignment = AssignmentId::new();
    let id = format!("verdict:{assignment}");
    assert_eq!(unpack_id(&pack_id(&id).unwrap()).unwrap(), id);
    for other in [
        "verdict:1",
        "usage:",
        "",
        "usage:job_1",
        &id.to_uppercase(),
        &format!("{id}\0"),
        &format!("other:{assignment}"),
    ] {
        assert_eq!(pack_id(other), None, "{other}");
    }
    assert!(unpack_id(&[3; 17]).is_err() && unpack_id(&[1; 16]).is_err() && unpack_id(&[]).is_err());
}

/// A node that was paid stands in a column of its own; the content of its row lacks it.
#[test]
fn a_paid_nodes_posting_is_small() {
    let node = NodeId::fresh();
    let entry = |verdict| PostingEntry::Verdict {
        node: node.clone(),
        model: ModelName::new("smollm2"),
        verdict,
        millipoints: 500,
        elapsed_ms: 250,
        tokens: 16,
        on_time: true,
        numbers_outside: false,
        is_for_chosen_nodes: false,
    };
    let (paid, missed) = (pack_entry(&entry(Verdict::Valid)), pack_entry(&entry(Verdict::Missed)));
    assert_eq!((paid.len(), missed.len(), pack_node(&node).len()), (17, 35, 18));
    assert!(unpack_entry(&paid, None).is_err(), "its column is missing");
    assert_eq!(unpack_entry(&paid, Some(&pack_node(&node))).unwrap(), entry(Verdict::Valid));
}

/// Rows that were packed with it can't be read with another.
#[test]
fn the_dictionary_never_changes() {
    let dictionary = include_bytes!("../src/stored/packing/dictionary.1.txt");
    let digest = "efa1c439201473f8b79a8ff6c610dadc41b3be3322696fa446a1cd9bd7021a61";
    assert_eq!(Digest::of(dictionary).to_string(), digest, "make another, with a version of its own");
}
