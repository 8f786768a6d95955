//! Checks that data which was changed behind the ledger's back is never returned as if it were what was stored.
//! Implementations with tables call these checks themselves, because they know how to change a stored byte.

use super::sample::{NEW, accept, group, new_job, succeeded, take, taken, verifier};
use super::{Halves, at, must, refused};
use infera_ledger::{Accepted, Idempotency, NewJob, Notice, Settled, Take};
use infera_types::ids::{JobId, SegmentId, VerifierId};
use infera_types::job::Settlement;

/// An answer with one changed byte is never returned, whichever way it is read, and other jobs are not affected.
/// `spoil` makes a settlement's text say 13 where it said 12.
pub async fn a_changed_answer_is_never_given_out(ledger: &Halves, spoil: impl AsyncFnOnce(JobId)) {
    let idempotency = Idempotency {
        key: infera_types::ids::Digest::of(b"key"),
        fingerprint: infera_types::ids::Digest::of(b"body"),
    };
    let broken = NewJob { idempotency: Some(idempotency), ..new_job(&infera_types::ids::AccountId::fresh()) };
    assert_eq!(must(ledger.intake.accept(broken.clone()).await), NEW);
    let sound = accept(ledger).await;
    for job in [&broken, &sound] {
        assert_eq!(must(ledger.owner.settle(&succeeded(job)).await), Settled::Now);
    }
    spoil(broken.id).await;

    refused(&ledger.reader.job(&broken.account, broken.id).await);
    refused(&ledger.reader.settlements(&[broken.id]).await);
    refused(&ledger.reader.settlements(&[sound.id, broken.id]).await);
    assert_eq!(must(ledger.reader.settlements(&[sound.id]).await), [succeeded(&sound)]);
    refused(&ledger.intake.cancel(&broken.account, broken.id, at(2_000)).await);
    refused(&ledger.owner.settle(&succeeded(&broken)).await);
    // That the job exists is known nevertheless.
    let again = NewJob { id: JobId::new(), ..broken.clone() };
    assert_eq!(must(ledger.intake.accept(again).await), Accepted::Existing(broken.id));
    let owner = verifier(ledger, 60_000).await;
    assert_eq!(take(ledger, &owner, broken.id, true, 3_000).await, Take::Nothing(broken.id));

    // It keeps no other record out of the archive.
    let segment = SegmentId::new();
    for _ in 0..2 {
        let records = must(ledger.index.claim(segment, 9, at(9_000), at(9_000)).await);
        assert_eq!(records.into_iter().map(|record| record.job_id).collect::<Vec<_>>(), [sound.id]);
    }
    assert!(must(ledger.index.claim(SegmentId::new(), 9, at(9_000), at(9_000)).await).is_empty());
    assert_eq!(must(ledger.index.unfinished(at(10_000), at(10_000)).await), [segment]);
}

/// A segment whose only record cannot be read is not made. `spoil` as above.
pub async fn a_segment_of_damaged_records_is_none(ledger: &Halves, spoil: impl AsyncFnOnce(JobId)) {
    let broken = accept(ledger).await;
    assert_eq!(must(ledger.owner.settle(&succeeded(&broken)).await), Settled::Now);
    spoil(broken.id).await;
    assert!(must(ledger.index.claim(SegmentId::new(), 9, at(9_000), at(9_000)).await).is_empty());
    assert!(must(ledger.index.unfinished(at(10_000), at(10_000)).await).is_empty());
}

/// A request with one changed byte is sent to no node. `spoil` makes a request's text say 9 where it said 8.
pub async fn a_changed_request_is_never_given_out(ledger: &Halves, spoil: impl AsyncFnOnce(JobId)) {
    let (broken, sound) = (accept(ledger).await, accept(ledger).await);
    spoil(broken.id).await;
    let owner = verifier(ledger, 60_000).await;
    let notices = [&broken, &sound].map(|job| Notice::together(job.id, false));
    let takes = must(ledger.owner.take(&owner, &notices, at(1)).await);
    assert_eq!(takes[0], Take::Nothing(broken.id));
    assert_eq!(taken(takes[1].clone()).request, sound.request);
}

/// A group with one changed byte is used to judge no node. `spoil` makes a group's text say 2.75 where it said 2.5.
pub async fn a_changed_group_judges_nobody(ledger: &Halves, spoil: impl AsyncFnOnce(JobId)) {
    let (broken, sound) = (accept(ledger).await, accept(ledger).await);
    for job in [&broken, &sound] {
        let settlement = Settlement { group: Some(group(&VerifierId::fresh())), ..succeeded(job) };
        assert_eq!(must(ledger.owner.settle(&settlement).await), Settled::Now);
    }
    spoil(broken.id).await;
    refused(&ledger.sweeping.groups(&[broken.id]).await);
    assert_eq!(must(ledger.sweeping.groups(&[sound.id]).await).len(), 1);
    // The job's answer is unchanged.
    let view = must(ledger.reader.job(&broken.account, broken.id).await);
    assert_eq!(view.and_then(|view| view.settlement), Some(succeeded(&broken)));
}
