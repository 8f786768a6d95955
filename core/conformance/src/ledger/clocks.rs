//! Checks times that were written by a clock that was a day ahead and has been corrected: nothing waits until that
//! day is over.

use std::time::Duration;

use super::sample::{
    DEADLINE, GROUP_DEADLINE, NEW, accept, accept_at, ended, group, new_job, succeeded, take, taken, verdict,
};
use super::{Halves, at, must};
use infera_ledger::{NewJob, NewNode, NodeCheck, Registered, Sweep, SweepQuestion, Take, Verdict};
use infera_types::ids::{AccountId, Digest, JobId, NodeId, SegmentId, VerifierId};
use infera_types::job::{End, Settlement};

/// How far ahead the clock was, in milliseconds.
const DAY: u64 = 24 * 60 * 60 * 1_000;

/// By how many milliseconds a clock may be ahead without counting as wrong.
const LITTLE: u64 = 59_000;

async fn sweep(ledger: &Halves, now: u64) -> Sweep {
    let question = SweepQuestion {
        empty_queues: Vec::new(),
        dead: Vec::new(),
        unserved: Vec::new(),
        unconfirmed_for: Duration::from_secs(5),
        limit: 100,
    };
    must(ledger.sweeping.sweep(&question, at(now)).await)
}

async fn handed_out(ledger: &Halves, now: u64) -> Vec<JobId> {
    sweep(ledger, now).await.hand_out.into_iter().map(|(job, ..)| job).collect()
}

async fn overdue_groups(ledger: &Halves, now: u64) -> Vec<JobId> {
    sweep(ledger, now).await.groups.into_iter().map(|group| group.settlement.job_id).collect()
}

async fn accept_ahead(ledger: &Halves, ahead: u64) -> NewJob {
    let job =
        NewJob { accepted_ms: at(ahead), deadline_ms: at(ahead + DEADLINE), ..new_job(&AccountId::fresh()) };
    assert_eq!(must(ledger.intake.accept(job.clone()).await), NEW);
    job
}

/// A notice that was never confirmed is handed out again; after that it waits its time like others.
pub async fn a_notice_from_a_clock_ahead_is_overdue(ledger: &Halves) {
    let job = accept_ahead(ledger, DAY).await;
    let usual = accept_ahead(ledger, LITTLE).await;
    assert_eq!(handed_out(ledger, 0).await, [job.id]);
    assert_eq!(handed_out(ledger, 4_999).await, []);
    assert_eq!(handed_out(ledger, 5_000).await, [job.id]);
    must(ledger.sweeping.handed_out(&[job.id], at(5_001)).await);
    assert_eq!(handed_out(ledger, LITTLE + 4_999).await, []);
    assert_eq!(handed_out(ledger, LITTLE + 5_000).await, [usual.id]);
    let owner = VerifierId::fresh();
    assert_eq!(taken(take(ledger, &owner, job.id, false, 6_000).await).id, job.id);
    // A release marks the job as unconfirmed as of then.
    must(ledger.owner.release(&owner, &[job.id], at(DAY)).await);
    assert_eq!(handed_out(ledger, LITTLE + 6_000).await, [job.id]);
}

/// A lease that was taken by a clock ahead of time does not count: others may take its name, and its holder's jobs.
pub async fn a_lease_from_a_clock_ahead_is_none(ledger: &Halves) {
    let lease = async |name: &str, holder: &VerifierId, now: u64| {
        must(ledger.sweeping.lease(name, holder, at(now), Duration::from_secs(15)).await)
    };
    let [first, second, third] = [VerifierId::fresh(), VerifierId::fresh(), VerifierId::fresh()];
    assert!(lease("sweeper", &first, DAY).await);
    assert!(lease("sweeper", &second, 0).await, "the first is a day ahead");
    assert!(!lease("sweeper", &third, 1).await);
    assert!(lease("archiver", &first, LITTLE).await);
    assert!(!lease("archiver", &second, 0).await, "a little ahead is not wrong");

    // The holder lives, and its clock is right again.
    assert!(lease(first.as_str(), &first, DAY).await);
    assert!(lease(first.as_str(), &first, 10).await);
    let kept = accept(ledger).await;
    taken(take(ledger, &first, kept.id, false, 11).await);
    assert_eq!(take(ledger, &second, kept.id, false, 12).await, Take::Nothing(kept.id));
    assert_eq!(handed_out(ledger, 13).await, []);

    // A lease whose holder died.
    assert!(lease(second.as_str(), &second, DAY).await);
    let (swept, left) = (accept(ledger).await, accept(ledger).await);
    for job in [&swept, &left] {
        taken(take(ledger, &second, job.id, false, 14).await);
    }
    let grouped = Settlement { group: Some(group(&second)), ..succeeded(&accept(ledger).await) };
    must(ledger.owner.settle(&grouped).await);
    assert_eq!(taken(take(ledger, &third, left.id, false, 15).await).lost_handouts, 1);
    // To a clock that is ahead every lease has ended, so it deleted them.
    assert!(lease(first.as_str(), &first, 15).await);
    assert!(lease(third.as_str(), &third, 15).await);
    assert_eq!(handed_out(ledger, 16).await, [swept.id]);
    assert_eq!(overdue_groups(ledger, GROUP_DEADLINE).await, [grouped.job_id]);
}

/// The group of a job that ended by a clock ahead of time is closed, and an awaited one is given up.
pub async fn a_group_from_a_clock_ahead_is_overdue(ledger: &Halves) {
    let dead = VerifierId::fresh();
    let ahead = |job: &NewJob, settled: u64| {
        let mut group = group(&dead);
        group.deadline_ms = at(settled + 60_000);
        Settlement { settled_ms: at(settled), group: Some(group), ..succeeded(job) }
    };
    let (far, near) = (accept(ledger).await, accept(ledger).await);
    must(ledger.owner.settle(&ahead(&far, DAY)).await);
    must(ledger.owner.settle(&ahead(&near, LITTLE)).await);
    assert_eq!(overdue_groups(ledger, 0).await, [far.id]);
    must(ledger.owner.post(far.id, &[verdict(far.id, &NodeId::fresh(), Verdict::Missed, 1)], true).await);
    assert_eq!(overdue_groups(ledger, 1).await, []);
    assert_eq!(overdue_groups(ledger, LITTLE + 60_000).await, [near.id]);

    let awaited = accept(ledger).await;
    taken(take(ledger, &dead, awaited.id, false, 2).await);
    must(ledger.intake.cancel(&awaited.account, awaited.id, at(DAY)).await);
    let segment = SegmentId::new();
    assert_eq!(must(ledger.index.claim(segment, 9, at(0), at(0)).await).len(), 1, "only the closed one");
    overdue_groups(ledger, 3).await;
    let records = must(ledger.index.claim(SegmentId::new(), 9, at(0), at(0)).await);
    assert_eq!(records.into_iter().map(|record| record.job_id).collect::<Vec<_>>(), [awaited.id]);
}

/// Records that were settled, and segments that were claimed, by a clock ahead of time are written now.
pub async fn an_archive_from_a_clock_ahead_is_overdue(ledger: &Halves) {
    let end = async |settled: u64| {
        let job = accept_at(ledger, &AccountId::fresh(), 0).await;
        let settlement = Settlement { settled_ms: at(settled), ..ended(&job, End::Expired) };
        must(ledger.owner.settle(&settlement).await);
        job.id
    };
    let claim = async |segment: SegmentId, now: u64| {
        let claimed = must(ledger.index.claim(segment, 9, at(now.saturating_sub(30_000)), at(now)).await);
        claimed.into_iter().map(|record| record.job_id).collect::<Vec<_>>()
    };
    let near = end(LITTLE).await;
    assert_eq!(claim(SegmentId::new(), 0).await, [], "it waits for company");
    let far = end(DAY).await;
    let segment = SegmentId::new();
    assert_eq!(claim(segment, DAY).await, [near, far]);
    let unfinished = async |now: u64| must(ledger.index.unfinished(at(0), at(now)).await);
    assert_eq!(unfinished(0).await, [segment], "it was claimed a day ahead");
    assert_eq!(unfinished(DAY).await, [], "it is being written, for all that is known");
    let alone = end(DAY).await;
    assert_eq!(claim(SegmentId::new(), 0).await, [alone]);
}

/// A node whose admission ends too late is out until it is admitted again, and then it is in for as long as others.
pub async fn an_admission_from_a_clock_ahead_is_over(ledger: &Halves) {
    let account = must(ledger.accounts.sign_up("runner@example.com", None, at(0)).await).account;
    must(ledger.nodes.allow_fleet("runner@example.com", at(0)).await);
    let node = NewNode { name: "ahead".to_owned(), secret: Digest::of(b"secret"), account: Some(account) };
    let Registered::Node(record) = must(ledger.network.register_node(&node, at(0)).await) else {
        unreachable!("it is new")
    };
    let admit = async |until: u64| {
        let check = must(ledger.nodes.admit_node("ahead", Digest::of(b"secret"), at(until)).await);
        assert!(matches!(check, NodeCheck::Admitted(_)), "{check:?}");
    };
    let admitted = async |now: u64| must(ledger.nodes.admitted(at(now)).await);
    admit(DAY).await;
    assert_eq!(admitted(0).await, []);
    admit(600_000).await;
    assert_eq!(admitted(0).await, std::slice::from_ref(&record.id));
    assert_eq!(admitted(600_000).await, std::slice::from_ref(&record.id));
    assert_eq!(admitted(600_001).await, []);
}
