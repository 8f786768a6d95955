//! Checks which jobs are held, how they are found, and that they are offered once.

use std::time::Duration;

use super::sample::{DEADLINE, NEW, accept_at, ended, model, new_job, succeeded, take, taken, verifier};
use super::{Halves, at, must};
use infera_ledger::{
    Accepted, Flow, FlowKey, HeldQuestion, NewJob, Share, Standby, SweepQuestion, Turn, WaitingJobs,
};
use infera_types::ids::{AccountId, JobId, ModelName};
use infera_types::job::{End, FailureReason, Settlement, VerificationPolicy};
use infera_types::service::{Lane, ServiceTier};

const HELD: Accepted = Accepted::New { is_held: true };

/// Makes a job of `account` under `share` that may be offered beside `offered_max - 1` others.
fn of_share(account: &AccountId, share: &str, offered_max: u32) -> NewJob {
    let standby = Standby { share: Share::new(share), offered_max, ..Standby::never_held(account) };
    NewJob { standby, ..new_job(account) }
}

/// Makes a job of `account` that is collected later.
fn later(account: &AccountId) -> NewJob {
    let standby = Standby { lane: Lane::Later, prompt_tokens: 5, ..Standby::never_held(account) };
    NewJob { standby, ..new_job(account) }
}

/// Accepts a job that must be held.
async fn hold(ledger: &Halves, job: NewJob) -> NewJob {
    assert_eq!(must(ledger.intake.accept(job.clone()).await), HELD);
    job
}

async fn offer(ledger: &Halves, job: &NewJob, now: u64) -> Vec<JobId> {
    must(ledger.feeding.offer(&[Turn { id: job.id, charged_tokens: 20 }], at(now)).await)
}

fn question(lane: Lane) -> HeldQuestion {
    HeldQuestion { model: model(), lane, after: None, flows_max: 100, jobs_max: 100 }
}

async fn held(ledger: &Halves, lane: Lane) -> Vec<Flow> {
    must(ledger.feeding.held(&question(lane), at(1)).await)
}

/// Returns the jobs that a sweep at `now` hands out, with every queue said to be empty and `dead` notices.
async fn handed(ledger: &Halves, dead: &[JobId], now: u64) -> Vec<(JobId, Lane)> {
    let asked = SweepQuestion {
        empty_queues: Lane::ALL.iter().map(|lane| (model(), *lane)).collect(),
        dead: dead.to_vec(),
        unserved: Vec::new(),
        unconfirmed_for: Duration::from_secs(5),
        limit: 100,
    };
    let found = must(ledger.sweeping.sweep(&asked, at(now)).await);
    found.hand_out.into_iter().map(|(job, _, lane)| (job, lane)).collect()
}

/// A share has as many jobs in a model's first queue as it may, whichever accounts it is made of; the next is held until
/// one of them is taken. Jobs that are collected later are always held. A job that is accepted again is the same job.
pub async fn a_share_fills_its_places_and_the_rest_is_held(ledger: &Halves) {
    let (account, other) = (AccountId::fresh(), AccountId::fresh());
    let first = of_share(&account, "net:192.0.2.0/24", 2);
    let accept = async |job: NewJob| must(ledger.intake.accept(job).await);
    assert_eq!(accept(first.clone()).await, NEW);
    assert_eq!(accept(of_share(&other, "net:192.0.2.0/24", 2)).await, NEW);
    let waits = of_share(&account, "net:192.0.2.0/24", 2);
    assert_eq!(accept(waits.clone()).await, HELD);
    assert_eq!(accept(waits.clone()).await, Accepted::Existing(waits.id));
    assert_eq!(accept(of_share(&account, "net:192.0.2.0/24", 3)).await, NEW);
    assert_eq!(accept(of_share(&account, "net:192.0.3.0/24", 1)).await, NEW);
    let elsewhere =
        NewJob { model: ModelName::new("other-model"), ..of_share(&other, "net:192.0.2.0/24", 1) };
    assert_eq!(accept(elsewhere).await, NEW);
    assert_eq!(accept(later(&AccountId::fresh())).await, HELD);
    assert_eq!(accept(of_share(&AccountId::fresh(), "empty", 0)).await, HELD);
    let owner = verifier(ledger, 60_000).await;
    taken(take(ledger, &owner, first.id, false, 1).await);
    assert_eq!(accept(of_share(&other, "net:192.0.2.0/24", 3)).await, NEW, "one of them was taken");
    assert_eq!(accept(of_share(&other, "net:192.0.2.0/24", 3)).await, HELD);
}

/// Held jobs have no notice, so a sweep finds none that was lost.
pub async fn held_jobs_are_handed_out_by_no_sweep(ledger: &Halves) {
    let account = AccountId::fresh();
    let jobs = [hold(ledger, later(&account)).await, hold(ledger, of_share(&account, "share", 0)).await];
    must(ledger.intake.confirm(&[jobs[0].id], at(1)).await);
    for now in [2, 6_000, DEADLINE - 1] {
        assert_eq!(handed(ledger, &jobs.each_ref().map(|job| job.id), now).await, []);
    }
    for (lane, job) in [(Lane::Later, &jobs[0]), (Lane::First, &jobs[1])] {
        let flows = held(ledger, lane).await;
        assert_eq!(flows.len(), 1, "{lane:?}");
        assert_eq!(flows[0].jobs.iter().map(|held| held.id).collect::<Vec<_>>(), [job.id]);
    }
    let policy = VerificationPolicy { quorum: 1, replicas: 1 };
    let alone = hold(ledger, NewJob { policy, synchronous: false, ..later(&AccountId::fresh()) }).await;
    let flows = held(ledger, Lane::Later).await;
    let told = flows.iter().flat_map(|flow| &flow.jobs).map(|held| (held.id, held.replicas, held.is_awaited));
    let told: Vec<_> = told.collect();
    assert!(told.contains(&(alone.id, 1, false)) && told.contains(&(jobs[0].id, 3, true)), "{told:?}");
}

/// A held job is offered once. From then on it is handed out again, into its own queue, whenever its notice is lost, and
/// is never held again, whatever becomes of its owners.
pub async fn an_offered_job_is_like_any_other(ledger: &Halves) {
    let account = AccountId::fresh();
    let job = hold(ledger, later(&account)).await;
    let never_held = accept_at(ledger, &account, 0).await;
    must(ledger.intake.confirm(&[never_held.id], at(1)).await);
    let turns = [job.id, never_held.id, JobId::new()].map(|id| Turn { id, charged_tokens: 9 });
    assert_eq!(must(ledger.feeding.offer(&turns, at(10)).await), [job.id]);
    assert_eq!(offer(ledger, &job, 11).await, [], "it was held no more");
    assert_eq!(must(ledger.feeding.offer(&[], at(11)).await), []);
    assert_eq!(held(ledger, Lane::Later).await, []);
    let lost = [(never_held.id, Lane::First)];
    assert_eq!(handed(ledger, &[], 5_009).await, lost);
    must(ledger.sweeping.handed_out(&[never_held.id], at(5_009)).await);
    let mut found = handed(ledger, &[], 5_010).await;
    found.retain(|(id, _)| *id == job.id);
    assert_eq!(found, [(job.id, Lane::Later)], "nobody said that the broker has it");
    must(ledger.sweeping.handed_out(&[job.id], at(5_011)).await);

    let (dying, alive) = (verifier(ledger, 6_000).await, verifier(ledger, 90_000).await);
    assert_eq!(taken(take(ledger, &dying, job.id, false, 5_020).await).lane, Lane::Later);
    let mut orphaned = handed(ledger, &[], 6_000).await;
    orphaned.retain(|(id, _)| *id == job.id);
    assert_eq!(orphaned, [(job.id, Lane::Later)]);
    assert_eq!(held(ledger, Lane::Later).await, []);
    taken(take(ledger, &alive, job.id, false, 6_001).await);
    must(ledger.owner.release(&alive, &[job.id], at(6_002)).await);
    assert_eq!(held(ledger, Lane::Later).await, []);
    assert_eq!(offer(ledger, &job, 6_003).await, []);
}

/// Waiting jobs are counted by model and lane, in whole or up to a bound, until a verifier has them.
pub async fn what_waits_is_counted_by_model_and_lane(ledger: &Halves) {
    assert_eq!(must(ledger.feeding.waiting(u32::MAX).await), []);
    let account = AccountId::fresh();
    let first = accept_at(ledger, &account, 0).await;
    for number in 0..7 {
        accept_at(ledger, &account, number).await;
        hold(ledger, later(&account)).await;
    }
    let elsewhere = NewJob { model: ModelName::new("a-model"), ..of_share(&account, "share", 0) };
    hold(ledger, elsewhere.clone()).await;
    let kind =
        |model: &str, lane, offered, held| WaitingJobs { model: ModelName::new(model), lane, offered, held };
    let waiting = async |count_max| {
        let mut kinds = must(ledger.feeding.waiting(count_max).await);
        kinds.sort_by(|one, other| (&one.model, one.lane).cmp(&(&other.model, other.lane)));
        kinds
    };
    let all = [
        kind("a-model", Lane::First, 0, 1),
        kind("sample-model", Lane::First, 8, 0),
        kind("sample-model", Lane::Later, 0, 7),
    ];
    assert_eq!(waiting(u32::MAX).await, all);
    let cut = [
        kind("a-model", Lane::First, 0, 1),
        kind("sample-model", Lane::First, 3, 0),
        kind("sample-model", Lane::Later, 0, 3),
    ];
    assert_eq!(waiting(3).await, cut);
    let owner = verifier(ledger, 60_000).await;
    taken(take(ledger, &owner, first.id, false, 1).await);
    must(ledger.intake.cancel(&account, elsewhere.id, at(2)).await);
    assert_eq!(waiting(u32::MAX).await, [kind("sample-model", Lane::First, 7, 0), all[2].clone()]);
}

/// Flows come in the order of their keys, each with its oldest jobs; a question that begins behind the last flow of the
/// previous answer finds the rest.
pub async fn flows_are_found_in_order_and_none_is_skipped(ledger: &Halves) {
    let mut keys = Vec::new();
    let (one, other) = (AccountId::fresh(), AccountId::fresh());
    for (share, tier, account) in [
        ("b", ServiceTier::Flex, &one),
        ("b", ServiceTier::Priority, &one),
        ("a", ServiceTier::Default, &one),
        ("a", ServiceTier::Default, &other),
        ("B", ServiceTier::Default, &other),
    ] {
        for age in [3, 1, 2] {
            let job = of_share(account, share, 0);
            let standby = Standby { tier, weight: 4, prompt_tokens: 10 + age, ..job.standby };
            hold(ledger, NewJob { standby, accepted_ms: at(age), ..job }).await;
        }
        keys.push(FlowKey { share: Share::new(share), tier, account: account.clone() });
    }
    keys.sort();
    let ask = async |after: Option<&FlowKey>, flows_max| {
        let asked = HeldQuestion { after: after.cloned(), flows_max, jobs_max: 2, ..question(Lane::First) };
        must(ledger.feeding.held(&asked, at(4)).await)
    };
    let all = ask(None, 100).await;
    assert_eq!(all.iter().map(|flow| &flow.key).collect::<Vec<_>>(), keys.iter().collect::<Vec<_>>());
    for flow in &all {
        assert_eq!((flow.weight, flow.usual_answer_tokens, flow.excess_tokens), (4, None, 0));
        let prompts: Vec<u64> = flow.jobs.iter().map(|job| job.prompt_tokens).collect();
        assert_eq!(prompts, [11, 12], "the oldest, oldest first");
    }
    assert_eq!(ask(None, 2).await, all[..2]);
    assert_eq!(ask(Some(&keys[1]), 2).await, all[2..4]);
    assert_eq!(ask(Some(&keys[3]), 2).await, all[4..]);
    assert_eq!(ask(Some(&keys[4]), 2).await, []);
    assert_eq!(held(ledger, Lane::Later).await, [], "lanes are separate");
}

/// An account's flow says what its answers usually take and what they took beyond what was charged. Ends without an
/// answer change neither, and neither does an end that comes twice.
pub async fn a_flow_says_what_its_answers_take(ledger: &Halves) {
    let account = AccountId::fresh();
    let waits = hold(ledger, later(&account)).await;
    let said = async || {
        let flows = held(ledger, Lane::Later).await;
        let flow = flows.iter().find(|flow| flow.jobs.iter().any(|job| job.id == waits.id));
        flow.map(|flow| (flow.usual_answer_tokens, flow.excess_tokens))
    };
    let failed = End::Failed { reason: FailureReason::NoConsensus, message: "as the check wants".to_owned() };
    for end in [failed, End::Expired, End::cancelled()] {
        let job = hold(ledger, later(&account)).await;
        offer(ledger, &job, 1).await;
        must(ledger.owner.settle(&ended(&job, end)).await);
    }
    assert_eq!(said().await, Some((None, 0)));
    // A sample answer takes 11 tokens of prompt and 3 of answer. A job that was never held is charged with nothing.
    let direct = accept_at(ledger, &account, 0).await;
    must(ledger.owner.settle(&succeeded(&direct)).await);
    must(ledger.owner.settle(&succeeded(&direct)).await);
    assert_eq!(said().await, Some((Some(3), 14)));
    let offered = hold(ledger, later(&account)).await;
    offer(ledger, &offered, 1).await;
    must(ledger.owner.settle(&succeeded(&offered)).await);
    assert_eq!(said().await, Some((Some(3), 14 + 14 - 20)));
    let long = accept_at(ledger, &account, 0).await;
    let mut settlement: Settlement = succeeded(&long);
    if let End::Succeeded { answer, .. } = &mut settlement.end {
        answer.tokens = vec![4; 83];
    }
    must(ledger.owner.settle(&settlement).await);
    assert_eq!(said().await, Some((Some(13), 8 + 11 + 83)), "an eighth of the way");
}

/// A held job whose time is up is expired and not offered first.
pub async fn jobs_about_to_expire_are_not_offered(ledger: &Halves) {
    let account = AccountId::fresh();
    let (old, young) = (later(&account), later(&account));
    let old = hold(ledger, NewJob { deadline_ms: at(100), ..old }).await;
    let young = hold(ledger, NewJob { accepted_ms: at(5), ..young }).await;
    let gone = AccountId::new("acct0");
    hold(ledger, NewJob { deadline_ms: at(100), ..later(&gone) }).await;
    let found = async |now| {
        let flows = must(ledger.feeding.held(&question(Lane::Later), at(now)).await);
        flows.into_iter().flat_map(|flow| flow.jobs).map(|job| job.id).collect::<Vec<_>>()
    };
    assert!(found(99).await.contains(&old.id));
    assert_eq!(found(100).await, [young.id]);
    // A flow of which nothing is left takes no place among those asked for.
    let asked = HeldQuestion { flows_max: 1, ..question(Lane::Later) };
    assert_eq!(must(ledger.feeding.held(&asked, at(100)).await).len(), 1);
    let expired = must(
        ledger
            .sweeping
            .sweep(
                &SweepQuestion {
                    empty_queues: Vec::new(),
                    dead: Vec::new(),
                    unserved: Vec::new(),
                    unconfirmed_for: Duration::from_secs(5),
                    limit: 100,
                },
                at(100),
            )
            .await,
    );
    assert_eq!(expired.expired.len(), 2, "held jobs expire like any other");
}

/// However many accounts a share has, it has one share's places in the queue, and all of its flows say that they are its.
pub async fn a_share_of_many_accounts_is_one_share(ledger: &Halves) {
    let mut outcomes = Vec::new();
    for _ in 0..40 {
        let job = of_share(&AccountId::fresh(), "net:192.0.2.0/24", 8);
        outcomes.push(must(ledger.intake.accept(job).await));
    }
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == NEW).count(), 8);
    let flows = held(ledger, Lane::First).await;
    assert_eq!(flows.len(), 32);
    assert!(flows.iter().all(|flow| flow.key.share.as_str() == "net:192.0.2.0/24" && flow.jobs.len() == 1));
}

/// A job's tier and lane are told to its account, to its verifier and to the archive.
pub async fn tiers_and_lanes_stay_with_the_job(ledger: &Halves) {
    let account = AccountId::fresh();
    let owner = verifier(ledger, 60_000).await;
    for (lane, tier) in [(Lane::Later, ServiceTier::Flex), (Lane::First, ServiceTier::Priority)] {
        let job = new_job(&account);
        let job = NewJob { standby: Standby { lane, tier, ..job.standby }, ..job };
        must(ledger.intake.accept(job.clone()).await);
        let view = must(ledger.reader.job(&account, job.id).await);
        assert_eq!(view.map(|view| view.tier), Some(tier));
        let taken = taken(take(ledger, &owner, job.id, false, 1).await);
        assert_eq!((taken.lane, taken.tier), (lane, tier));
        must(ledger.owner.settle(&succeeded(&job)).await);
        let claimed =
            must(ledger.index.claim(infera_types::ids::SegmentId::new(), 1, at(0), at(9_000)).await);
        assert_eq!(
            claimed.iter().map(|record| (record.job_id, record.tier)).collect::<Vec<_>>(),
            [(job.id, tier)]
        );
    }
}
