//! Checks how long the text of jobs is kept, and that what is erased is gone step by step.

#![expect(clippy::expect_used, clippy::panic, reason = "a check fails by panicking")]

use std::time::Duration;

use super::archiving::places;
use super::sample::{NEW, accept_at, group, new_job, succeeded, verdict, verifier};
use super::{Halves, at, must};
use infera_ledger::{
    Accepted, ErasureOrdered, ErasureStage, ExpiredSegment, Idempotency, JobErasure, Keeping, KeyChange,
    KeyPrivacy, Metadata, NewJob, NewKey, PrivacyChange, RemovedRecord, Replacement, Scope, Scopes,
    SettledRecord, Verdict,
};
use infera_types::ids::{AccountId, Digest, JobId, KeyId, NodeId, SegmentId};
use infera_types::job::{End, Settlement};

const DAY: u64 = 24 * 60 * 60 * 1_000;

/// Accepts a job whose text is kept like this, and ends it with an answer at `now` milliseconds into the check.
pub(super) async fn answered(ledger: &Halves, account: &AccountId, keeping: Keeping, now: u64) -> NewJob {
    let metadata: Metadata = [("run".to_owned(), "7".to_owned())].into_iter().collect();
    let idempotency =
        Some(Idempotency { key: Digest::of(account.as_str().as_bytes()), fingerprint: Digest::of(b"f") });
    let job = NewJob { keeping, metadata, idempotency, ..new_job(account) };
    assert_eq!(must(ledger.intake.accept(job.clone()).await), NEW);
    must(ledger.owner.settle(&Settlement { settled_ms: at(now), ..succeeded(&job) }).await);
    job
}

async fn claim(ledger: &Halves, segment: SegmentId, now: u64) -> Vec<SettledRecord> {
    must(ledger.index.claim(segment, 9, at(now), at(now)).await)
}

/// Claims a segment and records it under `key`, and returns it with its jobs.
pub(super) async fn archive(ledger: &Halves, key: &str, now: u64) -> (SegmentId, Vec<JobId>) {
    let segment = SegmentId::new();
    let jobs: Vec<JobId> = claim(ledger, segment, now).await.iter().map(|record| record.job_id).collect();
    must(ledger.index.record(segment, key, &places(&jobs)).await);
    (segment, jobs)
}

async fn stage(ledger: &Halves, job: &NewJob, now: u64) -> ErasureStage {
    let erasure = must(ledger.erasures.job_erasure(Some(&job.account), job.id, at(now)).await);
    erasure.map_or(ErasureStage::Kept, |erasure| erasure.stage)
}

/// Asserts that nothing of a job's text is left in the ledger, and that all else is.
async fn assert_bare(ledger: &Halves, job: &NewJob) {
    let view = must(ledger.reader.job(&job.account, job.id).await).expect("the job is known");
    assert!(view.kept.erased_ms.is_some() && view.metadata.is_empty(), "{view:?}");
    let Some(Settlement { end: End::Succeeded { answer, .. }, .. }) = &view.settlement else {
        panic!("how it ended stays: {view:?}")
    };
    assert!(answer.text.is_empty() && answer.tokens.is_empty() && answer.numbers.is_empty(), "{answer:?}");
    assert_eq!(answer.prompt_tokens, 11, "what it used stays");
    let listed = must(ledger.lists.listed(&job.account, &[job.id]).await);
    assert_eq!(listed[0].kept, view.kept);
    for group in must(ledger.sweeping.groups(&[job.id]).await) {
        let knobs = &group.record.knobs;
        assert!(knobs.stop.is_empty() && knobs.logit_bias.is_empty(), "{group:?}");
        assert!(group.record.prompt_tokens.is_empty(), "{group:?}");
        let replicas = group.record.assignments.iter().filter_map(|assignment| assignment.replica.as_ref());
        for replica in replicas {
            assert!(replica.tokens.is_empty() && replica.numbers.is_empty(), "{replica:?}");
        }
    }
}

/// The text of a job that is not stored is kept for a while after its end, then goes; no segment claims it before, and its
/// record has hashes, verdicts and usage. Its idempotency key is forgotten, and its bytes are free.
pub async fn a_job_that_is_not_stored_is_archived_without_text(ledger: &Halves) {
    let account = AccountId::fresh();
    let keeping = Keeping { erase_after: Some(Duration::from_millis(500)), retention_days: None };
    let job = answered(ledger, &account, keeping, 1_000).await;
    let view = must(ledger.reader.job(&account, job.id).await).expect("the job");
    assert!(!view.kept.is_stored && view.kept.erased_ms.is_none() && !view.metadata.is_empty());
    assert_eq!(stage(ledger, &job, 1_499).await, ErasureStage::Scheduled);
    assert_eq!(must(ledger.erasing.erase_text(9, at(1_499)).await), 0);
    assert!(claim(ledger, SegmentId::new(), 9_000).await.is_empty(), "it is not archived with its text");
    assert_eq!(stage(ledger, &job, 1_500).await, ErasureStage::Queued);
    assert_eq!(must(ledger.erasing.erase_text(9, at(1_500)).await), 1);
    assert_eq!(must(ledger.erasing.erase_text(9, at(9_000)).await), 0, "once");
    assert_bare(ledger, &job).await;
    let expected = JobErasure {
        job: job.id,
        stage: ErasureStage::Erased,
        due_ms: Some(at(1_500)),
        done_ms: Some(at(1_500)),
    };
    assert_eq!(must(ledger.erasures.job_erasure(None, job.id, at(9_000)).await), Some(expected));
    let records = claim(ledger, SegmentId::new(), 9_000).await;
    assert_eq!((records.len(), &records[0].request, records[0].postings.len()), (1, &None, 1));
    let erased = records[0].erased.expect("it says so");
    assert!(erased.request.is_some() && erased.answer.is_some() && erased.record.is_none(), "{erased:?}");
    assert_ne!(erased.request, Some(Digest::of(&job.request)), "the hashes are salted");
    // Key and room are free again.
    let room = infera_ledger::Room { account_max_bytes: 100, all_max_bytes: u64::MAX };
    let again = NewJob { id: JobId::new(), room, ..job.clone() };
    assert_eq!(must(ledger.intake.accept(again).await), NEW);
}

/// The text of a job goes once that is ordered by its account or by an operator. A job that has not ended keeps it, and other
/// accounts' jobs are unknown.
pub async fn an_ended_jobs_text_is_erased_when_that_is_ordered(ledger: &Halves) {
    let account = AccountId::fresh();
    let job = answered(ledger, &account, Keeping::default(), 1_000).await;
    let live = accept_at(ledger, &account, 0).await;
    let order = async |account: Option<&AccountId>, job, now: u64| {
        must(ledger.erasures.erase_job(account, job, at(now)).await)
    };
    let stranger = AccountId::fresh();
    assert_eq!(order(Some(&account), live.id, 2_000).await, ErasureOrdered::NotEnded);
    assert_eq!(order(None, live.id, 2_000).await, ErasureOrdered::NotEnded);
    assert_eq!(order(Some(&stranger), job.id, 2_000).await, ErasureOrdered::Unknown);
    assert_eq!(order(None, JobId::new(), 2_000).await, ErasureOrdered::Unknown);
    assert_eq!(must(ledger.erasures.job_erasure(Some(&stranger), job.id, at(2_000)).await), None);
    assert_eq!(stage(ledger, &job, 2_000).await, ErasureStage::Kept);
    let queued =
        JobErasure { job: job.id, stage: ErasureStage::Queued, due_ms: Some(at(2_000)), done_ms: None };
    assert_eq!(order(Some(&account), job.id, 2_000).await, ErasureOrdered::Ordered(queued));
    // The same again changes nothing, not even when it is due.
    assert_eq!(order(None, job.id, 3_000).await, ErasureOrdered::Ordered(queued));
    assert_eq!(must(ledger.erasing.erase_text(9, at(3_000)).await), 1);
    assert_bare(ledger, &job).await;
    let Some(view) = must(ledger.reader.job(&account, live.id).await) else { panic!("the other job") };
    assert!(view.kept.erased_ms.is_none());
    let done = JobErasure { stage: ErasureStage::Erased, done_ms: Some(at(3_000)), ..queued };
    assert_eq!(order(Some(&account), job.id, 4_000).await, ErasureOrdered::Ordered(done));
    let usage = must(ledger.keys.usage(&account, 0, 99_999, 9).await);
    assert_eq!((usage.len(), usage[0].completion_tokens), (1, 3), "usage stays");
}

/// Late replicas are compared with the answer, so that it stays while its group is open.
pub async fn a_text_waits_for_its_open_group(ledger: &Halves) {
    let owner = verifier(ledger, 1_000).await;
    let keeping = Keeping { erase_after: Some(Duration::ZERO), retention_days: None };
    let job = NewJob { keeping, ..new_job(&AccountId::fresh()) };
    must(ledger.intake.accept(job.clone()).await);
    must(ledger.owner.settle(&Settlement { group: Some(group(&owner)), ..succeeded(&job) }).await);
    assert_eq!(must(ledger.erasing.erase_text(9, at(9_000)).await), 0);
    let posting = verdict(job.id, &NodeId::fresh(), Verdict::Valid, 2_000);
    must(ledger.owner.post(job.id, std::slice::from_ref(&posting), true).await);
    assert!(claim(ledger, SegmentId::new(), 9_000).await.is_empty(), "closed, and its text is still there");
    assert_eq!(must(ledger.erasing.erase_text(9, at(9_000)).await), 1);
    assert_bare(ledger, &job).await;
    let records = claim(ledger, SegmentId::new(), 9_000).await;
    let record = &records[0];
    assert_eq!(record.postings.len(), 2, "usage and verdict");
    let assignments = record.settlement.group.as_ref().map(|group| group.assignments.len());
    assert_eq!(assignments, Some(2), "who was asked stays");
}

/// An account's jobs are found some at a time. Those that have not ended go when they end; those that were accepted after the
/// order stay.
pub async fn an_account_is_erased_job_by_job(ledger: &Halves) {
    let account = must(ledger.accounts.sign_up("erased@example.org", None, at(0)).await).account;
    let other = AccountId::fresh();
    let stays = answered(ledger, &other, Keeping::default(), 1_000).await;
    let mut jobs = Vec::new();
    for now in 0..5 {
        let job = accept_at(ledger, &account, now).await;
        must(ledger.owner.settle(&Settlement { settled_ms: at(1_000), ..succeeded(&job) }).await);
        jobs.push(job);
    }
    let live = accept_at(ledger, &account, 10).await;
    let later = accept_at(ledger, &account, 3_000).await;
    assert_eq!(must(ledger.erasures.erase_account(&AccountId::fresh(), at(2_000)).await), None);
    assert_eq!(must(ledger.erasures.account_erasure(&account, at(2_000)).await), None);
    let seen = async |now: u64| {
        let erasure = must(ledger.erasures.account_erasure(&account, at(now)).await).expect("an order");
        (erasure.word(), erasure.found, erasure.live, erasure.pending)
    };
    for now in [2_000, 2_100] {
        let ordered = must(ledger.erasures.erase_account(&account, at(now)).await).expect("the account");
        assert_eq!((ordered.asked_ms, ordered.word()), (at(2_000), "queued"), "once");
    }
    let mut steps = 0;
    while must(ledger.erasing.find_ordered(3, at(2_200)).await) > 0 {
        steps += 1;
        assert!(steps < 9, "it ends");
    }
    assert_eq!(steps, 3, "three jobs at a time");
    assert_eq!(seen(2_200).await, ("erasing", 5, 1, 6), "the live one's text is there, too");
    assert_eq!(must(ledger.erasing.erase_text(2, at(2_200)).await), 2, "no more than asked for");
    assert_eq!(must(ledger.erasing.erase_text(9, at(2_200)).await), 3);
    assert_eq!(seen(2_200).await, ("erasing", 5, 1, 1), "the live one's text");
    for job in &jobs {
        assert_bare(ledger, job).await;
    }
    for job in [&live, &later] {
        must(ledger.owner.settle(&Settlement { settled_ms: at(4_000), ..succeeded(job) }).await);
    }
    assert_eq!(seen(4_000).await, ("erasing", 5, 1, 1), "it has ended");
    assert_eq!(must(ledger.erasing.erase_text(9, at(4_000)).await), 1);
    assert_eq!(seen(4_000).await, ("erased", 5, 1, 0));
    assert_bare(ledger, &live).await;
    for kept in [&later, &stays] {
        let view = must(ledger.reader.job(&kept.account, kept.id).await).expect("the job");
        assert_eq!(view.kept.erased_ms, None);
    }
    let again = must(ledger.erasures.erase_account(&account, at(5_000)).await).expect("the account");
    assert_eq!((again.asked_ms, again.word()), (at(5_000), "queued"), "a later order begins again");
}

/// A segment with an erased job is named with what its rewriting needs, until it is replaced; the old object is named until it
/// is forgotten, and only then the erasure is done.
pub async fn a_segment_is_replaced_step_by_step(ledger: &Halves) {
    let account = AccountId::fresh();
    let job = answered(ledger, &account, Keeping::default(), 1_000).await;
    let neighbour = answered(ledger, &AccountId::fresh(), Keeping::default(), 1_001).await;
    let (segment, jobs) = archive(ledger, "jobs/one", 5_000).await;
    assert_eq!(jobs, [job.id, neighbour.id]);
    must(ledger.erasures.erase_job(None, job.id, at(5_000)).await);
    assert!(
        must(ledger.erasing.rewritable(9, at(5_000), at(5_000)).await).is_empty(),
        "its text is in the ledger"
    );
    assert_eq!(must(ledger.erasing.erase_text(9, at(5_000)).await), 1);
    assert_eq!(stage(ledger, &job, 5_000).await, ErasureStage::Erasing);
    let rewritable = must(ledger.erasing.rewritable(9, at(5_000), at(5_000)).await);
    assert_eq!(rewritable.len(), 1);
    let found = &rewritable[0];
    assert_eq!((found.segment, found.key.as_str(), found.rewrites), (segment, "jobs/one", 0));
    assert_eq!(found.places, places(&jobs));
    assert_eq!(
        found.erased.iter().map(|erased| (erased.job, erased.erased_ms)).collect::<Vec<_>>(),
        [(job.id, at(5_000))]
    );

    assert!(must(ledger.erasing.rewritable(9, at(4_999), at(9_000)).await).is_empty(), "erased later");
    must(ledger.erasing.postpone(segment, at(6_000)).await);
    assert!(must(ledger.erasing.rewritable(9, at(5_999), at(5_999)).await).is_empty());
    assert_eq!(must(ledger.erasing.rewritable(9, at(6_000), at(6_000)).await).len(), 1);

    let mut moved = places(&jobs);
    moved[0].hash = Digest::of(b"without text");
    let replacement = Replacement {
        segment,
        old_key: "jobs/one".to_owned(),
        key: "jobs/one.r1".to_owned(),
        places: moved.clone(),
        erased: vec![job.id],
    };
    let stale = Replacement { old_key: "jobs/other".to_owned(), ..replacement.clone() };
    assert!(!must(ledger.segments.replace(&stale).await), "another object is the segment's");
    assert!(must(ledger.segments.replaced(9).await).is_empty());
    assert!(must(ledger.segments.replace(&replacement).await));
    assert_eq!(stage(ledger, &job, 6_000).await, ErasureStage::Erasing, "the old object is still there");
    let located = must(ledger.index.locate(job.id).await).expect("the record");
    assert_eq!((located.key.as_str(), located.place), ("jobs/one.r1", moved[0]));
    assert!(must(ledger.erasing.rewritable(9, at(9_000), at(9_000)).await).is_empty());
    let replaced = must(ledger.segments.replaced(9).await);
    assert_eq!((replaced.len(), replaced[0].key.as_str(), replaced[0].is_in_use), (1, "jobs/one", false));
    must(ledger.segments.forget_replaced(segment, at(7_000)).await);
    assert!(must(ledger.segments.replaced(9).await).is_empty());
    assert_eq!(stage(ledger, &job, 7_000).await, ErasureStage::Erased);
    assert_eq!(stage(ledger, &neighbour, 7_000).await, ErasureStage::Kept);

    // The next rewriting has another number, and a record without text ends its erasure by itself.
    must(ledger.erasures.erase_job(None, neighbour.id, at(8_000)).await);
    must(ledger.erasing.erase_text(9, at(8_000)).await);
    let rewritable = must(ledger.erasing.rewritable(9, at(8_000), at(8_000)).await);
    assert_eq!((rewritable[0].key.as_str(), rewritable[0].rewrites), ("jobs/one.r1", 1));
    must(ledger.erasing.end_erasures(&[neighbour.id], at(8_000)).await);
    assert_eq!(stage(ledger, &neighbour, 8_000).await, ErasureStage::Erased);
    assert!(must(ledger.erasing.rewritable(9, at(9_000), at(9_000)).await).is_empty());
}

/// A segment has records of one retention. When that is over, texts go from the ledger and the segment is named to be deleted;
/// the hashes of its records stay.
pub async fn segments_have_one_retention_and_expire_whole(ledger: &Halves) {
    let days = |days| Keeping { erase_after: None, retention_days: Some(days) };
    let account = AccountId::fresh;
    let week = answered(ledger, &account(), days(7), 1_000).await;
    let forever = answered(ledger, &account(), Keeping::default(), 1_001).await;
    let day = answered(ledger, &account(), days(1), 1_002).await;
    let also_week = answered(ledger, &account(), days(7), 1_003).await;
    let mut segments = Vec::new();
    for key in ["jobs/a", "jobs/b", "jobs/c"] {
        segments.push(archive(ledger, key, 5_000).await);
    }
    let jobs: Vec<&[JobId]> = segments.iter().map(|(_, jobs)| jobs.as_slice()).collect();
    assert_eq!(jobs, [&[week.id, also_week.id][..], &[forever.id], &[day.id]], "the oldest first");
    assert!(claim(ledger, SegmentId::new(), 9_000).await.is_empty());

    assert!(must(ledger.segments.expired(9, at(1_001 + DAY)).await).is_empty());
    assert_eq!(must(ledger.erasing.erase_text(9, at(1_001 + DAY)).await), 0);
    assert_eq!(must(ledger.erasing.erase_text(9, at(1_002 + DAY)).await), 1);
    assert_bare(ledger, &day).await;
    assert!(
        must(ledger.erasing.rewritable(9, at(2_000 + DAY), at(2_000 + DAY)).await).is_empty(),
        "it is deleted whole"
    );
    let expired = must(ledger.segments.expired(9, at(1_002 + DAY)).await);
    let (segment, _) = segments[2];
    let expected = ExpiredSegment { segment, key: "jobs/c".to_owned(), old_key: None, rewrites: 0 };
    assert_eq!(expired, [expected]);
    assert_eq!(must(ledger.pruning.prune(segment).await), 1);
    assert_eq!(must(ledger.index.removed(day.id).await), None);
    must(ledger.segments.segment_removed(segment, at(2_000 + DAY)).await);
    assert!(must(ledger.segments.expired(9, at(2_000 + DAY)).await).is_empty());
    assert_eq!(stage(ledger, &day, 2_000 + DAY).await, ErasureStage::Erased);
    assert_eq!(must(ledger.index.locate(day.id).await), None);
    let left = RemovedRecord { hash: places(&[day.id])[0].hash, removed_ms: at(2_000 + DAY) };
    assert_eq!(must(ledger.index.removed(day.id).await), Some(left));
    assert!(
        must(ledger.pruning.prunable(at(9 * DAY), at(9 * DAY), 9, &[]).await)
            .iter()
            .all(|archived| archived.segment != segment)
    );
    assert!(
        must(ledger.index.unfinished(at(9 * DAY), at(9 * DAY)).await).is_empty(),
        "it is not written again"
    );

    // A job of a class may be erased before its class is.
    must(ledger.erasures.erase_job(None, week.id, at(2 * DAY)).await);
    assert_eq!(must(ledger.erasing.erase_text(9, at(2 * DAY)).await), 1);
    assert_eq!(must(ledger.erasing.rewritable(9, at(2 * DAY), at(2 * DAY)).await).len(), 1);
    assert_eq!(must(ledger.segments.expired(9, at(1_003 + 7 * DAY)).await).len(), 1);
    assert_eq!(must(ledger.index.removed(forever.id).await), None);
    assert!(
        must(ledger.segments.expired(9, at(9_000 * DAY)).await).len() == 1,
        "what has no retention stays"
    );
    let view = must(ledger.reader.job(&also_week.account, also_week.id).await).expect("the job");
    assert_eq!((view.kept.is_stored, view.kept.erased_ms), (true, None));
    assert_eq!(
        must(ledger.intake.accept(NewJob { id: JobId::new(), ..also_week.clone() }).await),
        Accepted::Existing(also_week.id)
    );
}

/// Keys say whether their jobs are stored, and for how many days.
pub async fn keys_say_how_long_text_is_kept(ledger: &Halves) {
    let account = must(ledger.accounts.sign_up("keeps@example.org", None, at(0)).await).account;
    let key = NewKey {
        scopes: Scopes::of(&[Scope::User]),
        ..NewKey::plain(Digest::of(b"keeps"), account.clone(), "eeps")
    };
    must(ledger.keys.add_key(&key, 9, at(1)).await);
    let privacy = async || must(ledger.accounts.key(key.hash).await).expect("the key").privacy;
    assert_eq!(privacy().await, KeyPrivacy { stores: true, retention_days: None });
    for (change, expected) in [
        (PrivacyChange { stores: Some(false), retention_days: None }, (false, None)),
        (PrivacyChange { stores: None, retention_days: Some(Some(30)) }, (false, Some(30))),
        (PrivacyChange::default(), (false, Some(30))),
        (PrivacyChange { stores: Some(true), retention_days: Some(None) }, (true, None)),
    ] {
        let expected = KeyPrivacy { stores: expected.0, retention_days: expected.1 };
        let change = KeyChange { privacy: change, ..KeyChange::default() };
        let changed = must(ledger.keys.change_key(&key.id, &change).await).expect("the key");
        assert_eq!((changed.privacy, privacy().await), (expected, expected));
        assert_eq!(must(ledger.keys.key_by_id(&key.id).await).expect("the key").privacy, expected);
    }
    let privacy = PrivacyChange { stores: Some(false), retention_days: None };
    let change = KeyChange { privacy, ..KeyChange::default() };
    assert_eq!(must(ledger.keys.change_key(&KeyId::fresh(), &change).await), None);
    must(ledger.keys.end_key(&key.id, at(2)).await);
    assert_eq!(must(ledger.keys.change_key(&key.id, &change).await), None, "a revoked key stays as it is");
}
