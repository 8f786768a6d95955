//! Checks leases, and finding work to recover.

use std::time::Duration;

use super::sample::{
    DEADLINE, GROUP_DEADLINE, NEW, accept, accept_at, group, model, new_job, succeeded, take, taken, verdict,
    verifier,
};
use super::{Halves, at, must};
use infera_ledger::{
    Accepted, Group, JobState, NewJob, OverdueJob, Settled, Standby, Sweep, SweepQuestion, Verdict,
};
use infera_types::ids::{AccountId, JobId, ModelName, NodeId, VerifierId};
use infera_types::job::{End, FailureReason, Settlement};
use infera_types::service::Lane;

fn question() -> SweepQuestion {
    let unconfirmed_for = Duration::from_secs(5);
    SweepQuestion {
        empty_queues: Vec::new(),
        dead: Vec::new(),
        unserved: Vec::new(),
        unconfirmed_for,
        limit: 100,
    }
}

async fn sweep(ledger: &Halves, now: u64) -> Sweep {
    must(ledger.sweeping.sweep(&question(), at(now)).await)
}

async fn handed(ledger: &Halves, now: u64) -> Vec<JobId> {
    sweep(ledger, now).await.hand_out.into_iter().map(|(job, ..)| job).collect()
}

/// A lease belongs to its holder until its time is up, and renewing it moves the end.
pub async fn a_lease_has_one_holder_until_it_ends(ledger: &Halves) {
    let (first, second) = (VerifierId::fresh(), VerifierId::fresh());
    let lease = async |holder: &VerifierId, now: u64| {
        must(ledger.sweeping.lease("sweeper", holder, at(now), Duration::from_millis(100)).await)
    };
    assert!(lease(&first, 0).await);
    assert!(!lease(&second, 99).await);
    assert!(lease(&first, 99).await);
    assert!(!lease(&second, 198).await);
    assert!(lease(&second, 199).await);
    assert!(!lease(&first, 200).await);
    // Leases with other names are independent.
    assert!(must(ledger.sweeping.lease("projector", &first, at(200), Duration::from_millis(1)).await));
}

/// A lease's holder releases it by taking it for no time. The same call by a verifier that doesn't hold it changes
/// nothing.
pub async fn a_lease_is_let_go_of_by_its_holder_alone(ledger: &Halves) {
    let (holder, other, third) = (VerifierId::fresh(), VerifierId::fresh(), VerifierId::fresh());
    let lease = async |who: &VerifierId, now: u64, milliseconds: u64| {
        must(ledger.sweeping.lease("sweeper", who, at(now), Duration::from_millis(milliseconds)).await)
    };
    lease(&other, 0, 0).await;
    assert!(lease(&holder, 0, 100).await, "nobody held it before");
    assert!(!lease(&other, 1, 0).await);
    assert!(!lease(&third, 2, 100).await, "it is still held");
    assert!(lease(&holder, 3, 100).await);
    lease(&holder, 4, 0).await;
    assert!(lease(&third, 4, 100).await, "let go of");
}

/// After the embedded start no earlier verifier counts as alive.
pub async fn all_leases_can_be_ended(ledger: &Halves) {
    let job = accept(ledger).await;
    let (old, new) = (verifier(ledger, 60_000).await, VerifierId::fresh());
    taken(take(ledger, &old, job.id, false, 1).await);
    assert_eq!(take(ledger, &new, job.id, false, 2).await, infera_ledger::Take::Nothing(job.id));
    must(ledger.sweeping.end_leases(at(2)).await);
    assert_eq!(taken(take(ledger, &new, job.id, false, 2).await).lost_handouts, 1);
    assert!(must(ledger.sweeping.lease(old.as_str(), &new, at(3), Duration::from_secs(1)).await));
}

/// A job that the broker never confirmed is handed out again after a while; one that the broker confirmed, or that a
/// sweep has just handed out, is not.
pub async fn unconfirmed_jobs_are_handed_out_again(ledger: &Halves) {
    let account = AccountId::fresh();
    let (lost, carried) = (accept_at(ledger, &account, 0).await, accept_at(ledger, &account, 0).await);
    must(ledger.intake.confirm(&[carried.id, JobId::new()], at(1)).await);
    assert!(handed(ledger, 4_999).await.is_empty());
    assert_eq!(handed(ledger, 5_000).await, [lost.id]);
    assert!(handed(ledger, 9_999).await.is_empty(), "it was handed out just now");
    assert_eq!(handed(ledger, 10_000).await, [lost.id], "but nobody said that the broker has it");
    must(ledger.sweeping.handed_out(&[lost.id], at(10_001)).await);
    assert!(handed(ledger, 100_000).await.is_empty());
}

/// A gateway's confirmation that comes after the job was released does not hide the job from the sweeper.
pub async fn a_late_confirmation_hides_nothing(ledger: &Halves) {
    let job = accept(ledger).await;
    let owner = verifier(ledger, 60_000).await;
    taken(take(ledger, &owner, job.id, false, 1).await);
    must(ledger.owner.release(&owner, &[job.id], at(2)).await);
    must(ledger.intake.confirm(&[job.id], at(3)).await);
    assert_eq!(handed(ledger, 5_002).await, [job.id]);
}

/// A job whose owner died is queued again at once, and the loss counts when it is taken.
pub async fn a_dead_owners_jobs_are_handed_out_again(ledger: &Halves) {
    let (left, kept) = (accept(ledger).await, accept(ledger).await);
    let (dead, alive) = (verifier(ledger, 1_000).await, verifier(ledger, 60_000).await);
    taken(take(ledger, &dead, left.id, false, 1).await);
    taken(take(ledger, &alive, kept.id, false, 1).await);
    assert!(handed(ledger, 999).await.is_empty());
    assert_eq!(handed(ledger, 1_000).await, [left.id]);
    let view = must(ledger.reader.job(&left.account, left.id).await);
    assert_eq!(view.map(|view| view.state), Some(JobState::Queued));
    must(ledger.sweeping.handed_out(&[left.id], at(1_001)).await);
    assert!(handed(ledger, 9_000).await.is_empty());
    assert_eq!(taken(take(ledger, &alive, left.id, false, 9_001).await).lost_handouts, 1);
}

/// Jobs that wait for an empty queue were lost there and are handed out again.
pub async fn jobs_of_an_empty_queue_are_handed_out_again(ledger: &Halves) {
    let account = AccountId::fresh();
    let waiting = accept_at(ledger, &account, 0).await;
    let other = NewJob { model: ModelName::new("other-model"), ..new_job(&account) };
    assert_eq!(must(ledger.intake.accept(other.clone()).await), NEW);
    must(ledger.intake.confirm(&[waiting.id, other.id], at(1)).await);
    assert!(handed(ledger, 60_000).await.is_empty());
    let empty = SweepQuestion { empty_queues: vec![(model(), Lane::First)], ..question() };
    let found = must(ledger.sweeping.sweep(&empty, at(60_000)).await);
    assert_eq!(found.hand_out, [(waiting.id, model(), Lane::First)]);
}

/// A job whose notice is dead is handed out again if it is queued, whether confirmed or not, and is found again until
/// the broker has it. A job that a live verifier owns, or that has ended, is expiring or is unknown is left as it is.
pub async fn jobs_with_dead_notices_are_handed_out_again(ledger: &Halves) {
    let account = AccountId::fresh();
    let [confirmed, fresh, owned, ended, late] = [
        accept_at(ledger, &account, 0).await,
        accept_at(ledger, &account, 0).await,
        accept_at(ledger, &account, 0).await,
        accept_at(ledger, &account, 0).await,
        accept_at(ledger, &account, 0).await,
    ];
    must(ledger.intake.confirm(&[confirmed.id, owned.id, ended.id, late.id], at(1)).await);
    let alive = verifier(ledger, 60_000).await;
    taken(take(ledger, &alive, owned.id, false, 2).await);
    must(ledger.owner.settle(&succeeded(&ended)).await);

    let dead = vec![confirmed.id, owned.id, fresh.id, ended.id, JobId::new(), confirmed.id];
    let asked = SweepQuestion { dead, limit: 1, ..question() };
    let mut found = must(ledger.sweeping.sweep(&asked, at(3)).await).hand_out;
    found.sort();
    let mut expected = vec![(confirmed.id, model(), Lane::First), (fresh.id, model(), Lane::First)];
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(handed(ledger, 5_002).await, [], "handed out just now");
    let mut again = handed(ledger, 5_003).await;
    again.sort();
    assert_eq!(
        again,
        expected.iter().map(|(job, ..)| *job).collect::<Vec<_>>(),
        "the broker has not confirmed it"
    );
    let view = must(ledger.reader.job(&owned.account, owned.id).await);
    assert_eq!(view.map(|view| view.state), Some(JobState::Running));
    let expiring = SweepQuestion { dead: vec![late.id], ..question() };
    assert!(must(ledger.sweeping.sweep(&expiring, at(DEADLINE)).await).hand_out.is_empty());
}

/// A job past its deadline, queued or running, is returned for expiry and not for handing out.
pub async fn jobs_past_their_deadline_are_to_expire(ledger: &Halves) {
    let account = AccountId::fresh();
    let queued = accept_at(ledger, &account, 0).await;
    let running = accept_at(ledger, &account, 0).await;
    let finished = accept_at(ledger, &account, 0).await;
    let dead = verifier(ledger, 1_000).await;
    taken(take(ledger, &dead, running.id, false, 1).await);
    must(ledger.owner.settle(&succeeded(&finished)).await);
    assert!(sweep(ledger, DEADLINE - 1).await.expired.is_empty());
    let found = sweep(ledger, DEADLINE).await;
    assert!(found.hand_out.is_empty(), "{found:?}");
    let overdue = |job: &NewJob| OverdueJob {
        id: job.id,
        account: account.clone(),
        model: model(),
        gateway: job.gateway.clone(),
    };
    assert_eq!(found.expired.len(), 2);
    assert!(found.expired.contains(&overdue(&queued)) && found.expired.contains(&overdue(&running)));
    for job in [&queued, &running] {
        must(ledger.owner.settle(&super::sample::ended(job, End::Expired)).await);
    }
    assert!(sweep(ledger, DEADLINE).await.expired.is_empty());
}

/// Jobs of an unserved model that no verifier has are returned, held ones too and at most as many as are asked for, until they
/// end. Those that a verifier has, that are past their deadline or of another model are not.
pub async fn queued_jobs_of_unserved_models_are_found(ledger: &Halves) {
    let account = AccountId::fresh();
    let gone = ModelName::new("gone-model");
    let of = |model: &ModelName| NewJob { model: model.clone(), ..new_job(&account) };
    let (offered, held, owned, other) = (of(&gone), of(&gone), of(&gone), of(&ModelName::new("other-model")));
    let held = NewJob { standby: Standby { offered_max: 0, ..Standby::never_held(&account) }, ..held };
    for job in [&offered, &owned, &other] {
        assert_eq!(must(ledger.intake.accept((*job).clone()).await), NEW);
    }
    assert_eq!(must(ledger.intake.accept(held.clone()).await), Accepted::New { is_held: true });
    let alive = verifier(ledger, 900_000).await;
    taken(take(ledger, &alive, owned.id, false, 1).await);
    let found = async |limit: u32, now: u64| {
        let unserved = vec![gone.clone(), ModelName::new("never-there")];
        let asked = SweepQuestion { unserved, limit, ..question() };
        let mut found = must(ledger.sweeping.sweep(&asked, at(now)).await).unserved;
        found.sort_by_key(|job| job.id);
        found
    };
    let waiting = |job: &NewJob| OverdueJob {
        id: job.id,
        account: account.clone(),
        model: gone.clone(),
        gateway: job.gateway.clone(),
    };
    let mut expected = [waiting(&offered), waiting(&held)];
    expected.sort_by_key(|job| job.id);
    assert_eq!(found(100, 2).await, expected);
    assert_eq!(found(1, 2).await.len(), 1);
    assert!(found(100, DEADLINE).await.is_empty(), "they are about to expire");
    assert!(sweep(ledger, 2).await.unserved.is_empty(), "no model was named");
    let message = "The model is gone.".to_owned();
    let end = End::Failed { reason: FailureReason::ModelRemoved, message };
    must(ledger.owner.settle(&super::sample::ended(&held, end.clone())).await);
    assert_eq!(found(100, 3).await, [waiting(&offered)]);
    let ended = must(ledger.reader.settlements(&[held.id]).await);
    assert_eq!(ended.into_iter().map(|settlement| settlement.end).collect::<Vec<_>>(), [end]);
}

/// Groups whose time is up are found when their verifier is dead, until they are closed.
pub async fn overdue_groups_of_dead_verifiers_are_found(ledger: &Halves) {
    let (left, kept) = (accept(ledger).await, accept(ledger).await);
    let (dead, alive) = (verifier(ledger, 1_000).await, verifier(ledger, 900_000).await);
    let settlement = |job: &NewJob, owner| Settlement { group: Some(group(owner)), ..succeeded(job) };
    let (orphan, cared_for) = (settlement(&left, &dead), settlement(&kept, &alive));
    for settlement in [&orphan, &cared_for] {
        assert_eq!(must(ledger.owner.settle(settlement).await), Settled::Now);
    }
    assert!(sweep(ledger, GROUP_DEADLINE - 1).await.groups.is_empty());
    let expected = |settlement: &Settlement, closed| {
        settlement.group.clone().map(|record| Group { settlement: settlement.clone(), record, closed })
    };
    let found = sweep(ledger, GROUP_DEADLINE).await.groups;
    assert_eq!(found.into_iter().map(Some).collect::<Vec<_>>(), [expected(&orphan, false)]);
    let posting = verdict(left.id, &NodeId::fresh(), Verdict::Missed, GROUP_DEADLINE);
    must(ledger.owner.post(left.id, &[posting], true).await);
    assert!(sweep(ledger, GROUP_DEADLINE + 1).await.groups.is_empty());
    let groups = must(ledger.sweeping.groups(&[left.id, kept.id, JobId::new()]).await);
    let groups: Vec<_> = groups.into_iter().map(Some).collect();
    assert_eq!(groups, [expected(&orphan, true), expected(&cared_for, false)]);
}

/// One unreadable row keeps no other waiting. Implementations with tables call this check themselves: `spoil` makes a
/// settled job's group unreadable behind the ledger's back.
pub async fn an_unreadable_group_keeps_no_other_waiting(ledger: &Halves, spoil: impl AsyncFnOnce(JobId)) {
    let [broken, sound, lost] = [accept(ledger).await, accept(ledger).await, accept(ledger).await];
    let dead = verifier(ledger, 1_000).await;
    for job in [&broken, &sound] {
        let settlement = Settlement { group: Some(group(&dead)), ..succeeded(job) };
        assert_eq!(must(ledger.owner.settle(&settlement).await), Settled::Now);
    }
    spoil(broken.id).await;
    let found = sweep(ledger, GROUP_DEADLINE).await;
    assert_eq!(found.hand_out, [(lost.id, model(), Lane::First)]);
    let groups: Vec<JobId> = found.groups.iter().map(|group| group.settlement.job_id).collect();
    assert_eq!(groups, [sound.id]);
    // A request for the unreadable group reports it.
    super::refused(&ledger.sweeping.groups(&[sound.id, broken.id]).await);
}

/// A sweep returns no more than asked for, oldest first, and skips nothing.
pub async fn a_sweep_is_bounded_and_begins_with_the_oldest(ledger: &Halves) {
    let account = AccountId::fresh();
    let mut jobs = Vec::new();
    for number in 0..9 {
        jobs.push(accept_at(ledger, &account, number).await.id);
    }
    let few = SweepQuestion { limit: 4, ..question() };
    for expected in [&jobs[..4], &jobs[4..8], &jobs[8..]] {
        let found = must(ledger.sweeping.sweep(&few, at(6_000)).await).hand_out;
        assert_eq!(found.into_iter().map(|(job, ..)| job).collect::<Vec<_>>(), expected);
    }
    let found = must(ledger.sweeping.sweep(&few, at(DEADLINE)).await);
    assert_eq!((found.hand_out.len(), found.expired.len()), (0, 4));
}
