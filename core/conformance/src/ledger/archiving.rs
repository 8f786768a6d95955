//! Checks which settled records go to which segment, and that they are found there.

use super::sample::{NEW, accept, ended, group, new_job, succeeded, take, taken, verdict, verifier};
use super::{Halves, at, must, refused};
use infera_ledger::{
    Accepted, ArchivedRecord, ArchivedSegment, Idempotency, NewJob, PoisonedJob, RecordPlace, Settled,
    SettledRecord, SweepQuestion, Verdict,
};
use infera_types::ids::{AccountId, Digest, JobId, NodeId, SegmentId, VerifierId};
use infera_types::job::{End, FailureReason, Settlement};

/// Accepts a job and ends it at `now` milliseconds into the check.
async fn end_at(ledger: &Halves, now: u64) -> NewJob {
    let job = accept(ledger).await;
    let settlement = Settlement { settled_ms: at(now), ..ended(&job, End::Expired) };
    must(ledger.owner.settle(&settlement).await);
    job
}

async fn claim(ledger: &Halves, segment: SegmentId, limit: u32) -> Vec<SettledRecord> {
    must(ledger.index.claim(segment, limit, at(5_000), at(5_000)).await)
}

async fn claimed_jobs(ledger: &Halves, segment: SegmentId, limit: u32) -> Vec<JobId> {
    claim(ledger, segment, limit).await.into_iter().map(|record| record.job_id).collect()
}

/// Prunes the segments that were settled before `before`, and returns how many jobs were pruned.
async fn prune(ledger: &Halves, before: u64) -> u64 {
    let mut pruned = 0;
    for archived in must(ledger.pruning.prunable(at(before), at(before), 9, &[]).await) {
        pruned += must(ledger.pruning.prune(archived.segment).await);
    }
    pruned
}

/// Makes a place for each job.
pub(super) fn places(jobs: &[JobId]) -> Vec<RecordPlace> {
    let place = |(index, job): (u32, &JobId)| RecordPlace {
        job: *job,
        frame_offset: 100,
        frame_length: 4_000,
        index,
        hash: Digest::of(job.as_bytes()),
    };
    (0..).zip(jobs).map(place).collect()
}

/// Jobs that have not ended or whose group is open are left out; each of the others goes to one segment, oldest
/// first, whole.
pub async fn closed_jobs_are_claimed_once(ledger: &Halves) {
    let (newer, older) = (end_at(ledger, 20).await, end_at(ledger, 10).await);
    accept(ledger).await;
    let grouped = accept(ledger).await;
    let owner = verifier(ledger, 1_000).await;
    let settlement = Settlement { group: Some(group(&owner)), ..succeeded(&grouped) };
    must(ledger.owner.settle(&settlement).await);
    let (first, second) = (SegmentId::new(), SegmentId::new());
    assert_eq!(claimed_jobs(ledger, first, 1).await, [older.id]);
    assert_eq!(claimed_jobs(ledger, second, 9).await, [newer.id]);
    assert!(claim(ledger, SegmentId::new(), 9).await.is_empty());
    // Claiming the same segment again returns the same rows, whatever has become claimable since.
    let posting = verdict(grouped.id, &NodeId::fresh(), Verdict::Valid, 2_000);
    must(ledger.owner.post(grouped.id, std::slice::from_ref(&posting), true).await);
    assert_eq!(claimed_jobs(ledger, first, 9).await, [older.id]);
    let records = claim(ledger, SegmentId::new(), 9).await;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!((record.job_id, record.accepted_ms), (grouped.id, grouped.accepted_ms));
    assert_eq!(record.request, serde_json::from_slice(&grouped.request).ok());
    assert_eq!(record.settlement, settlement);
    assert_eq!(record.postings.len(), 2, "usage and verdict: {record:?}");
    assert_eq!(record.postings[1], posting);
}

/// Records wait for others, until there are enough or the oldest has waited long enough.
pub async fn a_segment_waits_until_it_is_full_or_ripe(ledger: &Halves) {
    let claim = async |limit, ripe| {
        let claimed = ledger.index.claim(SegmentId::new(), limit, at(ripe), at(5_000)).await;
        must(claimed).into_iter().map(|record| record.job_id).collect::<Vec<_>>()
    };
    let jobs = [end_at(ledger, 10).await.id, end_at(ledger, 20).await.id, end_at(ledger, 30).await.id];
    assert!(claim(4, 9).await.is_empty());
    assert_eq!(claim(2, 9).await, jobs[..2]);
    assert!(claim(2, 29).await.is_empty());
    assert_eq!(claim(2, 30).await, jobs[2..]);
    assert!(claim(1, 5_000).await.is_empty());
    assert!(
        must(ledger.index.unfinished(at(9_000), at(9_000)).await).len() == 2,
        "nothing was claimed for an empty segment"
    );
}

/// A few large records fill a segment, because a segment is in memory whole while it is built.
pub async fn large_records_fill_a_segment(ledger: &Halves) {
    let request = format!("\"{}\"", "x".repeat(17 * 1024 * 1024)).into_bytes();
    let mut jobs = Vec::new();
    for now in [10, 20, 30] {
        let job = NewJob { request: request.clone(), ..new_job(&AccountId::fresh()) };
        assert_eq!(must(ledger.intake.accept(job.clone()).await), NEW);
        must(ledger.owner.settle(&Settlement { settled_ms: at(now), ..ended(&job, End::Expired) }).await);
        jobs.push(job.id);
    }
    assert_eq!(claimed_jobs(ledger, SegmentId::new(), 9).await, jobs[..2]);
    assert_eq!(claimed_jobs(ledger, SegmentId::new(), 9).await, jobs[2..]);
}

/// A job that was cancelled or expired while a verifier owned it is archived with the group that this verifier
/// reports, or after a while without one. A job that no verifier owned is archived at once.
pub async fn a_called_off_jobs_record_waits_for_its_group(ledger: &Halves) {
    let owner = verifier(ledger, 900_000).await;
    let (cancelled, expired, silent, queued) =
        (accept(ledger).await, accept(ledger).await, accept(ledger).await, accept(ledger).await);
    for job in [&cancelled, &expired, &silent] {
        taken(take(ledger, &owner, job.id, false, 1).await);
    }
    for job in [&cancelled, &silent, &queued] {
        must(ledger.intake.cancel(&job.account, job.id, at(1_000)).await);
    }
    must(ledger.owner.settle(&ended(&expired, End::Expired)).await);
    assert_eq!(claimed_jobs(ledger, SegmentId::new(), 9).await, [queued.id]);
    assert!(must(ledger.sweeping.groups(&[cancelled.id, expired.id]).await).is_empty());

    for (job, end) in [(&cancelled, End::cancelled()), (&expired, End::Expired)] {
        let own = Settlement { group: Some(group(&owner)), ..succeeded(job) };
        let won = Settlement { group: own.group.clone(), ..ended(job, end) };
        assert_eq!(must(ledger.owner.settle(&own).await), Settled::Before(won.clone()));
        // The first group that comes stays.
        let other = Settlement { group: Some(group(&owner)), ..succeeded(job) };
        assert_eq!(must(ledger.owner.settle(&other).await), Settled::Before(won));
        assert!(claim(ledger, SegmentId::new(), 9).await.is_empty());
        must(
            ledger
                .owner
                .post(job.id, &[verdict(job.id, &NodeId::fresh(), Verdict::Valid, 2_000)], true)
                .await,
        );
        let records = claim(ledger, SegmentId::new(), 9).await;
        assert_eq!((records.len(), records[0].postings.len()), (1, 1));
        assert_eq!(records[0].settlement.group, own.group);
    }

    let question = SweepQuestion {
        empty_queues: Vec::new(),
        dead: Vec::new(),
        unserved: Vec::new(),
        unconfirmed_for: std::time::Duration::from_secs(5),
        limit: 9,
    };
    assert!(must(ledger.sweeping.sweep(&question, at(30_999)).await).groups.is_empty());
    assert!(claim(ledger, SegmentId::new(), 9).await.is_empty());
    assert!(must(ledger.sweeping.sweep(&question, at(31_000)).await).groups.is_empty());
    assert_eq!(claimed_jobs(ledger, SegmentId::new(), 9).await, [silent.id]);
    // Too late: the record is written, and a group that would never be closed must not be stored.
    let late = Settlement { group: Some(group(&owner)), ..succeeded(&silent) };
    assert_eq!(must(ledger.owner.settle(&late).await), Settled::Before(ended(&silent, End::cancelled())));
}

/// A claim is unfinished until it is recorded; after that its records can be found.
pub async fn a_segment_is_recorded_and_its_records_found(ledger: &Halves) {
    let (first, second) = (end_at(ledger, 10).await, end_at(ledger, 20).await);
    let segment = SegmentId::new();
    let jobs = claimed_jobs(ledger, segment, 9).await;
    assert_eq!(jobs, [first.id, second.id]);
    assert!(must(ledger.index.unfinished(at(5_000), at(5_000)).await).is_empty());
    assert_eq!(must(ledger.index.unfinished(at(5_001), at(5_001)).await), [segment]);
    assert_eq!(must(ledger.index.locate(first.id).await), None);
    let places = places(&jobs);
    // Twice, as after an unknown outcome.
    for _ in 0..2 {
        must(ledger.index.record(segment, "jobs/one.ndjson.zst", &places).await);
    }
    assert!(must(ledger.index.unfinished(at(9_000), at(9_000)).await).is_empty());
    for place in places {
        let expected = ArchivedRecord { segment, key: "jobs/one.ndjson.zst".to_owned(), place };
        assert_eq!(must(ledger.index.locate(place.job).await), Some(expected));
    }
    assert_eq!(must(ledger.index.locate(JobId::new()).await), None);
    assert!(claim(ledger, SegmentId::new(), 9).await.is_empty());
}

/// A segment is recorded with exactly the records that it claimed, so that no record is lost on the way.
pub async fn places_must_fit_the_claim(ledger: &Halves) {
    let (first, second) = (end_at(ledger, 10).await, end_at(ledger, 20).await);
    let segment = SegmentId::new();
    claim(ledger, segment, 1).await;
    for wrong in [vec![], vec![second.id], vec![first.id, second.id], vec![first.id, first.id]] {
        refused(&ledger.index.record(segment, "jobs/one", &places(&wrong)).await);
    }
    refused(&ledger.index.record(SegmentId::new(), "jobs/two", &places(&[first.id])).await);
    assert_eq!(must(ledger.index.locate(first.id).await), None);
    must(ledger.index.record(segment, "jobs/one", &places(&[first.id])).await);
}

/// A job's idempotency key and its group are kept as long as its body, and no longer; its end is kept.
pub async fn a_pruned_jobs_key_and_group_are_forgotten(ledger: &Halves) {
    let account = AccountId::fresh();
    let idempotency =
        |name: &str| Idempotency { key: Digest::of(name.as_bytes()), fingerprint: Digest::of(b"body") };
    let with = |name| NewJob { idempotency: Some(idempotency(name)), ..new_job(&account) };
    let (old, recent) = (with("old"), with("recent"));
    for (job, now) in [(&old, 10), (&recent, 20)] {
        must(ledger.intake.accept(job.clone()).await);
        let group = Some(group(&VerifierId::fresh()));
        must(ledger.owner.settle(&Settlement { settled_ms: at(now), group, ..succeeded(job) }).await);
        must(ledger.owner.post(job.id, &[], true).await);
    }
    let groups = async || {
        let groups = must(ledger.sweeping.groups(&[old.id, recent.id]).await);
        groups.into_iter().map(|group| group.settlement.job_id).collect::<Vec<_>>()
    };
    assert_eq!(groups().await, [old.id, recent.id]);
    for key in ["jobs/one", "jobs/two"] {
        let segment = SegmentId::new();
        let jobs = claimed_jobs(ledger, segment, 1).await;
        must(ledger.index.record(segment, key, &places(&jobs)).await);
    }
    assert_eq!(prune(ledger, 20).await, 1);
    assert_eq!(groups().await, [recent.id]);
    let ends = must(ledger.reader.settlements(&[old.id]).await);
    assert_eq!(ends, [Settlement { settled_ms: at(10), ..succeeded(&old) }]);
    assert_eq!(must(ledger.intake.accept(with("recent")).await), Accepted::Existing(recent.id));
    assert_eq!(must(ledger.intake.accept(with("old")).await), NEW);
}

/// Bodies are deleted once they are archived and old enough, and each is counted once; their records stay readable.
pub async fn only_archived_bodies_are_pruned(ledger: &Halves) {
    let mut jobs = Vec::new();
    for now in [10, 20, 30, 40] {
        jobs.push(end_at(ledger, now).await.id);
    }
    let segment = SegmentId::new();
    let archived = claimed_jobs(ledger, segment, 3).await;
    assert_eq!(prune(ledger, 9_000).await, 0);
    must(ledger.index.record(segment, "jobs/one", &places(&archived)).await);
    assert_eq!(prune(ledger, 30).await, 0, "its last is too young");
    assert_eq!(prune(ledger, 31).await, 3);
    assert_eq!(prune(ledger, 31).await, 0);
    let requests: Vec<bool> =
        claim(ledger, segment, 9).await.iter().map(|record| record.request.is_some()).collect();
    assert_eq!(requests, [false, false, false]);
    // A body that cannot be parsed still yields a record.
    let broken = NewJob { request: b"{".to_vec(), ..new_job(&AccountId::fresh()) };
    must(ledger.intake.accept(broken.clone()).await);
    must(ledger.owner.settle(&ended(&broken, End::Expired)).await);
    let rest = claim(ledger, SegmentId::new(), 9).await;
    assert_eq!(rest.len(), 2);
    assert_eq!(rest[1].request, Some(serde_json::Value::from("{")));
}

/// Prunable segments are returned with the places of their records, oldest first and no more than asked for; a record
/// that was settled by a clock ahead of time does not keep others back.
pub async fn a_segment_is_pruned_as_a_whole_and_the_oldest_first(ledger: &Halves) {
    let day = 24 * 60 * 60 * 1_000;
    let mut segments = Vec::new();
    for settled in [[50, 60], [10, 20], [30, day]] {
        for now in settled {
            end_at(ledger, now).await;
        }
        let segment = SegmentId::new();
        // The job that was settled a day ahead counts as overdue, so it is claimed together with its neighbour.
        let jobs = claimed_jobs(ledger, segment, 9).await;
        assert_eq!(jobs.len(), 2);
        let key = format!("jobs/{settled:?}").replace(['[', ']', ',', ' '], "-");
        must(ledger.index.record(segment, &key, &places(&jobs)).await);
        segments.push(ArchivedSegment { segment, key, places: places(&jobs) });
    }
    let prunable = async |before: u64, limit: u32| {
        must(ledger.pruning.prunable(at(before), at(1_000), limit, &[]).await)
    };
    assert_eq!(prunable(10, 9).await, []);
    assert_eq!(prunable(20, 9).await, [], "not all of the oldest segment is old enough");
    assert_eq!(prunable(21, 9).await, segments[1..2]);
    assert_eq!(prunable(61, 9).await, [segments[1].clone(), segments[2].clone(), segments[0].clone()]);
    assert_eq!(prunable(61, 2).await, segments[1..]);
    let without = [segments[1].segment, SegmentId::new()];
    let others = must(ledger.pruning.prunable(at(61), at(1_000), 2, &without).await);
    assert_eq!(others, [segments[2].clone(), segments[0].clone()], "what is passed over takes no place");
    assert_eq!(must(ledger.pruning.prune(segments[1].segment).await), 2);
    assert_eq!(must(ledger.pruning.prune(segments[1].segment).await), 0);
    assert_eq!(must(ledger.pruning.prune(SegmentId::new()).await), 0);
    assert_eq!(prunable(61, 9).await, [segments[2].clone(), segments[0].clone()]);
}

/// The bodies of a segment whose object is lost are kept. If the ledger has all of them, the segment is written again
/// under the same key; if not, it is left alone, and keeps no other segment back.
pub async fn what_the_archive_lost_is_kept(ledger: &Halves) {
    let segment = SegmentId::new();
    for now in [10, 20] {
        end_at(ledger, now).await;
    }
    let jobs = claimed_jobs(ledger, segment, 9).await;
    must(ledger.index.record(segment, "jobs/one", &places(&jobs)).await);
    assert!(must(ledger.pruning.keep(segment).await));
    assert!(must(ledger.pruning.prunable(at(9_000), at(9_000), 9, &[]).await).is_empty());
    assert_eq!(must(ledger.pruning.prune(segment).await), 0);
    assert_eq!(must(ledger.index.locate(jobs[0]).await), None);
    assert_eq!(must(ledger.index.unfinished(at(9_000), at(9_000)).await), [segment]);
    let records = claim(ledger, segment, 9).await;
    assert!(records.len() == 2 && records.iter().all(|record| record.request.is_some()));
    must(ledger.index.record(segment, "jobs/one", &places(&jobs)).await);
    assert!(must(ledger.index.unfinished(at(9_000), at(9_000)).await).is_empty());
    assert_eq!(prune(ledger, 9_000).await, 2);

    // After that the object is the only copy, whatever is left of it.
    assert!(!must(ledger.pruning.keep(segment).await));
    assert!(must(ledger.index.locate(jobs[0]).await).is_some());
    assert!(must(ledger.index.unfinished(at(9_000), at(9_000)).await).is_empty());
    assert_eq!(prune(ledger, 9_000).await, 0);
}

/// Poison jobs are found by how they ended alone, newest first and whole, and without their request once that is
/// pruned.
pub async fn poisoned_jobs_are_found_whole_until_they_are_pruned(ledger: &Halves) {
    let failed = |reason| End::Failed { reason, message: "owners died".to_owned() };
    let mut poisoned = Vec::new();
    for now in [10, 30, 20] {
        let job = accept(ledger).await;
        let end = failed(FailureReason::Poison);
        must(ledger.owner.settle(&Settlement { settled_ms: at(now), ..ended(&job, end) }).await);
        poisoned.push(PoisonedJob {
            id: job.id,
            account: job.account,
            model: job.model,
            request: Some(job.request),
            policy: job.policy,
            pool: infera_ledger::NodePool::Open,
            settled_ms: at(now),
            keeping: job.keeping,
        });
    }
    let (waiting, other, answered) = (accept(ledger).await, accept(ledger).await, accept(ledger).await);
    must(ledger.owner.settle(&ended(&other, failed(FailureReason::NoConsensus))).await);
    let mut said = succeeded(&answered);
    if let End::Succeeded { answer, .. } = &mut said.end {
        answer.text = r#""end":{"status":"failed","reason":"poison","message":"#.to_owned();
    }
    must(ledger.owner.settle(&said).await);
    poisoned.sort_by_key(|job| std::cmp::Reverse(job.settled_ms));
    assert_eq!(must(ledger.reader.poisoned(None, 9).await), poisoned);
    assert_eq!(must(ledger.reader.poisoned(None, 2).await), poisoned[..2]);
    assert_eq!(must(ledger.reader.poisoned(Some(poisoned[2].id), 1).await), poisoned[2..]);
    for job in [waiting.id, other.id, answered.id, JobId::new()] {
        assert!(must(ledger.reader.poisoned(Some(job), 9).await).is_empty());
    }
    let segment = SegmentId::new();
    let archived = claimed_jobs(ledger, segment, 1).await;
    must(ledger.index.record(segment, "jobs/one", &places(&archived)).await);
    assert_eq!(prune(ledger, 20).await, 1);
    poisoned[2].request = None;
    assert_eq!(must(ledger.reader.poisoned(None, 9).await), poisoned);
}
