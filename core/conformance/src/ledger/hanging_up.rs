//! Checks that a client that hung up is charged for the part of an answer that it had, as for an answer of that length.

use super::many::accept_all;
use super::sample::{ended, group, new_job, succeeded, take, taken, verifier};
use super::{Halves, at, must};
use infera_ledger::{
    BatchAccepted, Cancelled, Charge, EndKind, JobView, NewJob, Posting, PostingEntry, Settled, Verdict,
};
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, JobId, KeyId};
use infera_types::job::{Delivered, End, Settlement};
use infera_types::money::Price;

const PRICE: Price = Price { prompt: 100_000, completion: 200_000 };

/// Makes the end of a job whose client had this many tokens, which the first node of the group had told too.
fn hung_up(job: &NewJob, tokens: u32, group: Option<infera_types::job::GroupRecord>) -> Settlement {
    let told = group.iter().flat_map(|group| &group.assignments).take(1).map(|one| one.id);
    let delivered = Delivered { prompt_tokens: 11, tokens, agreed_tokens: tokens, agreed: told.collect() };
    Settlement { group, ..ended(job, End::Cancelled { delivered: Some(delivered) }) }
}

async fn view(ledger: &Halves, job: &NewJob) -> JobView {
    must(ledger.reader.job(&job.account, job.id).await).unwrap_or_else(|| unreachable!("the job is there"))
}

/// It is a cancellation that costs the prompt and the tokens that the client had, once, and is read back as it was.
pub async fn what_a_client_had_is_charged_when_it_hangs_up(ledger: &Halves) {
    let account = must(ledger.accounts.sign_up("hangs@example.org", None, at(0)).await).account;
    let key = KeyId::fresh();
    let charge = Charge { price: PRICE, prompt_tokens: 20, completion_tokens: 8 };
    let job = NewJob { key: Some(key.clone()), charge: Some(charge), ..new_job(&account) };
    must(ledger.intake.accept(job.clone()).await);
    let owner = verifier(ledger, 60_000).await;
    taken(take(ledger, &owner, job.id, false, 1).await);
    let settlement = hung_up(&job, 2, Some(group(&owner)));
    assert_eq!(must(ledger.owner.settle(&settlement).await), Settled::Now);
    // Neither a second try nor another end is charged.
    for late in [settlement.clone(), succeeded(&job), ended(&job, End::cancelled())] {
        assert_eq!(must(ledger.owner.settle(&late).await), Settled::Before(settlement.clone()));
    }
    let cancelled = must(ledger.intake.cancel(&account, job.id, at(2_000)).await);
    assert!(matches!(cancelled, Cancelled::Before(winner) if winner.end == settlement.end));
    assert_eq!(must(ledger.reader.settlements(&[job.id]).await), std::slice::from_ref(&settlement));
    let seen = view(ledger, &job).await.settlement;
    assert_eq!(
        seen.as_ref().map(|it| (&it.end, EndKind::of(&it.end))),
        Some((&settlement.end, EndKind::Cancelled))
    );

    let cost = 11 * 100 + 2 * 200;
    let spending = must(ledger.keys.spending(&account, at(0)).await).account;
    assert_eq!((spending.reserved, spending.spent), (0, cost));
    let usage = must(ledger.keys.usage(&account, 0, u64::MAX, 10).await);
    let usage: Vec<_> = usage
        .iter()
        .map(|row| (row.key.as_ref(), row.requests, row.prompt_tokens, row.completion_tokens, row.cost))
        .collect();
    assert_eq!(usage, [(Some(&key), 1, 11, 2, cost)]);
    let statistics = must(ledger.reader.statistics(at(2)).await);
    assert_eq!((statistics.cancelled, statistics.prompt_tokens, statistics.completion_tokens), (1, 11, 2));
    the_group_is_paid_when_it_closes(ledger, &settlement, &account).await;
}

/// Work that is paid and not VALID adds to the node's points and to nothing else.
async fn the_group_is_paid_when_it_closes(ledger: &Halves, settlement: &Settlement, account: &AccountId) {
    let job = settlement.job_id;
    let told = settlement.group.iter().flat_map(|group| &group.assignments).next();
    let told = told.unwrap_or_else(|| unreachable!("the group has nodes"));
    let posting = Posting {
        id: format!("verdict:{}", told.id),
        job_id: job,
        posted_ms: at(1_500),
        entry: PostingEntry::Verdict {
            node: told.node.clone(),
            model: settlement.model.clone(),
            verdict: Verdict::Inconclusive,
            millipoints: 700,
            elapsed_ms: 900,
            tokens: 2,
            on_time: true,
            numbers_outside: false,
            is_for_chosen_nodes: false,
        },
    };
    for _ in 0..2 {
        must(ledger.owner.post(job, std::slice::from_ref(&posting), true).await);
    }
    while must(ledger.standing.project(100, at(2_000)).await) > 0 {}
    let paid = must(ledger.standing.balance(told.node.as_str()).await);
    assert_eq!((paid.millipoints, paid.completion_tokens, paid.postings), (700, 0, 1));
    let owed = must(ledger.standing.balance(account.as_str()).await);
    assert_eq!((owed.prompt_tokens, owed.completion_tokens, owed.postings), (11, 2, 1));
    let mut replayed = must(ledger.standing.replay().await);
    replayed.retain(|(subject, _)| [told.node.as_str(), account.as_str()].contains(&subject.as_str()));
    replayed.sort_by_key(|(_, balance)| balance.millipoints);
    assert_eq!(replayed, [(account.as_str().to_owned(), owed), (told.node.as_str().to_owned(), paid)]);
}

/// The answers of one request are given up one by one, each with what the client had of it, and the prompt is charged once.
pub async fn each_answer_is_charged_when_a_client_of_several_hangs_up(ledger: &Halves) {
    let account = AccountId::fresh();
    let job =
        |(index, id): (u32, JobId)| NewJob { id, choice: Choice { index, count: 3 }, ..new_job(&account) };
    let jobs: Vec<NewJob> = (0..).zip(Choice::new_ids(3)).map(job).collect();
    assert!(matches!(accept_all(ledger, &jobs).await, BatchAccepted::Stored(_)));
    let had = [(1, 2), (0, 0)];
    for (place, tokens) in had {
        let settlement = hung_up(&jobs[place], tokens, None);
        assert_eq!(must(ledger.owner.settle(&settlement).await), Settled::Now);
        assert_eq!(view(ledger, &jobs[2]).await.settlement, None, "the others end for themselves");
    }
    must(ledger.intake.cancel(&account, jobs[2].id, at(3)).await);
    let ends = must(ledger.reader.settlements(&jobs.iter().map(|job| job.id).collect::<Vec<_>>()).await);
    let owed = ends.iter().filter_map(|settlement| settlement.end.owed()).count();
    assert_eq!((ends.len(), owed), (3, 2));
    let statistics = must(ledger.reader.statistics(at(4)).await);
    assert_eq!((statistics.cancelled, statistics.prompt_tokens, statistics.completion_tokens), (3, 11, 2));
}
