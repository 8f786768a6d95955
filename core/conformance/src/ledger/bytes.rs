//! Checks that what is stored comes back to the bit, in whichever form it lies, and that groups leave before bodies.

use super::archiving::places;
use super::sample::{accept_at, group, new_job, succeeded, take, taken, verdict, verifier};
use super::{Halves, at, must};
use infera_ledger::{Accepted, Idempotency, NewJob, Posting, PostingEntry, Settled, Verdict};
use infera_types::ids::{AccountId, Digest, JobId, NodeId, SegmentId, VerifierId};
use infera_types::job::{AssignmentRecord, End, GroupRecord, Settlement};
use infera_types::knobs::Knobs;
use infera_types::numbers::TokenNumbers;

/// Makes a group of two replicas that agree, one of another class, and one that never came.
fn varied(owner: &VerifierId) -> GroupRecord {
    let mut varied = group(owner);
    varied.knobs = Knobs { top_k: Some(40), stop: vec!["\n".to_owned()], ..Knobs::default() };
    (varied.choice, varied.prompt_tokens) = (2, vec![7, 8, 90_000]);
    let again = |from: &AssignmentRecord| AssignmentRecord {
        id: infera_types::ids::AssignmentId::new(),
        node: NodeId::fresh(),
        ..from.clone()
    };
    let mut first = varied.assignments.remove(0);
    if let Some(replica) = &mut first.replica {
        replica.numbers = (0..4_u16)
            .map(|place| TokenNumbers {
                top: vec![(4, 1.5 - f32::from(place) / 3.0), (u32::MAX, -0.0)],
                log_sum_exp: 2.5 + f64::from(place) / 7.0,
                logit_max: (place > 0).then_some(1.5 - f32::from(place) / 3.0),
                likeliest: vec![(8, 0.1); usize::from(place)],
            })
            .collect();
    }
    let mut other = again(&first);
    if let Some(replica) = &mut other.replica {
        "avx512vnni".clone_into(&mut replica.numeric_class.hardware);
        replica.numbers[1].log_sum_exp += 1e-12;
    }
    varied.assignments.splice(0..0, [first.clone(), again(&first), other]);
    varied
}

/// What a settlement says is read again as it was: the group's replicas with all their numbers, and the answer's.
pub async fn a_group_and_an_answer_come_back_to_the_bit(ledger: &Halves) {
    let owner = verifier(ledger, 60_000).await;
    let job = accept_at(ledger, &AccountId::fresh(), 0).await;
    taken(take(ledger, &owner, job.id, false, 1).await);
    let mut settlement = Settlement { group: Some(varied(&owner)), ..succeeded(&job) };
    if let (End::Succeeded { answer, .. }, Some(group)) = (&mut settlement.end, &settlement.group) {
        answer.numbers =
            group.assignments[0].replica.as_ref().map(|replica| replica.numbers.clone()).unwrap_or_default();
    }
    assert_eq!(must(ledger.owner.settle(&settlement).await), Settled::Now);
    let found = must(ledger.sweeping.groups(&[job.id]).await);
    assert_eq!(found.len(), 1);
    assert_eq!((&Some(found[0].record.clone()), &found[0].settlement), (&settlement.group, &settlement));
    let bits = |group: &GroupRecord| -> Vec<u64> {
        let replicas = group.assignments.iter().filter_map(|assignment| assignment.replica.as_ref());
        let rows = replicas.flat_map(|replica| &replica.numbers);
        rows.flat_map(|row| {
            let logits = row.top.iter().map(|(_, logit)| u64::from(logit.to_bits()));
            logits.chain([row.log_sum_exp.to_bits()])
        })
        .collect()
    };
    assert_eq!(Some(bits(&found[0].record)), settlement.group.as_ref().map(bits), "the sign of zero too");
    assert_eq!(must(ledger.owner.settle(&settlement).await), Settled::Before(settlement.clone()));
    let shown = must(ledger.reader.job(&job.account, job.id).await).and_then(|view| view.settlement);
    assert_eq!(shown, Some(Settlement { group: None, ..settlement }));
}

/// Verdicts of every kind are posted once, and read again as they were posted.
pub async fn postings_come_back_as_they_were(ledger: &Halves) {
    verifier(ledger, 60_000).await;
    let job = accept_at(ledger, &AccountId::fresh(), 0).await;
    let group = Some(group(&VerifierId::fresh()));
    must(ledger.owner.settle(&Settlement { group, ..succeeded(&job) }).await);
    let mut postings: Vec<Posting> =
        [Verdict::Valid, Verdict::Invalid, Verdict::Inconclusive, Verdict::Missed, Verdict::Neutral]
            .map(|word| verdict(job.id, &NodeId::fresh(), word, 2_000))
            .into();
    for (place, posting) in postings.iter_mut().enumerate() {
        if let PostingEntry::Verdict { millipoints, on_time, numbers_outside, is_for_chosen_nodes, .. } =
            &mut posting.entry
        {
            (*millipoints, *on_time) = (if place == 0 { i64::MAX } else { -1 }, place != 1);
            (*numbers_outside, *is_for_chosen_nodes) = (place == 2, place == 3);
        }
    }
    // Written by a program that names its postings otherwise.
    "verdict:other".clone_into(&mut postings[4].id);
    for closes in [false, true] {
        must(ledger.owner.post(job.id, &postings, closes).await);
    }
    let segment = SegmentId::new();
    let records = must(ledger.index.claim(segment, 9, at(5_000), at(5_000)).await);
    let mut found = records[0].postings.clone();
    let usage = found.remove(0);
    assert_eq!(usage.id, format!("usage:{}", job.id));
    let by_id = |postings: &mut Vec<Posting>| postings.sort_by(|one, other| one.id.cmp(&other.id));
    by_id(&mut found);
    by_id(&mut postings);
    assert_eq!(found, postings);
}

/// Accepts, ends, closes and archives jobs, and returns them with their segment.
async fn archived(ledger: &Halves, keys: &[&str]) -> (Vec<NewJob>, SegmentId) {
    let mut jobs = Vec::new();
    for key in keys {
        let idempotency = Idempotency { key: Digest::of(key.as_bytes()), fingerprint: Digest::of(b"body") };
        let job = NewJob { idempotency: Some(idempotency), ..new_job(&AccountId::fresh()) };
        must(ledger.intake.accept(job.clone()).await);
        let group = Some(group(&VerifierId::fresh()));
        must(ledger.owner.settle(&Settlement { settled_ms: at(10), group, ..succeeded(&job) }).await);
        must(ledger.owner.post(job.id, &[], true).await);
        jobs.push(job);
    }
    let segment = SegmentId::new();
    let records = must(ledger.index.claim(segment, 9, at(5_000), at(5_000)).await);
    let claimed: Vec<JobId> = records.iter().map(|record| record.job_id).collect();
    assert_eq!(claimed.len(), keys.len());
    must(ledger.index.record(segment, "jobs/one", &places(&claimed)).await);
    (jobs, segment)
}

/// The groups of archived jobs leave first, and everything else stays until bodies are pruned. A group that is open or not
/// archived stays.
pub async fn groups_leave_before_bodies(ledger: &Halves) {
    let (jobs, segment) = archived(ledger, &["one", "two"]).await;
    let open = accept_at(ledger, &AccountId::fresh(), 0).await;
    let settlement = Settlement { group: Some(group(&VerifierId::fresh())), ..succeeded(&open) };
    must(ledger.owner.settle(&settlement).await);

    let ids = [jobs[0].id, jobs[1].id, open.id];
    let grouped = async || must(ledger.sweeping.groups(&ids).await).len();
    let found = async |before: u64| must(ledger.pruning.ungroupable(at(before), at(9_000), 9, &[]).await);
    let prunable = async || must(ledger.pruning.prunable(at(9_000), at(9_000), 9, &[]).await).len();
    assert!(found(10).await.is_empty(), "they are too young");
    assert_eq!(found(11).await.iter().map(|found| found.segment).collect::<Vec<_>>(), [segment]);
    assert!(must(ledger.pruning.ungroupable(at(11), at(9_000), 9, &[segment]).await).is_empty());
    assert_eq!((grouped().await, prunable().await), (3, 1));
    assert_eq!(must(ledger.pruning.ungroup(segment).await), 2);
    assert_eq!(must(ledger.pruning.ungroup(segment).await), 0);
    assert!(found(9_000).await.is_empty());
    assert_eq!((grouped().await, prunable().await), (1, 1), "the open one's stays, and the bodies");

    // The end, the key and the record are as before; a verifier that ends the job once more reads its end.
    let job = &jobs[0];
    let end = Settlement { settled_ms: at(10), ..succeeded(job) };
    let late = Settlement { group: Some(group(&VerifierId::fresh())), ..succeeded(job) };
    assert_eq!(must(ledger.owner.settle(&late).await), Settled::Before(end.clone()));
    assert_eq!(grouped().await, 1, "a group that comes too late is not stored");
    assert_eq!(must(ledger.reader.settlements(&[job.id]).await), [end]);
    let again = NewJob { id: JobId::new(), ..job.clone() };
    assert_eq!(must(ledger.intake.accept(again.clone()).await), Accepted::Existing(job.id));
    let records = must(ledger.index.claim(segment, 9, at(9_000), at(9_000)).await);
    assert!(records.iter().all(|record| record.request.is_some() && record.settlement.group.is_none()));

    assert_eq!(must(ledger.pruning.prune(segment).await), 2);
    assert_eq!((prunable().await, must(ledger.pruning.prune(segment).await)), (0, 0));
    assert!(matches!(must(ledger.intake.accept(again).await), Accepted::New { .. }), "its key is free");
}

/// Once groups have left, the object is their only copy: a segment that was lost then is not written again without them, and
/// what the ledger has of it stays.
pub async fn a_segment_without_its_groups_is_kept(ledger: &Halves) {
    let (jobs, segment) = archived(ledger, &["one"]).await;
    must(ledger.pruning.ungroup(segment).await);
    assert!(!must(ledger.pruning.keep(segment).await));
    assert!(must(ledger.index.unfinished(at(9_000), at(9_000)).await).is_empty());
    assert!(must(ledger.index.locate(jobs[0].id).await).is_some());
    assert!(must(ledger.pruning.prunable(at(9_000), at(9_000), 9, &[]).await).is_empty());
    let records = must(ledger.index.claim(segment, 9, at(9_000), at(9_000)).await);
    assert!(records[0].request.is_some());
}

/// The text of a job whose group has left is erased like any other's.
pub async fn text_is_erased_after_its_group_left(ledger: &Halves) {
    let (jobs, segment) = archived(ledger, &["one"]).await;
    must(ledger.pruning.ungroup(segment).await);
    let job = &jobs[0];
    must(ledger.erasures.erase_job(None, job.id, at(2_000)).await);
    assert_eq!(must(ledger.erasing.erase_text(9, at(2_000)).await), 1);
    let view = must(ledger.reader.job(&job.account, job.id).await);
    let settlement = view.and_then(|view| view.settlement);
    let is_bare = settlement.is_some_and(|settlement| {
        matches!(settlement.end, End::Succeeded { answer, .. } if answer.text.is_empty() && answer.tokens.is_empty())
    });
    assert!(is_bare && must(ledger.sweeping.groups(&[job.id]).await).is_empty());
    assert_eq!(must(ledger.pruning.prune(segment).await), 1);
}
