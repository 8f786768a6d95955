//! How jobs end, with nodes that behave.

use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Broker as _, topology};
use infera_ledger::{Cancelled, JobIntake as _, JobReader as _, JobState, Verdict};
use infera_types::job::{End, FailureReason, Numbers, Rung, VerificationPolicy, VerificationStatus};
use infera_types::messages::{Completion, Wire as _};
use infera_types::time::Timestamp;
use infera_verifier::Config;
use infera_verifier::decisions::group_draw::Distinct;

use super::network::{Ask, Network, eventually, failure, quick, tokens, verdicts_in, verification};
use super::node::{Act, Node, RIGHT, keep_speaking, right, three};

#[tokio::test]
async fn three_that_agree_are_a_verified_answer() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    network.broker.declare(&topology::completions(&network.gateway)).await.unwrap();
    let mut completions =
        network.broker.consume(&topology::completions(&network.gateway).name, 99).await.unwrap();
    let verifier = network.verifier(quick());

    let job = network.submit(Ask::quorum(3)).await;
    let settlement = network.end_of(job).await;
    assert_eq!(tokens(&settlement), RIGHT);
    let said = verification(&settlement);
    assert_eq!(said.status, VerificationStatus::Verified);
    assert_eq!((said.replicas.asked, said.replicas.answered, said.replicas.agreed), (3, 3, 3));
    assert_eq!((said.rung, said.numbers), (Some(Rung::Identical), Some(Numbers::Inside)));

    let completion = loop {
        let delivery = completions.next().await.unwrap();
        if delivery.message.kind == Completion::KIND {
            break Completion::from_message(&delivery.message).unwrap();
        }
    };
    assert_eq!(completion.settlement.job_id, job);
    assert_eq!(completion.settlement.group, None);

    let record = network.archived(job).await;
    let verdicts = verdicts_in(&record.postings);
    assert_eq!(verdicts.len(), 3);
    assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Valid), "{verdicts:?}");
    assert_eq!(record.postings.len(), 4, "three verdicts and the usage");
    let group = record.settlement.group.unwrap();
    assert_eq!(
        group.assignments.iter().map(|one| &one.owner).collect::<std::collections::BTreeSet<_>>().len(),
        3
    );
    assert!(!network.is_disputed(job).await);
    network.assert_replays().await;
    verifier.drain().await;
}

#[tokio::test]
async fn many_jobs_at_once_end_once_each() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let verifiers = [network.verifier(quick()), network.verifier(quick())];
    let mut jobs = Vec::new();
    for _ in 0..60 {
        jobs.push(network.submit(Ask::default()).await);
    }
    for job in &jobs {
        assert_eq!(tokens(&network.end_of(*job).await), RIGHT);
        assert_eq!(network.verdicts(*job).await.len(), 3);
    }
    let statistics = network.ledger.statistics(Timestamp::now()).await.unwrap();
    assert_eq!((statistics.accepted, statistics.succeeded), (60, 60));
    network.assert_replays().await;
    for verifier in verifiers {
        verifier.drain().await;
    }
    assert_eq!(network.broker.depth(&topology::jobs(&network.model).name).await.unwrap(), Some(0));
}

#[tokio::test]
async fn one_replica_is_unverified_and_pays_nothing() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let policy = VerificationPolicy { quorum: 1, replicas: 1 };
    let job = network.submit(Ask { policy, ..Ask::default() }).await;
    let settlement = network.end_of(job).await;
    assert_eq!(verification(&settlement).status, VerificationStatus::Unverified);
    assert_eq!(verification(&settlement).rung, None);
    let verdicts = network.verdicts(job).await;
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].1, Verdict::Inconclusive);
}

#[tokio::test]
async fn what_can_not_be_asked_fails_before_anybody_is() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    // Its bytes alone tell of the first that it is too long, its tokens of the second.
    let longest = serde_json::to_vec(&network.request(&"7".repeat(500_000))).unwrap();
    let long = serde_json::to_vec(&network.request(&"one two three four ".repeat(400))).unwrap();
    let mut strange = network.request("What is 2 plus 2?");
    strange.messages[0].role = "nobody".to_owned();
    let strange = serde_json::to_vec(&strange).unwrap();
    for (request, reason) in [
        (longest, FailureReason::ContextLength),
        (long, FailureReason::ContextLength),
        (strange, FailureReason::InvalidMessages),
        (b"not a request".to_vec(), FailureReason::Unprocessable),
    ] {
        let job = network.accept(&request, Ask::default()).await;
        network.notify(job).await;
        let settlement = network.end_of(job).await;
        assert_eq!(failure(&settlement), reason);
        assert_eq!(settlement.group, None);
    }
    assert!(nodes.iter().all(|node| node.seen().is_empty()));
}

#[tokio::test]
async fn two_owners_are_too_few_for_a_client_that_waits() {
    let network = Arc::new(Network::new().await);
    let nodes =
        [Node::start(&network, "a", |_| right()).await, Node::start(&network, "b", |_| right()).await];
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask { synchronous: true, ..Ask::default() }).await;
    assert_eq!(failure(&network.end_of(job).await), FailureReason::InsufficientNodes);
    let policy = VerificationPolicy { quorum: 1, replicas: 1 };
    let job = network.submit(Ask { synchronous: true, policy, ..Ask::default() }).await;
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
}

/// A whole fleet of one owner answers no job, unless the operator says that its nodes may stand beside each other.
#[tokio::test]
async fn one_owners_fleet_is_the_operators_choice() {
    let network = Arc::new(Network::new().await);
    let owner = network.runner("fleet").await;
    let mut nodes = Vec::new();
    for name in ["a", "b", "c", "d"] {
        nodes.push(Node::register_for(&network, owner.clone(), name, |_| right()).await);
    }
    let _chorus = keep_speaking(&nodes);
    let waits = Ask { synchronous: true, ..Ask::quorum(3) };
    let by_owner = network.verifier(quick());
    let job = network.submit(waits).await;
    assert_eq!(failure(&network.end_of(job).await), FailureReason::InsufficientNodes);
    by_owner.drain().await;

    // It waits for the nodes' heartbeats before it says that there are none.
    let _by_node = network.verifier(Config { distinct: Distinct::Node, warm_up_ms: 60_000, ..quick() });
    let job = network.submit(waits).await;
    let settlement = network.end_of(job).await;
    assert_eq!(tokens(&settlement), RIGHT);
    assert_eq!(verification(&settlement).status, VerificationStatus::Verified);
    assert_eq!(verification(&settlement).replicas.agreed, 3);
    let asked = nodes.iter().filter(|node| !node.seen().is_empty()).count();
    assert_eq!(asked, 3, "three different nodes");
}

#[tokio::test]
async fn others_wait_are_given_back_and_taken_when_there_are_three() {
    let network = Arc::new(Network::new().await);
    let two = [Node::start(&network, "a", |_| right()).await, Node::start(&network, "b", |_| right()).await];
    let _chorus = keep_speaking(&two);
    let verifier = network.verifier(Config { hold_ms: 200, ..quick() });
    let job = network.submit(Ask::default()).await;
    eventually("it is given back", || async { (verifier.counters.released.get() > 0).then_some(()) }).await;
    let third = [Node::start(&network, "c", |_| right()).await];
    let _third_chorus = keep_speaking(&third);
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    let view = network.ledger.job(&network.account, job).await.unwrap().unwrap();
    assert_eq!(view.state, JobState::Ended);
}

#[tokio::test]
async fn a_cancel_wins_over_a_later_settlement_and_what_was_in_is_paid() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, Act::Silence).await;
    let _chorus = keep_speaking(&nodes);
    let verifier = network.verifier(quick());
    // Two are in and the third is asked: a quorum of three waits.
    let job = network.submit(Ask::quorum(3)).await;
    nodes[2].assignment(0).await;
    eventually("two are in", || async { (verifier.counters.replicas.get() == 2).then_some(()) }).await;
    let cancelled = network.ledger.cancel(&network.account, job, Timestamp::now()).await.unwrap();
    assert!(matches!(cancelled, Cancelled::Now(_)));
    eventually("its group is closed", || async {
        (verifier.counters.groups_closed.get() == 1).then_some(())
    })
    .await;
    assert_eq!(network.end_of(job).await.end, End::cancelled());
    network.assert_replays().await;
    for node in &nodes[..2] {
        assert!(network.balance_of(&node.id).await.millipoints > 0);
    }
    assert_eq!(network.balance_of(&nodes[2].id).await.millipoints, 0);
    // Too late: the reply isn't waited for any more, and nothing is posted for it again.
    let late = nodes[2].assignment(0).await;
    nodes[2].reply(&late, &super::node::line(&RIGHT)).await;
    eventually("it is dropped", || async { (verifier.counters.replicas_unknown.get() == 1).then_some(()) })
        .await;
    assert_eq!(network.balance_of(&nodes[2].id).await.millipoints, 0);
}

#[tokio::test]
async fn a_job_expires_at_its_deadline_with_its_group() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, Act::Silence).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask { deadline: Duration::from_secs(3), ..Ask::quorum(3) }).await;
    nodes[2].assignment(0).await;
    let settlement = network.end_of(job).await;
    assert_eq!(settlement.end, End::Expired);
}

#[tokio::test]
async fn a_drain_gives_back_what_waits_and_ends() {
    let network = Arc::new(Network::new().await);
    let lonely = [Node::start(&network, "a", |_| right()).await];
    let _chorus = keep_speaking(&lonely);
    let verifier = network.verifier(quick());
    let job = network.submit(Ask::default()).await;
    eventually("it is taken", || async { (verifier.counters.taken.get() > 0).then_some(()) }).await;
    let counters = Arc::clone(&verifier.counters);
    verifier.drain().await;
    assert_eq!(counters.released.get(), 1);
    let view = network.ledger.job(&network.account, job).await.unwrap().unwrap();
    assert_eq!(view.state, JobState::Queued);
    let depth = network.broker.depth(&topology::jobs(&network.model).name).await.unwrap();
    assert_eq!(depth, Some(0), "acked, not put back: the ledger has it, and the sweeper will hand it out");
}
