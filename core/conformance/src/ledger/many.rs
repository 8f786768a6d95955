//! Checks that several jobs are accepted and cancelled together.

use tokio::task::JoinSet;

use super::sample::{accept_at, ended, new_job, succeeded, taken, verifier};
use super::{Halves, at, must, refused};
use infera_ledger::{Accepted, BatchAccepted, BatchCancelled, EndKind, Idempotency, NewJob, Room};
use infera_types::ids::{AccountId, Digest, JobId, ModelName};
use infera_types::job::End;

fn key(name: &str, body: &str) -> Option<Idempotency> {
    Some(Idempotency { key: Digest::of(name.as_bytes()), fingerprint: Digest::of(body.as_bytes()) })
}

pub(super) fn new_jobs(account: &AccountId, count: usize) -> Vec<NewJob> {
    (0..count).map(|_| new_job(account)).collect()
}

pub(super) fn all_new(count: usize) -> BatchAccepted {
    BatchAccepted::Stored(vec![Accepted::New { is_held: false }; count])
}

pub(super) async fn accept_all(ledger: &Halves, jobs: &[NewJob]) -> BatchAccepted {
    must(ledger.batches.accept_all(jobs.to_vec()).await)
}

async fn known(ledger: &Halves, jobs: &[NewJob]) -> usize {
    let mut known = 0;
    for job in jobs {
        known += usize::from(must(ledger.reader.job(&job.account, job.id).await).is_some());
    }
    known
}

/// All jobs of a batch are stored and counted, or none is, whatever refuses one of them; the answer says how many fit.
pub async fn several_jobs_are_accepted_together_or_not_at_all(ledger: &Halves) {
    let account = AccountId::fresh();
    assert_eq!(accept_all(ledger, &[]).await, all_new(0));
    let jobs = new_jobs(&account, 40);
    assert_eq!(accept_all(ledger, &jobs).await, all_new(40));
    assert_eq!(known(ledger, &jobs).await, 40);
    assert_eq!(must(ledger.reader.statistics(at(1)).await).accepted, 40);

    let more: Vec<NewJob> =
        new_jobs(&account, 5).into_iter().map(|job| NewJob { waiting_max: 43, ..job }).collect();
    let refusal = BatchAccepted::NoPlace { fitting: 3, refusal: Accepted::Full { waiting: 43 } };
    assert_eq!(accept_all(ledger, &more).await, refusal);
    let bytes = more[0].request.len() as u64;
    let room = Room { account_max_bytes: 42 * bytes, all_max_bytes: u64::MAX };
    let larger: Vec<NewJob> =
        more.iter().map(|job| NewJob { room, waiting_max: 99, ..job.clone() }).collect();
    let refusal =
        BatchAccepted::NoPlace { fitting: 2, refusal: Accepted::NoRoomForAccount { stored: 42 * bytes } };
    assert_eq!(accept_all(ledger, &larger).await, refusal);
    let room = Room { account_max_bytes: u64::MAX, all_max_bytes: 40 * bytes };
    let larger: Vec<NewJob> = larger.iter().map(|job| NewJob { room, ..job.clone() }).collect();
    let refusal = BatchAccepted::NoPlace { fitting: 0, refusal: Accepted::NoRoom { stored: 40 * bytes } };
    assert_eq!(accept_all(ledger, &larger).await, refusal);
    // Nothing of what was refused is left behind: no row, no place, no byte, no count.
    assert_eq!(known(ledger, &more).await, 0);
    assert_eq!(must(ledger.reader.statistics(at(1)).await).accepted, 40);
    assert_eq!(accept_all(ledger, &more[..3]).await, all_new(3));
    let one = NewJob { waiting_max: 43, ..new_job(&account) };
    assert_eq!(must(ledger.intake.accept(one).await), Accepted::Full { waiting: 43 });
}

/// Each job of a batch sees the earlier ones, as it would if each were accepted alone.
pub async fn a_batch_is_decided_in_its_order(ledger: &Halves) {
    let (account, other) = (AccountId::fresh(), AccountId::fresh());
    let job = |idempotency| NewJob { idempotency, ..new_job(&account) };
    let earlier = job(key("earlier", "body"));
    assert_eq!(must(ledger.intake.accept(earlier.clone()).await), Accepted::New { is_held: false });
    let first = job(key("first", "body"));
    let stranger = NewJob { idempotency: key("first", "another body"), ..new_job(&other) };
    let batch = [
        job(key("earlier", "body")),
        first.clone(),
        job(None),
        job(key("first", "body")),
        first.clone(),
        stranger,
    ];
    let expected = vec![
        Accepted::Existing(earlier.id),
        Accepted::New { is_held: false },
        Accepted::New { is_held: false },
        Accepted::Existing(first.id),
        Accepted::Existing(first.id),
        Accepted::New { is_held: false },
    ];
    assert_eq!(accept_all(ledger, &batch).await, BatchAccepted::Stored(expected));

    let spoilt = [
        job(None),
        job(key("earlier", "another body")),
        job(key("new", "body")),
        job(key("new", "another body")),
        NewJob { waiting_max: 0, ..job(None) },
        job(key("first", "another body")),
    ];
    // Behind the first job without a place, nothing is asked any more.
    assert_eq!(accept_all(ledger, &spoilt).await, BatchAccepted::KeysReused(vec![1, 3]));
    assert_eq!(known(ledger, &spoilt).await, 0);
    let unused =
        must(ledger.reader.earlier_use(&account, &spoilt[2].idempotency.unwrap_or(IMPOSSIBLE)).await);
    assert_eq!(unused, None, "a key of a refused batch is not used");
}

const IMPOSSIBLE: Idempotency =
    Idempotency { key: Digest::from_bytes([0; 32]), fingerprint: Digest::from_bytes([0; 32]) };

/// After an unknown outcome the same batch is sent again: it is stored and counted once.
pub async fn a_batch_accepted_again_is_the_same_batch(ledger: &Halves) {
    let account = AccountId::fresh();
    let jobs: Vec<NewJob> = new_jobs(&account, 3)
        .into_iter()
        .enumerate()
        .map(|(number, job)| NewJob { waiting_max: 3, idempotency: key(&number.to_string(), "body"), ..job })
        .collect();
    assert_eq!(accept_all(ledger, &jobs).await, all_new(3));
    let again: Vec<Accepted> = jobs.iter().map(|job| Accepted::Existing(job.id)).collect();
    assert_eq!(accept_all(ledger, &jobs).await, BatchAccepted::Stored(again.clone()));
    // A client that sends it again has other ids and the same keys.
    let sent_again: Vec<NewJob> = jobs.iter().map(|job| NewJob { id: JobId::new(), ..job.clone() }).collect();
    assert_eq!(accept_all(ledger, &sent_again).await, BatchAccepted::Stored(again));
    assert_eq!(must(ledger.reader.statistics(at(1)).await).accepted, 3);
    let stolen: Vec<NewJob> = jobs
        .iter()
        .map(|job| NewJob { account: AccountId::fresh(), idempotency: None, ..job.clone() })
        .collect();
    refused(&ledger.batches.accept_all(stolen).await);
}

/// However batches and single jobs interleave, no more is accepted than there is room for.
pub async fn a_batch_counts_and_is_counted_among_many_callers(ledger: &Halves) {
    let account = AccountId::fresh();
    let mut callers = JoinSet::new();
    for number in 0..48 {
        let size = if number % 3 == 0 { 1 } else { 7 };
        let jobs =
            new_jobs(&account, size).into_iter().map(|job| NewJob { waiting_max: 100, ..job }).collect();
        let batches = ledger.batches.clone();
        callers.spawn(async move {
            match must(batches.accept_all(jobs).await) {
                BatchAccepted::Stored(stored) => stored.len(),
                _ => 0,
            }
        });
    }
    let stored: usize = callers.join_all().await.iter().sum();
    // Batches of seven may leave up to six places, if no single job came after the last of them.
    assert!((94..=100).contains(&stored), "{stored}");
    assert_eq!(must(ledger.reader.statistics(at(1)).await).queued, stored as u64);
    let place = NewJob { waiting_max: u32::try_from(stored).unwrap_or(0), ..new_job(&account) };
    assert!(matches!(must(ledger.intake.accept(place).await), Accepted::Full { .. }));
}

/// A job that cannot be stored refuses its batch, and no other that is accepted at the same moment.
pub async fn a_poison_job_refuses_its_batch_alone(ledger: &Halves) {
    let account = AccountId::fresh();
    let mut callers = JoinSet::new();
    for number in 0..10 {
        let mut jobs = new_jobs(&account, 4);
        match number {
            3 => jobs[2].model = ModelName::new("poi\0son"),
            6 => jobs[1].metadata = [("a\0b".to_owned(), "value".to_owned())].into_iter().collect(),
            _ => {}
        }
        let batches = ledger.batches.clone();
        callers.spawn(async move { (number, jobs.clone(), batches.accept_all(jobs).await) });
    }
    for (number, jobs, outcome) in callers.join_all().await {
        if number == 3 || number == 6 {
            refused(&outcome);
            assert_eq!(known(ledger, &jobs).await, 0);
        } else {
            assert_eq!(must(outcome), all_new(4));
        }
    }
    assert_eq!(must(ledger.reader.statistics(at(1)).await).queued, 32);
}

/// Several jobs are cancelled at once, in whatever state each of them is, and only those of the account.
pub async fn several_jobs_are_cancelled_together(ledger: &Halves) {
    let (account, other) = (AccountId::fresh(), AccountId::fresh());
    let jobs = new_jobs(&account, 5);
    assert_eq!(accept_all(ledger, &jobs).await, all_new(5));
    let strange = accept_at(ledger, &other, 0).await;
    let owner = verifier(ledger, 60_000).await;
    taken(super::sample::take(ledger, &owner, jobs[1].id, false, 1).await);
    must(ledger.owner.settle(&succeeded(&jobs[2])).await);
    must(ledger.owner.settle(&ended(&jobs[3], End::Expired)).await);
    let asked = [jobs[3].id, jobs[0].id, JobId::new(), jobs[1].id, strange.id, jobs[2].id, jobs[0].id];
    let outcomes = must(ledger.batches.cancel_all(&account, &asked, at(9)).await);
    let cancelled = |outcome: &BatchCancelled, job: &NewJob| match outcome {
        BatchCancelled::Now(settlement) => {
            (settlement.job_id, &settlement.end, settlement.settled_ms) == (job.id, &End::cancelled(), at(9))
                && settlement.gateway == job.gateway
        }
        _ => false,
    };
    assert_eq!(outcomes[0], BatchCancelled::Before(EndKind::Expired));
    assert!(cancelled(&outcomes[1], &jobs[0]) && cancelled(&outcomes[3], &jobs[1]), "{outcomes:?}");
    assert_eq!([&outcomes[2], &outcomes[4]], [&BatchCancelled::Unknown; 2]);
    assert_eq!(outcomes[5], BatchCancelled::Before(EndKind::Succeeded));
    // The same job twice in one call is cancelled once.
    assert_ne!(outcomes[6], BatchCancelled::Unknown);
    let again = must(ledger.batches.cancel_all(&account, &[jobs[0].id, jobs[4].id], at(10)).await);
    assert_eq!(again[0], BatchCancelled::Before(EndKind::Cancelled));
    assert!(cancelled_at(&again[1], 10));
    assert!(must(ledger.batches.cancel_all(&account, &[], at(11)).await).is_empty());
    let statistics = must(ledger.reader.statistics(at(11)).await);
    assert_eq!((statistics.cancelled, statistics.expired, statistics.succeeded), (3, 1, 1));
    assert_eq!((statistics.queued, statistics.running), (1, 0));
}

fn cancelled_at(outcome: &BatchCancelled, now: u64) -> bool {
    matches!(outcome, BatchCancelled::Now(settlement) if settlement.settled_ms == at(now))
}
