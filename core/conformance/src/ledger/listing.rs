//! Checks lists of jobs, and that their ends are read once, in order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use super::many::{accept_all, all_new, new_jobs};
use super::sample::{accept_at, ended, new_job, succeeded, taken, verifier};
use super::{Halves, at, must, refused};
use infera_ledger::{
    Accepted, EndKind, EndsCursor, EndsQuestion, EndsReady, JobFilter, JobPage, JobState, JobsQuestion,
    MANY_MAX, Metadata, NewJob, NumberedEnd,
};
use infera_types::ids::{AccountId, JobId, ModelName};
use infera_types::job::{End, FailureReason};

/// Makes 23 jobs of one account: every third for another model, every second with pairs, some of them ended or
/// running. Another account has one more.
async fn varied(ledger: &Halves) -> (AccountId, Vec<NewJob>) {
    let account = AccountId::fresh();
    let mut jobs = new_jobs(&account, 23);
    for (number, job) in (0_u64..).zip(&mut jobs) {
        job.accepted_ms = at(number * 10);
        if number.is_multiple_of(3) {
            job.model = ModelName::new("other-model");
        }
        if number.is_multiple_of(2) {
            job.metadata = pairs(&[("parity", "even"), ("number", &number.to_string())]);
        }
    }
    assert_eq!(accept_all(ledger, &jobs).await, all_new(23));
    accept_at(ledger, &AccountId::fresh(), 0).await;
    let failure = End::Failed { reason: FailureReason::NoConsensus, message: "no".to_owned() };
    must(ledger.owner.settle(&succeeded(&jobs[0])).await);
    must(ledger.owner.settle(&ended(&jobs[1], failure)).await);
    must(ledger.owner.settle(&ended(&jobs[2], End::Expired)).await);
    must(ledger.intake.cancel(&account, jobs[4].id, at(1_000)).await);
    let owner = verifier(ledger, 60_000).await;
    taken(super::sample::take(ledger, &owner, jobs[5].id, false, 1).await);
    (account, jobs)
}

/// A list has the account's jobs in the order of their ids, either way, page by page, through a filter or not.
pub async fn lists_show_an_accounts_jobs_in_order(ledger: &Halves) {
    let (account, jobs) = varied(ledger).await;
    let none = JobFilter::default();
    let in_state = |state| JobFilter { state: Some(state), ..JobFilter::default() };
    let with_end = |end| JobFilter { end: Some(end), ..JobFilter::default() };
    let filters: Vec<(JobFilter, Vec<usize>)> = vec![
        (none.clone(), (0..23).collect()),
        (in_state(JobState::Running), vec![5]),
        (in_state(JobState::Ended), vec![0, 1, 2, 4]),
        (in_state(JobState::Queued), (0..23).filter(|place| ![0, 1, 2, 4, 5].contains(place)).collect()),
        (with_end(EndKind::Succeeded), vec![0]),
        (with_end(EndKind::Failed), vec![1]),
        (with_end(EndKind::Expired), vec![2]),
        (with_end(EndKind::Cancelled), vec![4]),
        (
            JobFilter { model: Some(ModelName::new("other-model")), ..none.clone() },
            (0..23).filter(|place| place % 3 == 0).collect(),
        ),
        (JobFilter { since: Some(at(50)), until: Some(at(80)), ..none.clone() }, vec![5, 6, 7]),
        (JobFilter { metadata: pairs(&[("parity", "even"), ("number", "6")]), ..none.clone() }, vec![6]),
        (JobFilter { metadata: pairs(&[("parity", "odd")]), ..none }, vec![]),
    ];
    for (filter, places) in filters {
        let expected: Vec<JobId> = places.iter().map(|place| jobs[*place].id).collect();
        for (newest_first, limit) in [(false, 100), (true, 100), (false, 1), (true, 4), (false, 7)] {
            let question = JobsQuestion {
                account: account.clone(),
                filter: filter.clone(),
                after: None,
                newest_first,
                limit,
            };
            let mut expected = expected.clone();
            if newest_first {
                expected.reverse();
            }
            assert_eq!(pages(ledger, question).await, expected, "{filter:?} {newest_first} {limit}");
        }
    }
    let question = JobsQuestion {
        account: AccountId::fresh(),
        filter: JobFilter::default(),
        after: None,
        newest_first: true,
        limit: 1,
    };
    assert_eq!(must(ledger.lists.list(&question).await), JobPage::default());
}

/// Jobs are found by their ids, as they are now, and only those of the account.
pub async fn jobs_are_found_by_their_ids(ledger: &Halves) {
    let (account, jobs) = varied(ledger).await;
    let asked = [jobs[4].id, JobId::new(), jobs[6].id];
    let mut listed = must(ledger.lists.listed(&account, &asked).await);
    listed.sort_by_key(|job| job.id);
    assert_eq!(listed.len(), 2);
    let (ended, waiting) = (&listed[0], &listed[1]);
    assert_eq!(
        (ended.id, ended.end, ended.settled_ms),
        (jobs[4].id, Some(EndKind::Cancelled), Some(at(1_000)))
    );
    assert_eq!((waiting.state, waiting.end, waiting.settled_ms), (JobState::Queued, None, None));
    assert_eq!((&waiting.model, &waiting.metadata), (&jobs[6].model, &jobs[6].metadata));
    assert_eq!((waiting.accepted_ms, waiting.deadline_ms), (jobs[6].accepted_ms, jobs[6].deadline_ms));
    assert!(must(ledger.lists.listed(&AccountId::fresh(), &asked).await).is_empty());
}

fn pairs(pairs: &[(&str, &str)]) -> Metadata {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn pages(ledger: &Halves, mut question: JobsQuestion) -> Vec<JobId> {
    let mut all = Vec::new();
    loop {
        let page = must(ledger.lists.list(&question).await);
        assert!(page.jobs.len() <= question.limit as usize);
        all.extend(page.jobs.iter().map(|job| job.id));
        match page.next {
            Some(next) => question.after = Some(next),
            None => return all,
        }
    }
}

/// A job's pairs are read back as they were given, whatever they say.
pub async fn metadata_stays_with_the_job(ledger: &Halves) {
    let metadata = pairs(&[("a\"b", "c\\d"), ("\u{1}", ""), ("é", "\u{1f600}\n")]);
    let job = NewJob { metadata: metadata.clone(), ..new_job(&AccountId::fresh()) };
    assert_eq!(must(ledger.intake.accept(job.clone()).await), Accepted::New { is_held: false });
    let view = must(ledger.reader.job(&job.account, job.id).await);
    assert_eq!(view.map(|view| view.metadata), Some(metadata));
    let zero = NewJob { metadata: pairs(&[("a", "b\0")]), ..new_job(&job.account) };
    refused(&ledger.intake.accept(zero).await);
}

fn ends_after(account: &AccountId, after: u64, limit: u32) -> EndsQuestion {
    EndsQuestion { account: account.clone(), after, limit, bytes_max: u64::MAX }
}

/// While jobs end in many ways at once and the projector runs now and then, a reader that follows its cursor by pages
/// of any size gets every end once, and numbers that rise; a reader that begins later gets the same.
pub async fn ends_are_read_once_in_order_while_they_are_made(ledger: &Halves) {
    const JOBS: usize = 300;
    let account = AccountId::fresh();
    let jobs = new_jobs(&account, JOBS);
    assert_eq!(accept_all(ledger, &jobs).await, all_new(JOBS));
    let over = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for limit in [1, 7, 1_000] {
        let (ledger, account, over) = (ledger.clone(), account.clone(), Arc::clone(&over));
        readers.spawn(async move { follow(&ledger, &account, limit, &over).await });
    }
    let mut callers = JoinSet::new();
    for (number, job) in jobs.iter().enumerate() {
        let (ledger, job) = (ledger.clone(), job.clone());
        callers.spawn(async move { end_somehow(&ledger, &job, number).await });
    }
    callers.join_all().await;
    must(ledger.standing.project(1_000, at(2_000)).await);
    over.store(true, Ordering::Relaxed);
    let begins_late = follow(ledger, &account, 13, &over).await;
    for read in readers.join_all().await {
        assert_eq!(read, begins_late, "every reader sees the same order");
    }
    let read: BTreeSet<JobId> = begins_late.iter().copied().collect();
    assert_eq!(begins_late.len(), JOBS, "each once");
    assert_eq!(read, jobs.iter().map(|job| job.id).collect(), "every one");
}

/// Ends a job in one of several ways, some together with the next, and projects now and then.
async fn end_somehow(ledger: &Halves, job: &NewJob, number: usize) {
    match number % 4 {
        0 => {
            must(ledger.owner.settle(&succeeded(job)).await);
        }
        1 => {
            must(ledger.owner.settle(&ended(job, End::Expired)).await);
        }
        2 => {
            must(ledger.intake.cancel(&job.account, job.id, at(5)).await);
        }
        _ => {
            must(ledger.batches.cancel_all(&job.account, &[job.id], at(5)).await);
        }
    }
    // An end that comes twice is read once.
    must(ledger.owner.settle(&succeeded(job)).await);
    if number.is_multiple_of(10) {
        must(ledger.standing.project(50, at(2_000)).await);
    }
}

/// Reads an account's ends by pages until nothing is left once all have been made.
async fn follow(ledger: &Halves, account: &AccountId, limit: u32, over: &AtomicBool) -> Vec<JobId> {
    let (mut after, mut all) = (0, Vec::new());
    loop {
        let was_over = over.load(Ordering::Relaxed);
        let page = must(ledger.lists.ends(&ends_after(account, after, limit)).await);
        assert!(page.len() <= limit as usize);
        if page.is_empty() && was_over {
            return all;
        }
        for NumberedEnd { number, job, view } in page {
            assert!(number > after, "numbers rise");
            after = number;
            assert!(view.is_some_and(|view| view.id == job && view.settlement.is_some()));
            all.push(job);
        }
        tokio::task::yield_now().await;
    }
}

/// A page of ends is cut by bytes too, has at least one, shows whole answers, and other accounts see nothing of it.
pub async fn ends_are_bounded_in_bytes_and_belong_to_their_account(ledger: &Halves) {
    let (account, other) = (AccountId::fresh(), AccountId::fresh());
    let jobs = new_jobs(&account, 4);
    assert_eq!(accept_all(ledger, &jobs).await, all_new(4));
    let strange = accept_at(ledger, &other, 0).await;
    let mut settlements = Vec::new();
    for job in jobs.iter().chain([&strange]) {
        let mut settlement = succeeded(job);
        if let End::Succeeded { answer, .. } = &mut settlement.end {
            answer.text = "x".repeat(5_000);
        }
        must(ledger.owner.settle(&settlement).await);
        settlements.push(settlement);
    }
    must(ledger.standing.project(1_000, at(2_000)).await);
    let question = |bytes_max| EndsQuestion { bytes_max, ..ends_after(&account, 0, 10) };
    for (bytes_max, expected) in [(0, 1), (8_000, 1), (13_000, 2), (1_000_000, 4)] {
        assert_eq!(must(ledger.lists.ends(&question(bytes_max)).await).len(), expected, "{bytes_max}");
    }
    let all = must(ledger.lists.ends(&question(u64::MAX)).await);
    for (end, settlement) in all.iter().zip(&settlements) {
        assert_eq!(end.view.as_ref().and_then(|view| view.settlement.as_ref()), Some(settlement));
    }
    assert_eq!(must(ledger.lists.ends(&ends_after(&other, 0, 10)).await).len(), 1);
    assert!(must(ledger.lists.ends(&ends_after(&AccountId::fresh(), 0, 10)).await).is_empty());
}

/// What can be read behind a cursor is counted with the jobs that have not ended, for several cursors at once.
pub async fn what_can_be_read_is_counted(ledger: &Halves) {
    let (account, other) = (AccountId::fresh(), AccountId::fresh());
    let jobs = new_jobs(&account, 5);
    assert_eq!(accept_all(ledger, &jobs).await, all_new(5));
    let cursor = |account: &AccountId, after| EndsCursor { account: account.clone(), after };
    let ready = async |cursors: &[EndsCursor]| must(ledger.lists.ends_ready(cursors).await);
    let fresh = [cursor(&account, 0), cursor(&other, 0)];
    let nothing = EndsReady::default();
    assert_eq!(ready(&fresh).await, [EndsReady { live: 5, ..nothing }, nothing]);
    for job in &jobs[..3] {
        must(ledger.owner.settle(&succeeded(job)).await);
    }
    must(ledger.standing.project(1_000, at(2_000)).await);
    let numbers: Vec<u64> = must(ledger.lists.ends(&ends_after(&account, 0, MANY_MAX)).await)
        .iter()
        .map(|end| end.number)
        .collect();
    let latest = numbers[2];
    let cursors =
        [cursor(&account, numbers[0]), cursor(&other, 0), cursor(&account, latest), cursor(&account, 0)];
    let of = |ends| EndsReady { ends, latest, live: 2 };
    assert_eq!(ready(&cursors).await, [of(2), nothing, of(0), of(3)]);
    assert_eq!(ready(&[cursor(&account, u64::MAX)]).await, [of(0)]);
    assert!(ready(&[]).await.is_empty());
}
