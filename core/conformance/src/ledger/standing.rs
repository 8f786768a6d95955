//! Checks the results of postings, disputes, and the sums over everything.

use tokio::task::JoinSet;

use super::sample::{accept, ended, succeeded, take, taken, verdict, verifier};
use super::{Halves, at, must, refused};
use infera_ledger::fold::{HALF_LIFE, INVALID_WEIGHT, MISSED_WEIGHT};
use infera_ledger::{Balance, NewNode, PostingEntry, Statistics, Verdict};
use infera_types::ids::{Digest, JobId, NodeId};
use infera_types::job::{End, FailureReason, VerificationStatus};

/// Settles `count` jobs, posts a verdict of every kind in turn for three nodes, and returns the nodes.
async fn history(ledger: &Halves, count: u32) -> [NodeId; 3] {
    const KINDS: [Verdict; 5] =
        [Verdict::Valid, Verdict::Missed, Verdict::Inconclusive, Verdict::Invalid, Verdict::Neutral];
    let nodes = [NodeId::fresh(), NodeId::fresh(), NodeId::fresh()];
    for (kind, now) in KINDS.iter().cycle().zip(0..count) {
        let job = accept(ledger).await;
        must(ledger.owner.settle(&succeeded(&job)).await);
        let postings = nodes.each_ref().map(|node| verdict(job.id, node, *kind, u64::from(now) * 1_000));
        must(ledger.owner.post(job.id, &postings, true).await);
    }
    nodes
}

/// However the postings are split into batches, the balances are those of a replay from the beginning.
pub async fn balances_are_what_a_replay_gives(ledger: &Halves) {
    history(ledger, 25).await;
    assert_eq!(must(ledger.standing.project(0, at(1)).await), 0);
    for limit in [1, 2, 7, 30, 1_000] {
        assert!(must(ledger.standing.project(limit, at(1)).await) <= limit);
    }
    assert_eq!(must(ledger.standing.project(1_000, at(1)).await), 0);
    let replayed = must(ledger.standing.replay().await);
    assert_eq!(replayed.len(), 25 + 3);
    for (subject, balance) in &replayed {
        assert_eq!(must(ledger.standing.balance(subject).await), *balance, "{subject}");
    }
    assert_eq!(must(ledger.standing.balance("nobody").await), Balance::default());
}

/// Many projectors at once fold every posting once.
pub async fn projectors_take_turns(ledger: &Halves) {
    let nodes = history(ledger, 20).await;
    let mut callers = JoinSet::new();
    for _ in 0..40 {
        let standing = ledger.standing.clone();
        callers.spawn(async move { must(standing.project(3, at(1)).await) });
    }
    assert_eq!(callers.join_all().await.iter().sum::<u32>(), 20 * 4);
    for node in nodes {
        let expected = Balance { millipoints: 2_000, prompt_tokens: 0, completion_tokens: 12, postings: 20 };
        assert_eq!(must(ledger.standing.balance(node.as_str()).await), expected);
    }
}

/// Verdicts add up per node and model and fade with time; a posting that says nothing about a node makes no standing.
pub async fn standings_are_kept_by_node_and_model(ledger: &Halves) {
    let job = accept(ledger).await;
    must(ledger.owner.settle(&succeeded(&job)).await);
    let (node, silent) = (NodeId::fresh(), NodeId::fresh());
    let later = u64::try_from(HALF_LIFE.as_millis()).unwrap_or(u64::MAX);
    let post = async |node: &NodeId, kind, now| {
        must(ledger.owner.post(job.id, &[verdict(job.id, node, kind, now)], false).await);
        must(ledger.standing.project(10, at(now)).await);
    };
    let other = accept(ledger).await;
    must(ledger.owner.settle(&succeeded(&other)).await);
    for kind in [Verdict::Neutral, Verdict::Inconclusive] {
        post(&silent, kind, 0).await;
    }
    assert!(must(ledger.standing.standings().await).is_empty());
    for kind in [Verdict::Valid, Verdict::Invalid, Verdict::Missed, Verdict::Neutral] {
        post(&node, kind, 0).await;
    }
    must(ledger.owner.post(other.id, &[verdict(other.id, &node, Verdict::Valid, later)], false).await);
    must(ledger.standing.project(10, at(later)).await);
    let standings = must(ledger.standing.standings().await);
    assert_eq!(standings.len(), 1);
    let standing = &standings[0];
    assert_eq!((&standing.node, &standing.model), (&node, &job.model));
    let bad = (INVALID_WEIGHT + MISSED_WEIGHT) / 2.0;
    let expected = [1.5, bad, 2.0, 2.5, 4.5, 0.375];
    let found =
        [standing.good, standing.bad, standing.on_time, standing.asked, standing.tokens, standing.seconds];
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-9, "{standing:?}");
    }
    assert_eq!((standing.valid_count, standing.first_valid_ms), (2, Some(at(0))));
    assert_eq!(standing.updated_ms, at(later));
}

/// A verdict on a job for chosen nodes is counted, but makes no standing and no uptime, and changes none.
pub async fn verdicts_on_chosen_nodes_weigh_nothing(ledger: &Halves) {
    let node = NodeId::fresh();
    let post = async |kind, is_chosen| {
        // One job counts one VALID verdict of a node.
        let job = accept(ledger).await;
        must(ledger.owner.settle(&succeeded(&job)).await);
        let mut posting = verdict(job.id, &node, kind, 0);
        if let PostingEntry::Verdict { is_for_chosen_nodes, .. } = &mut posting.entry {
            *is_for_chosen_nodes = is_chosen;
        }
        must(ledger.owner.post(job.id, &[posting], false).await);
        while must(ledger.standing.project(10, at(0)).await) > 0 {}
        must(ledger.standing.standings().await)
    };
    for kind in [Verdict::Valid, Verdict::Invalid, Verdict::Missed] {
        assert!(post(kind, true).await.is_empty(), "{kind:?}");
    }
    let before = post(Verdict::Valid, false).await;
    assert_eq!(before.iter().map(|standing| standing.valid_count).collect::<Vec<_>>(), [1]);
    for kind in [Verdict::Valid, Verdict::Invalid, Verdict::Missed] {
        assert_eq!(post(kind, true).await, before, "{kind:?}");
    }
    assert_eq!(must(ledger.standing.balance(node.as_str()).await).postings, 7, "all of them are kept");
}

/// A dispute belongs to a settled job, and shows on it.
pub async fn a_dispute_is_opened_once(ledger: &Halves) {
    let job = accept(ledger).await;
    refused(&ledger.standing.dispute(job.id, "too early", at(1)).await);
    refused(&ledger.standing.dispute(JobId::new(), "no such job", at(1)).await);
    must(ledger.owner.settle(&succeeded(&job)).await);
    for detail in ["a late conflict", "another"] {
        must(ledger.standing.dispute(job.id, detail, at(2)).await);
    }
    let view = must(ledger.reader.job(&job.account, job.id).await);
    assert_eq!(view.and_then(|view| view.dispute), Some(VerificationStatus::Disputed));
    assert_eq!(must(ledger.reader.statistics(at(3)).await).disputed, 1);
}

/// Each job is counted in one column, even if the same event happens to it twice.
pub async fn statistics_count_every_job_once(ledger: &Halves) {
    assert_eq!(must(ledger.reader.statistics(at(0)).await), Statistics::default());
    let owner = verifier(ledger, 60_000).await;
    let mut jobs = Vec::new();
    for _ in 0..7 {
        jobs.push(accept(ledger).await);
    }
    for job in &jobs[1..] {
        taken(take(ledger, &owner, job.id, false, 1).await);
    }
    let failure = End::Failed { reason: FailureReason::Poison, message: "owners died".to_owned() };
    for _ in 0..2 {
        must(ledger.owner.settle(&succeeded(&jobs[2])).await);
        must(ledger.owner.settle(&ended(&jobs[3], failure.clone())).await);
        must(ledger.intake.cancel(&jobs[4].account, jobs[4].id, at(2)).await);
        must(ledger.owner.settle(&ended(&jobs[5], End::Expired)).await);
        must(ledger.owner.settle(&succeeded(&jobs[6])).await);
    }
    let node = NewNode { name: "*".to_owned(), secret: Digest::of(b"secret"), account: None };
    must(ledger.network.register_node(&node, at(3)).await);
    let expected = Statistics {
        accepted: 7,
        queued: 1,
        running: 1,
        succeeded: 2,
        failed: 1,
        cancelled: 1,
        expired: 1,
        prompt_tokens: 22,
        completion_tokens: 6,
        nodes: 1,
        disputed: 0,
    };
    assert_eq!(must(ledger.reader.statistics(at(4)).await), expected);
}
