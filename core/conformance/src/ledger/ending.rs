//! Checks that every job ends once, and that what is owed is posted once.

use tokio::task::JoinSet;

use super::sample::{accept, ended, group, new_job, succeeded, taken, verdict, verifier};
use super::{Halves, at, must, refused};
use infera_ledger::{Balance, Cancelled, NewJob, Settled, Verdict};
use infera_types::ids::{AccountId, NodeId};
use infera_types::job::{End, FailureReason, Settlement};

/// The loser reads the winner's end, and a settlement that is sent twice reads itself.
pub async fn the_first_end_stays(ledger: &Halves) {
    let job = accept(ledger).await;
    let owner = verifier(ledger, 1_000).await;
    taken(super::sample::take(ledger, &owner, job.id, false, 1).await);
    let first = Settlement { group: Some(group(&owner)), ..succeeded(&job) };
    assert_eq!(must(ledger.owner.settle(&first).await), Settled::Now);
    assert_eq!(must(ledger.owner.settle(&first).await), Settled::Before(first.clone()));
    let late = must(ledger.owner.settle(&ended(&job, End::Expired)).await);
    assert_eq!(late, Settled::Before(first.clone()));
    let cancelled = must(ledger.intake.cancel(&job.account, job.id, at(2_000)).await);
    assert!(matches!(cancelled, Cancelled::Before(winner) if winner.end == first.end));
    let unended = accept(ledger).await;
    assert_eq!(must(ledger.reader.settlements(&[unended.id, job.id]).await), [first]);
}

/// An answer is charged with its settlement; other ends, and losing settlements, are not charged.
pub async fn usage_is_posted_once_and_for_answers_only(ledger: &Halves) {
    let account = AccountId::fresh();
    let failure = End::Failed { reason: FailureReason::NoConsensus, message: "nobody can decide".to_owned() };
    for end in [failure, End::Expired, End::cancelled()] {
        let job = super::sample::accept_at(ledger, &account, 0).await;
        assert_eq!(must(ledger.owner.settle(&ended(&job, end)).await), Settled::Now);
        // Too late to be charged.
        must(ledger.owner.settle(&succeeded(&job)).await);
    }
    let job = super::sample::accept_at(ledger, &account, 0).await;
    for _ in 0..3 {
        must(ledger.owner.settle(&succeeded(&job)).await);
    }
    while must(ledger.standing.project(100, at(2_000)).await) > 0 {}
    let expected = Balance { millipoints: 0, prompt_tokens: 11, completion_tokens: 3, postings: 1 };
    assert_eq!(must(ledger.standing.balance(account.as_str()).await), expected);
    assert_eq!(must(ledger.standing.replay().await), [(account.as_str().to_owned(), expected)]);
}

/// Fifty calls cancel and settle at once: one wins, and all others are told the same end.
pub async fn one_of_many_ends_wins(ledger: &Halves) {
    for _ in 0..10 {
        let job = accept(ledger).await;
        let mut callers = JoinSet::new();
        for number in 0..50 {
            let (ledger, job) = (ledger.clone(), job.clone());
            callers.spawn(async move { end_somehow(&ledger, &job, number).await });
        }
        let ends = callers.join_all().await;
        assert_eq!(ends.iter().filter(|(won, _)| *won).count(), 1);
        let stored = must(ledger.reader.settlements(&[job.id]).await);
        assert_eq!(stored.len(), 1);
        assert!(ends.iter().all(|(_, end)| *end == stored[0].end));
        while must(ledger.standing.project(100, at(2_000)).await) > 0 {}
        let charged = must(ledger.standing.balance(job.account.as_str()).await).postings;
        assert_eq!(charged, u64::from(stored[0].end.word() == "succeeded"));
    }
}

/// Returns whether this caller won, and the end that it was told.
async fn end_somehow(ledger: &Halves, job: &NewJob, number: u32) -> (bool, End) {
    let settlement = match number % 3 {
        0 => {
            return match must(ledger.intake.cancel(&job.account, job.id, at(1_000)).await) {
                Cancelled::Now(settlement) => (true, settlement.end),
                Cancelled::Before(settlement) => (false, settlement.end),
                Cancelled::Unknown => unreachable!("the job is there"),
            };
        }
        1 => succeeded(job),
        _ => ended(job, End::Expired),
    };
    match must(ledger.owner.settle(&settlement).await) {
        Settled::Now => (true, settlement.end),
        Settled::Before(winner) => (false, winner.end),
    }
}

/// A settlement without its job, or for another account, is refused and stores nothing.
pub async fn a_job_that_was_never_accepted_cannot_end(ledger: &Halves) {
    let job = new_job(&AccountId::fresh());
    refused(&ledger.owner.settle(&succeeded(&job)).await);
    let job = accept(ledger).await;
    let stolen = Settlement { account: AccountId::fresh(), ..succeeded(&job) };
    refused(&ledger.owner.settle(&stolen).await);
    assert!(must(ledger.reader.settlements(&[job.id]).await).is_empty());
    assert!(must(ledger.standing.replay().await).is_empty());
    assert_eq!(must(ledger.owner.settle(&succeeded(&job)).await), Settled::Now);
}

/// Any text that a model writes is stored and read back unchanged.
pub async fn any_text_survives_in_an_answer(ledger: &Halves) {
    for text in ["", "a\0b", "\u{1}\"\\\u{fffd}\u{1f600}", "line\nline\r\n\t"] {
        let job = accept(ledger).await;
        let mut settlement = succeeded(&job);
        if let End::Succeeded { answer, .. } = &mut settlement.end {
            text.clone_into(&mut answer.text);
        }
        assert_eq!(must(ledger.owner.settle(&settlement).await), Settled::Now);
        assert_eq!(must(ledger.reader.settlements(&[job.id]).await), [settlement]);
    }
}

/// A posting's id is unique for ever; a repeated posting is skipped and the rest is stored.
pub async fn postings_are_posted_once(ledger: &Halves) {
    let job = accept(ledger).await;
    must(ledger.owner.settle(&succeeded(&job)).await);
    let node = NodeId::fresh();
    let (first, second) =
        (verdict(job.id, &node, Verdict::Valid, 1), verdict(job.id, &node, Verdict::Missed, 2));
    must(ledger.owner.post(job.id, std::slice::from_ref(&first), false).await);
    must(ledger.owner.post(job.id, &[first, second.clone()], true).await);
    must(ledger.owner.post(job.id, &[second], true).await);
    while must(ledger.standing.project(1, at(10)).await) > 0 {}
    let expected = Balance { millipoints: 500, prompt_tokens: 0, completion_tokens: 3, postings: 2 };
    assert_eq!(must(ledger.standing.balance(node.as_str()).await), expected);
}

/// If several verifiers owned the same job and asked the same nodes, each node is paid once, whichever verifier comes
/// first and in whatever order; other verdicts on the same nodes stay.
pub async fn a_node_has_one_valid_for_a_job(ledger: &Halves) {
    const JOBS: u32 = 20;
    let nodes = [NodeId::fresh(), NodeId::fresh(), NodeId::fresh()];
    let mut callers = JoinSet::new();
    for _ in 0..JOBS {
        let job = accept(ledger).await;
        must(ledger.owner.settle(&succeeded(&job)).await);
        for verifier in 0..3 {
            let mut postings = nodes.each_ref().map(|node| verdict(job.id, node, Verdict::Valid, verifier));
            postings.rotate_left(usize::try_from(verifier).unwrap_or(0));
            let (owner, missed) =
                (ledger.owner.clone(), verdict(job.id, &nodes[0], Verdict::Missed, verifier));
            callers.spawn(async move {
                must(owner.post(job.id, &postings, verifier == 0).await);
                must(owner.post(job.id, &[missed], false).await);
            });
        }
    }
    callers.join_all().await;
    while must(ledger.standing.project(1_000, at(10)).await) > 0 {}
    for (node, missed) in nodes.iter().zip([3, 0, 0]) {
        let balance = must(ledger.standing.balance(node.as_str()).await);
        assert_eq!(balance.millipoints, 500 * i64::from(JOBS));
        assert_eq!(balance.postings, u64::from(JOBS) * (1 + missed));
    }
}

/// Postings and settlements that share a commit with one that cannot be stored are stored.
pub async fn a_poison_posting_harms_no_neighbour(ledger: &Halves) {
    let mut callers = JoinSet::new();
    let node = NodeId::fresh();
    for number in 0..40 {
        let job = accept(ledger).await;
        let mut posting = verdict(job.id, &node, Verdict::Valid, 1);
        if number == 13 {
            posting.id.push('\0');
        }
        let owner = ledger.owner.clone();
        callers.spawn(async move {
            must(owner.settle(&succeeded(&job)).await);
            (number, owner.post(job.id, &[posting], true).await)
        });
    }
    for (number, outcome) in callers.join_all().await {
        if number == 13 {
            refused(&outcome);
        } else {
            must(outcome);
        }
    }
    while must(ledger.standing.project(1_000, at(10)).await) > 0 {}
    assert_eq!(must(ledger.standing.balance(node.as_str()).await).postings, 39);
    assert_eq!(must(ledger.reader.statistics(at(10)).await).succeeded, 40);
}
