//! Checks that the jobs of a request for several answers are one request: accepted, found again, charged and given up together.

use super::many::accept_all;
use super::sample::{ended, new_job, succeeded, take, taken, verifier};
use super::{Halves, at, must};
use infera_ledger::{
    Accepted, BatchAccepted, Charge, EndKind, Idempotency, JobState, JobView, NewJob, Settled,
};
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, Digest};
use infera_types::job::{End, FailureReason};
use infera_types::money::Price;

fn key() -> Idempotency {
    Idempotency { key: Digest::of(b"a key"), fingerprint: Digest::of(b"a body") }
}

/// Makes the jobs of a request for `count` answers, the first of them with the key.
fn request(account: &AccountId, count: u32) -> Vec<NewJob> {
    let job = |(index, id)| NewJob {
        id,
        choice: Choice { index, count },
        shows_tokens: index == 1,
        idempotency: (index == 0).then(key),
        ..new_job(account)
    };
    (0..).zip(Choice::new_ids(count)).map(job).collect()
}

fn existing(first: &NewJob, count: usize) -> BatchAccepted {
    BatchAccepted::Stored(vec![Accepted::Existing(first.id); count])
}

fn new(count: usize) -> BatchAccepted {
    BatchAccepted::Stored(vec![Accepted::New { is_held: false }; count])
}

async fn views(ledger: &Halves, jobs: &[NewJob]) -> Vec<JobView> {
    let mut views = Vec::new();
    for job in jobs {
        views.extend(must(ledger.reader.job(&job.account, job.id).await));
    }
    views
}

async fn kinds(ledger: &Halves, jobs: &[NewJob]) -> Vec<Option<EndKind>> {
    let kind = |view: JobView| view.settlement.map(|settlement| EndKind::of(&settlement.end));
    views(ledger, jobs).await.into_iter().map(kind).collect()
}

/// Each job knows which answer it is; under the same key the request is the same, and no further answer of it is made.
pub async fn several_answers_are_one_request(ledger: &Halves) {
    let account = AccountId::fresh();
    let jobs = request(&account, 3);
    assert_eq!(accept_all(ledger, &jobs).await, new(3));
    for (job, view) in jobs.iter().zip(views(ledger, &jobs).await) {
        assert_eq!((view.choice, view.shows_tokens), (job.choice, job.shows_tokens));
        assert_eq!(view.choice.first(view.id), jobs[0].id);
    }
    let owner = verifier(ledger, 60_000).await;
    let second = taken(take(ledger, &owner, jobs[1].id, false, 1).await);
    assert_eq!(second.choice, Choice { index: 1, count: 3 });
    // Sent again after an unknown outcome, each is itself.
    let again = jobs.iter().map(|job| Accepted::Existing(job.id)).collect();
    assert_eq!(accept_all(ledger, &jobs).await, BatchAccepted::Stored(again));
    // A client's own retry has other ids, in a batch with another request, too.
    let retry = request(&account, 3);
    assert_eq!(accept_all(ledger, &retry).await, existing(&jobs[0], 3));
    let other = NewJob { idempotency: None, ..new_job(&account) };
    let together: Vec<NewJob> = retry.iter().chain([&other]).cloned().collect();
    let mut expected = vec![Accepted::Existing(jobs[0].id); 3];
    expected.push(Accepted::New { is_held: false });
    assert_eq!(accept_all(ledger, &together).await, BatchAccepted::Stored(expected));
    assert_eq!(must(ledger.reader.statistics(at(2)).await).accepted, 4);
    assert_eq!(views(ledger, &retry).await, []);
    // Where not all fit, none is stored.
    let full: Vec<NewJob> =
        request(&AccountId::fresh(), 3).into_iter().map(|job| NewJob { waiting_max: 2, ..job }).collect();
    let refusal = BatchAccepted::NoPlace { fitting: 2, refusal: Accepted::Full { waiting: 2 } };
    assert_eq!(accept_all(ledger, &full).await, refusal);
    assert_eq!(views(ledger, &full).await, []);
}

/// The prompt is charged with the first answer, and counted with it.
pub async fn the_prompt_of_several_answers_is_charged_once(ledger: &Halves) {
    let account = must(ledger.accounts.sign_up("several@example.org", None, at(0)).await).account;
    let price = Price { prompt: 100_000, completion: 200_000 };
    let charge = |prompt_tokens| Some(Charge { price, prompt_tokens, completion_tokens: 8 });
    let jobs: Vec<NewJob> = request(&account, 3)
        .into_iter()
        .map(|job| NewJob { charge: charge(if job.choice.index == 0 { 20 } else { 0 }), ..job })
        .collect();
    assert_eq!(accept_all(ledger, &jobs).await, new(3));
    let spending = must(ledger.keys.spending(&account, at(0)).await).account;
    assert_eq!((spending.reserved, spending.spent), (20 * 100 + 3 * 8 * 200, 0));
    for job in jobs.iter().rev() {
        assert_eq!(must(ledger.owner.settle(&succeeded(job)).await), Settled::Now);
    }
    let spending = must(ledger.keys.spending(&account, at(0)).await).account;
    assert_eq!((spending.reserved, spending.spent), (0, 11 * 100 + 3 * 3 * 200));
    let statistics = must(ledger.reader.statistics(at(2)).await);
    assert_eq!((statistics.prompt_tokens, statistics.completion_tokens), (11, 9));
    must(ledger.standing.project(100, at(2)).await);
    let balance = must(ledger.standing.balance(account.as_str()).await);
    assert_eq!((balance.prompt_tokens, balance.completion_tokens), (11, 9));
    assert_eq!(kinds(ledger, &jobs).await, [Some(EndKind::Succeeded); 3]);
}

/// One failure fails the request: the others are cancelled, what has ended stays, and the key is free if the failure frees it.
pub async fn a_failed_answer_gives_up_the_others(ledger: &Halves) {
    let failed = |reason| End::Failed { reason, message: String::new() };
    for (end, is_free) in [
        (End::Expired, true),
        (failed(FailureReason::NoConsensus), true),
        (failed(FailureReason::InvalidMessages), false),
        (End::cancelled(), false),
    ] {
        let account = AccountId::fresh();
        let jobs = request(&account, 4);
        assert_eq!(accept_all(ledger, &jobs).await, new(4));
        let owner = verifier(ledger, 60_000).await;
        taken(take(ledger, &owner, jobs[3].id, false, 1).await);
        must(ledger.owner.settle(&succeeded(&jobs[0])).await);
        assert_eq!(must(ledger.owner.settle(&ended(&jobs[2], end.clone())).await), Settled::Now);
        let (cancelled, kind) = (Some(EndKind::Cancelled), Some(EndKind::of(&end)));
        assert_eq!(kinds(ledger, &jobs).await, [Some(EndKind::Succeeded), cancelled, kind, cancelled]);
        let late = must(ledger.owner.settle(&succeeded(&jobs[3])).await);
        assert!(matches!(late, Settled::Before(_)), "{late:?}");
        let earlier = must(ledger.reader.earlier_use(&account, &key()).await);
        assert_eq!(earlier, (!is_free).then_some(Accepted::Existing(jobs[0].id)), "{end:?}");
    }
}

/// Whichever of its jobs a request is cancelled by, all are that have not ended.
pub async fn several_answers_are_cancelled_together(ledger: &Halves) {
    let account = AccountId::fresh();
    let (one, other) = (request(&account, 3), request(&account, 2));
    let other: Vec<NewJob> = other.into_iter().map(|job| NewJob { idempotency: None, ..job }).collect();
    assert_eq!(accept_all(ledger, &one).await, new(3));
    assert_eq!(accept_all(ledger, &other).await, new(2));
    let alone = new_job(&account);
    assert_eq!(accept_all(ledger, std::slice::from_ref(&alone)).await, new(1));
    must(ledger.intake.cancel(&account, one[1].id, at(3)).await);
    assert_eq!(kinds(ledger, &one).await, [Some(EndKind::Cancelled); 3]);
    must(ledger.batches.cancel_all(&account, &[other[1].id], at(3)).await);
    assert_eq!(kinds(ledger, &other).await, [Some(EndKind::Cancelled); 2]);
    let alone = must(ledger.reader.job(&account, alone.id).await);
    assert_eq!(alone.map(|view| view.state), Some(JobState::Queued));
    assert_eq!(must(ledger.reader.statistics(at(4)).await).cancelled, 5);
}
