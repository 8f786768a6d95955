//! Checks which verifier may take a job, and what is recorded about that.

use super::sample::{NEW, accept, group, new_job, succeeded, take, taken, verifier};
use super::{Halves, at, must, refused};
use infera_ledger::{Handout, JobState, LOST_ALONE, Miss, NewJob, Notice, SweepQuestion, Take, TakenJob};
use infera_types::ids::{AssignmentId, JobId, NodeId, OwnerId, VerifierId};
use infera_types::job::Settlement;
use infera_types::service::{Lane, ServiceTier};

/// A taken job has everything that was accepted.
pub async fn an_unowned_job_is_taken_whole(ledger: &Halves) {
    let job = NewJob { synchronous: false, ..new_job(&infera_types::ids::AccountId::fresh()) };
    assert_eq!(must(ledger.intake.accept(job.clone()).await), NEW);
    let owner = verifier(ledger, 1_000).await;
    let expected = TakenJob {
        id: job.id,
        choice: job.choice,
        account: job.account.clone(),
        model: job.model.clone(),
        request: job.request.clone(),
        policy: job.policy,
        gateway: job.gateway.clone(),
        synchronous: false,
        accepted_ms: job.accepted_ms,
        deadline_ms: job.deadline_ms,
        epoch: job.epoch,
        lane: Lane::First,
        tier: ServiceTier::Default,
        pool: infera_ledger::NodePool::Open,
        payment: infera_types::money::Payment::Free,
        lost_handouts: 0,
        misses: Vec::new(),
    };
    assert_eq!(take(ledger, &owner, job.id, false, 1).await, Take::Taken(expected));
    let view = must(ledger.reader.job(&job.account, job.id).await);
    assert_eq!(view.map(|view| view.state), Some(JobState::Running));
    let unknown = JobId::new();
    assert_eq!(take(ledger, &owner, unknown, true, 1).await, Take::Nothing(unknown));
}

/// One unreadable row keeps no other job from being taken. Implementations with tables call this check themselves:
/// `spoil` makes a waiting job's row unreadable behind the ledger's back.
pub async fn an_unreadable_job_keeps_no_other(ledger: &Halves, spoil: impl AsyncFnOnce(JobId)) {
    let [sound, broken, other] = [accept(ledger).await, accept(ledger).await, accept(ledger).await];
    spoil(broken.id).await;
    let owner = verifier(ledger, 1_000).await;
    let notices = [&sound, &broken, &other].map(|job| Notice::together(job.id, true));
    let takes = must(ledger.owner.take(&owner, &notices, at(1)).await);
    assert_eq!(takes.len(), notices.len());
    for (take, job) in takes.into_iter().zip([Some(&sound), None, Some(&other)]) {
        match job {
            Some(job) => {
                let taken = taken(take);
                assert_eq!((taken.id, taken.lost_handouts), (job.id, 0));
            }
            None => assert_eq!(take, Take::Nothing(broken.id)),
        }
    }
}

/// A duplicate notice changes nothing while the owner lives, even if it comes to the same verifier.
pub async fn a_live_owners_job_is_left_alone(ledger: &Halves) {
    let job = accept(ledger).await;
    let (owner, other) = (verifier(ledger, 1_000).await, verifier(ledger, 1_000).await);
    taken(take(ledger, &owner, job.id, false, 1).await);
    assert_eq!(take(ledger, &other, job.id, false, 999).await, Take::Nothing(job.id));
    assert_eq!(take(ledger, &owner, job.id, false, 999).await, Take::Nothing(job.id));
}

/// An owner counts as dead once its lease has ended; each dead owner that had the job is counted.
pub async fn a_dead_owners_job_is_taken_and_counted(ledger: &Halves) {
    let job = accept(ledger).await;
    let mut now = 0;
    for lost in 0..4 {
        now += 1_000;
        let owner = VerifierId::fresh();
        let ttl = std::time::Duration::from_millis(1_000);
        assert!(must(ledger.sweeping.lease(owner.as_str(), &owner, at(now), ttl).await));
        assert_eq!(taken(take(ledger, &owner, job.id, false, now).await).lost_handouts, lost);
    }
    // An owner whose id names another holder's lease counts as dead too.
    let (impostor, holder) = (VerifierId::fresh(), verifier(ledger, 60_000).await);
    let ttl = std::time::Duration::from_secs(60);
    taken(take(ledger, &impostor, job.id, false, now + 1_000).await);
    assert!(must(ledger.sweeping.lease(impostor.as_str(), &holder, at(now), ttl).await));
    assert_eq!(taken(take(ledger, &holder, job.id, false, now + 1_001).await).lost_handouts, 5);
}

/// A redelivered job was lost by its owner, whatever the owner's lease says.
pub async fn a_redelivered_job_is_taken(ledger: &Halves) {
    let job = accept(ledger).await;
    let (owner, other) = (verifier(ledger, 1_000).await, verifier(ledger, 1_000).await);
    // It was redelivered before it was ever taken, so no owner lost it.
    assert_eq!(taken(take(ledger, &owner, job.id, true, 1).await).lost_handouts, 0);
    assert_eq!(taken(take(ledger, &other, job.id, true, 2).await).lost_handouts, 1);
    assert_eq!(taken(take(ledger, &other, job.id, true, 3).await).lost_handouts, 2);
}

/// An owner's death while it tries one job alone counts for more than one; an owner that survived the trial counts as
/// usual.
pub async fn a_job_lost_alone_counts_for_several(ledger: &Halves) {
    let job = accept(ledger).await;
    let (owner, other) = (verifier(ledger, 1_000).await, verifier(ledger, 1_000).await);
    let notice = |handout| Notice { handout, ..Notice::together(job.id, true) };
    let take = async |owner: &VerifierId, handout| {
        must(ledger.owner.take(owner, &[notice(handout)], at(1)).await).remove(0)
    };
    assert_eq!(taken(take(&owner, Handout::Together).await).lost_handouts, 0);
    assert_eq!(taken(take(&other, Handout::Alone).await).lost_handouts, 1);
    assert_eq!(taken(take(&owner, Handout::Alone).await).lost_handouts, 1 + LOST_ALONE);
    // The job stays with its owner, and only that owner can continue it.
    assert_eq!(take(&other, Handout::Survived).await, Take::Nothing(job.id));
    assert_eq!(taken(take(&owner, Handout::Survived).await).lost_handouts, 1 + LOST_ALONE);
    assert_eq!(taken(take(&other, Handout::Alone).await).lost_handouts, 2 + LOST_ALONE);
    // A released job counts as never handed out.
    must(ledger.owner.release(&other, &[job.id], at(2)).await);
    assert_eq!(take(&other, Handout::Survived).await, Take::Nothing(job.id));
    assert_eq!(taken(take(&owner, Handout::Together).await).lost_handouts, 2 + LOST_ALONE);
}

/// An ended job is not taken; its settlement, with its group, is the answer.
pub async fn an_ended_job_answers_with_its_end(ledger: &Halves) {
    let job = accept(ledger).await;
    let owner = verifier(ledger, 1_000).await;
    let settlement = Settlement { group: Some(group(&owner)), ..succeeded(&job) };
    must(ledger.owner.settle(&settlement).await);
    for redelivered in [false, true] {
        let take = take(ledger, &owner, job.id, redelivered, 2_000).await;
        assert_eq!(take, Take::Settled(settlement.clone()));
    }
}

/// A batch answers each notice, and hands each job out once.
pub async fn a_job_twice_in_a_batch_is_one_handout(ledger: &Halves) {
    let (first, second) = (accept(ledger).await, accept(ledger).await);
    let owner = verifier(ledger, 1_000).await;
    let notice = |job: &NewJob| Notice::together(job.id, true);
    let notices = [notice(&first), notice(&second), notice(&first)];
    let takes = must(ledger.owner.take(&owner, &notices, at(1)).await);
    assert_eq!(takes.len(), 3);
    let handed: Vec<_> = takes.iter().filter(|take| matches!(take, Take::Taken(_))).collect();
    assert_eq!(handed.len(), 2, "{takes:?}");
    assert!(takes.contains(&Take::Nothing(first.id)));
    assert!(must(ledger.owner.take(&owner, &[], at(1)).await).is_empty());
}

/// Releasing a job leaves no trace except that it is unconfirmed; only its owner can release it.
pub async fn a_released_job_was_never_handed_out(ledger: &Halves) {
    let job = accept(ledger).await;
    let (owner, other) = (verifier(ledger, 90_000).await, verifier(ledger, 90_000).await);
    must(ledger.intake.confirm(&[job.id], at(1)).await);
    taken(take(ledger, &owner, job.id, false, 2).await);
    must(ledger.owner.release(&other, &[job.id], at(3)).await);
    assert_eq!(take(ledger, &other, job.id, false, 3).await, Take::Nothing(job.id));
    must(ledger.owner.release(&owner, &[job.id, JobId::new()], at(60_000)).await);
    let view = must(ledger.reader.job(&job.account, job.id).await);
    assert_eq!(view.map(|view| view.state), Some(JobState::Queued));
    let question = SweepQuestion {
        empty_queues: Vec::new(),
        dead: Vec::new(),
        unserved: Vec::new(),
        unconfirmed_for: std::time::Duration::from_secs(5),
        limit: 10,
    };
    let early = must(ledger.sweeping.sweep(&question, at(64_999)).await);
    assert!(early.hand_out.is_empty(), "{early:?}");
    let sweep = must(ledger.sweeping.sweep(&question, at(65_000)).await);
    assert_eq!(sweep.hand_out, [(job.id, job.model.clone(), Lane::First)]);
    assert_eq!(taken(take(ledger, &other, job.id, true, 65_001).await).lost_handouts, 0);
}

/// A new owner sees the misses under the previous owner; the same miss counts once.
pub async fn misses_stay_with_the_job(ledger: &Halves) {
    let job = accept(ledger).await;
    let owner = verifier(ledger, 1_000).await;
    taken(take(ledger, &owner, job.id, false, 1).await);
    let miss =
        || Miss { assignment: AssignmentId::new(), node: NodeId::fresh(), owner: OwnerId::new("acctsample") };
    let (first, second) = (miss(), miss());
    for miss in [&first, &second, &first] {
        must(ledger.owner.record_miss(job.id, miss).await);
    }
    let next = verifier(ledger, 9_000).await;
    assert_eq!(taken(take(ledger, &next, job.id, false, 2_000).await).misses, [first.clone(), second]);
    refused(&ledger.owner.record_miss(JobId::new(), &first).await);
}
