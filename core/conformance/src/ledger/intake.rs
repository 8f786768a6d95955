//! Checks that jobs are accepted and cancelled.

use tokio::task::JoinSet;

use super::sample::{NEW, accept, accept_at, ended, new_job, succeeded};
use super::{Halves, at, must, refused};
use infera_ledger::{Accepted, Cancelled, Idempotency, JobState, JobView, NewJob, Settled};
use infera_types::ids::{AccountId, Digest, JobId, ModelName};
use infera_types::job::{End, FailureReason};
use infera_types::service::ServiceTier;

/// An accepted job is queued, and other accounts cannot find out that it exists.
pub async fn an_accepted_job_waits_and_only_its_account_sees_it(ledger: &Halves) {
    let job = accept(ledger).await;
    let expected = JobView {
        id: job.id,
        choice: job.choice,
        shows_tokens: false,
        model: job.model.clone(),
        tier: ServiceTier::Default,
        state: JobState::Queued,
        accepted_ms: job.accepted_ms,
        deadline_ms: job.deadline_ms,
        settlement: None,
        dispute: None,
        price: None,
        metadata: job.metadata.clone(),
        kept: infera_ledger::Kept::WHOLE,
    };
    assert_eq!(must(ledger.reader.job(&job.account, job.id).await), Some(expected));
    assert_eq!(must(ledger.reader.job(&AccountId::fresh(), job.id).await), None);
    assert_eq!(must(ledger.reader.job(&job.account, JobId::new()).await), None);
}

/// The same key with the same request is the same job, and with another request an error; each account has its own
/// keys.
pub async fn an_idempotency_key_makes_one_job(ledger: &Halves) {
    let idempotency = Idempotency { key: Digest::of(b"key"), fingerprint: Digest::of(b"body") };
    let with = |account: &AccountId, idempotency| NewJob {
        idempotency: Some(idempotency),
        waiting_max: 1,
        ..new_job(account)
    };
    let (account, other) = (AccountId::fresh(), AccountId::fresh());
    let first = with(&account, idempotency);
    assert_eq!(must(ledger.reader.earlier_use(&account, &idempotency).await), None);
    assert_eq!(must(ledger.intake.accept(first.clone()).await), NEW);
    // The account is full by now; a job that was accepted before is returned nevertheless.
    let again = must(ledger.intake.accept(with(&account, idempotency)).await);
    assert_eq!(again, Accepted::Existing(first.id));
    let changed = Idempotency { fingerprint: Digest::of(b"another body"), ..idempotency };
    assert_eq!(must(ledger.intake.accept(with(&account, changed)).await), Accepted::KeyReused);
    for (used, expected) in [(idempotency, Accepted::Existing(first.id)), (changed, Accepted::KeyReused)] {
        assert_eq!(must(ledger.reader.earlier_use(&account, &used).await), Some(expected));
    }
    assert_eq!(must(ledger.reader.earlier_use(&other, &idempotency).await), None);
    assert_eq!(must(ledger.intake.accept(with(&other, idempotency)).await), NEW);
    // It stays so after the end.
    must(ledger.owner.settle(&succeeded(&first)).await);
    let late = must(ledger.intake.accept(with(&account, idempotency)).await);
    assert_eq!(late, Accepted::Existing(first.id));
}

/// An end that keeps its key is returned when the request is repeated; an end that frees its key lets the request
/// count as new.
pub async fn an_end_that_answers_nobody_frees_its_key(ledger: &Halves) {
    let failed = |reason| End::Failed { reason, message: "as the check wants".to_owned() };
    let ends = FailureReason::ALL.iter().copied().map(failed).chain([End::Expired, End::cancelled()]);
    for (number, end) in ends.enumerate() {
        let account = AccountId::fresh();
        let key = Digest::of(&number.to_le_bytes());
        let idempotency = Idempotency { key, fingerprint: Digest::of(b"body") };
        let job = || NewJob { idempotency: Some(idempotency), ..new_job(&account) };
        let (first, second) = (job(), job());
        assert_eq!(must(ledger.intake.accept(first.clone()).await), NEW);
        if end == End::cancelled() {
            must(ledger.intake.cancel(&account, first.id, at(5)).await);
        } else {
            must(ledger.owner.settle(&ended(&first, end.clone())).await);
        }
        let used = must(ledger.reader.earlier_use(&account, &idempotency).await);
        let again = must(ledger.intake.accept(second.clone()).await);
        if end.frees_key() {
            assert_eq!((used, again), (None, NEW), "{end:?}");
            // An end that comes twice must not free the key of the next job.
            must(ledger.owner.settle(&ended(&first, end.clone())).await);
            let third = must(ledger.intake.accept(job()).await);
            assert_eq!(third, Accepted::Existing(second.id), "{end:?}");
        } else {
            let earlier = Accepted::Existing(first.id);
            assert_eq!((used, again), (Some(earlier.clone()), earlier), "{end:?}");
        }
    }
}

/// A job that is accepted again under its id is stored and counted once.
pub async fn a_job_accepted_again_is_the_same_job(ledger: &Halves) {
    let job = NewJob { waiting_max: 1, ..new_job(&AccountId::fresh()) };
    assert_eq!(must(ledger.intake.accept(job.clone()).await), NEW);
    assert_eq!(must(ledger.intake.accept(job.clone()).await), Accepted::Existing(job.id));
    assert_eq!(must(ledger.reader.statistics(at(1)).await).accepted, 1);
    refused(&ledger.intake.accept(NewJob { account: AccountId::fresh(), ..job }).await);
}

/// If nothing failed, commits succeed, before the first one and after.
pub async fn commits_come_through(ledger: &Halves) {
    must(ledger.intake.commits_come_through().await);
    accept(ledger).await;
    refused(
        &ledger.intake.accept(NewJob { model: ModelName::new("a\0b"), ..new_job(&AccountId::fresh()) }).await,
    );
    must(ledger.intake.commits_come_through().await);
}

/// The limit applies to each account separately, and every kind of end makes room.
pub async fn an_account_has_no_more_waiting_jobs_than_it_may(ledger: &Halves) {
    let account = AccountId::fresh();
    let job = || NewJob { waiting_max: 2, ..new_job(&account) };
    let (first, second) = (job(), job());
    assert_eq!(must(ledger.intake.accept(first.clone()).await), NEW);
    assert_eq!(must(ledger.intake.accept(second.clone()).await), NEW);
    let full = Accepted::Full { waiting: 2 };
    assert_eq!(must(ledger.intake.accept(job()).await), full);
    accept(ledger).await;
    must(ledger.intake.cancel(&account, first.id, at(5)).await);
    assert_eq!(must(ledger.intake.accept(job()).await), NEW);
    assert_eq!(must(ledger.intake.accept(job()).await), full);
    assert_eq!(must(ledger.owner.settle(&succeeded(&second)).await), Settled::Now);
    assert!(matches!(must(ledger.owner.settle(&succeeded(&second)).await), Settled::Before(_)));
    assert_eq!(must(ledger.intake.accept(job()).await), NEW);
    assert_eq!(must(ledger.intake.accept(job()).await), full);
    let none = NewJob { waiting_max: 0, ..new_job(&AccountId::fresh()) };
    assert_eq!(must(ledger.intake.accept(none).await), Accepted::Full { waiting: 0 });
}

/// However callers interleave, exactly as many jobs are accepted as there is room for.
pub async fn waiting_jobs_are_counted_right_among_many_callers(ledger: &Halves) {
    let account = AccountId::fresh();
    for round in 1..=3 {
        let mut callers = JoinSet::new();
        for _ in 0..64 {
            let job = NewJob { waiting_max: 20 * round, ..new_job(&account) };
            let intake = ledger.intake.clone();
            callers.spawn(async move { must(intake.accept(job).await) });
        }
        let answers = callers.join_all().await;
        assert_eq!(answers.iter().filter(|answer| **answer == NEW).count(), 20, "round {round}");
    }
}

/// A job that cannot be stored is refused alone, however many are accepted at the same moment.
pub async fn a_poison_job_harms_no_neighbour(ledger: &Halves) {
    let account = AccountId::fresh();
    let mut callers = JoinSet::new();
    for number in 0..40 {
        let mut job = new_job(&account);
        if number == 20 {
            job.model = ModelName::new("poi\0son");
        }
        let intake = ledger.intake.clone();
        callers.spawn(async move { (job.clone(), intake.accept(job).await) });
    }
    let mut stored = 0;
    for (job, outcome) in callers.join_all().await {
        if job.model.as_str().contains('\0') {
            refused(&outcome);
            assert_eq!(must(ledger.reader.job(&account, job.id).await), None);
        } else {
            assert_eq!(must(outcome), NEW);
            stored += u64::from(must(ledger.reader.job(&account, job.id).await).is_some());
        }
    }
    assert_eq!(stored, 39);
    assert_eq!(must(ledger.reader.statistics(at(1)).await).queued, 39);
    // The refused job does not count as waiting either.
    let next = NewJob { waiting_max: 40, ..new_job(&account) };
    assert_eq!(must(ledger.intake.accept(next).await), NEW);
}

/// Cancelling ends a job once; afterwards, and for other accounts, it changes nothing.
pub async fn a_job_is_cancelled_once_and_by_its_account(ledger: &Halves) {
    let job = accept_at(ledger, &AccountId::fresh(), 0).await;
    let stranger = AccountId::fresh();
    assert_eq!(must(ledger.intake.cancel(&stranger, job.id, at(3)).await), Cancelled::Unknown);
    assert_eq!(must(ledger.intake.cancel(&job.account, JobId::new(), at(3)).await), Cancelled::Unknown);
    let cancelled = must(ledger.intake.cancel(&job.account, job.id, at(4)).await);
    let Cancelled::Now(settlement) = cancelled else { unreachable!("not cancelled: {cancelled:?}") };
    assert_eq!((&settlement.end, settlement.settled_ms), (&End::cancelled(), at(4)));
    assert_eq!(settlement.gateway, job.gateway);
    let again = must(ledger.intake.cancel(&job.account, job.id, at(5)).await);
    assert_eq!(again, Cancelled::Before(settlement.clone()));
    let view = must(ledger.reader.job(&job.account, job.id).await);
    assert_eq!(view.map(|view| (view.state, view.settlement)), Some((JobState::Ended, Some(settlement))));
}
