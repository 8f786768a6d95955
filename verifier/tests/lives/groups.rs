//! What nodes may do to a job, and what becomes of both.

use std::sync::Arc;

use infera_broker::{Broker as _, topology};
use infera_ledger::{PostingEntry, Verdict};
use infera_types::ids::{NodeId, VerifierId};
use infera_types::job::{End, FailureReason, Numbers, VerificationStatus};
use infera_types::messages::{CapacitySummary, RefusalReason, Version, Wire as _};
use infera_verifier::Config;

use super::network::{Ask, Network, eventually, failure, quick, tokens, verdicts_in, verification};
use super::node::{Act, Line, Node, RIGHT, keep_speaking, line, right, three, wrong};

/// Budgets that run out while a test waits: for tests in which a node says nothing.
fn short() -> Config {
    Config { assignment_base_ms: 1_500, assignment_slack: 0.0, ..quick() }
}

fn of(verdicts: &[(NodeId, Verdict)], node: &Node) -> Vec<Verdict> {
    verdicts.iter().filter(|(id, _)| *id == node.id).map(|(_, verdict)| *verdict).collect()
}

#[tokio::test]
async fn busy_and_draining_are_neutral_and_asked_again() {
    for reason in [RefusalReason::Busy, RefusalReason::Draining] {
        let network = Arc::new(Network::new().await);
        let nodes = [
            Node::start(&network, "a", |_| right()).await,
            Node::start(&network, "b", |_| right()).await,
            Node::start(&network, "c", move |number| if number == 0 { Act::Refuse(reason) } else { right() })
                .await,
        ];
        let _chorus = keep_speaking(&nodes);
        let _verifier = network.verifier(quick());
        let job = network.submit(Ask::quorum(3)).await;
        assert_eq!(verification(&network.end_of(job).await).replicas.agreed, 3, "{reason:?}");
        let verdicts = network.verdicts(job).await;
        assert_eq!(of(&verdicts, &nodes[2]), [Verdict::Neutral, Verdict::Valid], "{reason:?}");
    }
}

#[tokio::test]
async fn refusals_that_count_are_misses_and_replaced() {
    for reason in [RefusalReason::Crashed, RefusalReason::Expired, RefusalReason::Broken] {
        let network = Arc::new(Network::new().await);
        let nodes = three(&network, Act::Refuse(reason)).await;
        let _chorus = keep_speaking(&nodes);
        let _verifier = network.verifier(quick());
        let job = network.submit(Ask::quorum(3)).await;
        nodes[2].assignment(0).await;
        let fourth = [Node::start(&network, "d", |_| right()).await];
        let _fourth_chorus = keep_speaking(&fourth);
        let settlement = network.end_of(job).await;
        assert_eq!(verification(&settlement).replicas.agreed, 3, "{reason:?}");
        assert_eq!(verification(&settlement).replicas.asked, 3, "{reason:?}");
        let verdicts = network.verdicts(job).await;
        assert_eq!(of(&verdicts, &nodes[2]), [Verdict::Missed], "{reason:?}");
        assert_eq!(nodes[2].seen().len(), 1, "a node that failed a job is not asked again");
    }
}

#[tokio::test]
async fn silence_is_a_miss_once_its_budget_is_over() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, Act::Silence).await;
    let _chorus = keep_speaking(&nodes);
    let verifier = network.verifier(short());
    let job = network.submit(Ask::default()).await;
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    let verdicts = network.verdicts(job).await;
    assert_eq!(of(&verdicts, &nodes[2]), [Verdict::Missed]);
    assert_eq!(of(&verdicts, &nodes[0]), [Verdict::Valid]);
    // A replica after that is late for everything.
    let late = nodes[2].assignment(0).await;
    nodes[2].reply(&late, &line(&RIGHT)).await;
    eventually("it is dropped", || async { (verifier.counters.replicas_unknown.get() == 1).then_some(()) })
        .await;
    network.assert_replays().await;
    assert_eq!(network.balance_of(&nodes[2].id).await.millipoints, 0);
}

#[tokio::test]
async fn the_silent_are_asked_again_for_want_of_others() {
    let network = Arc::new(Network::new().await);
    let at_first_silent = |number| if number == 0 { Act::Silence } else { right() };
    let nodes = [
        Node::start(&network, "a", |_| right()).await,
        Node::start(&network, "b", at_first_silent).await,
        Node::start(&network, "c", at_first_silent).await,
    ];
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(short());
    let job = network.submit(Ask::default()).await;
    assert_eq!(verification(&network.end_of(job).await).replicas.agreed, 2);
    let verdicts = network.verdicts(job).await;
    assert_eq!(of(&verdicts, &nodes[0]), [Verdict::Valid]);
    for silent in &nodes[1..] {
        assert_eq!(of(&verdicts, silent), [Verdict::Missed, Verdict::Valid]);
    }
}

#[tokio::test]
async fn six_misses_fail_the_job_and_blame_nobody() {
    let network = Arc::new(Network::new().await);
    let mut nodes = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        nodes.push(Node::start(&network, name, |_| Act::Refuse(RefusalReason::Broken)).await);
    }
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask::default()).await;
    assert_eq!(failure(&network.end_of(job).await), FailureReason::TooManyMisses);
    let verdicts = network.verdicts(job).await;
    assert_eq!(verdicts.len(), 6);
    assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Neutral), "{verdicts:?}");
}

#[tokio::test]
async fn a_liar_is_never_served_and_opens_a_dispute() {
    for liar in 310..316 {
        let network = Arc::new(Network::new().await);
        let nodes = three(&network, wrong(liar)).await;
        let _chorus = keep_speaking(&nodes);
        let _verifier = network.verifier(quick());
        let job = network.submit(Ask::default()).await;
        assert_eq!(tokens(&network.end_of(job).await), RIGHT);
        let verdicts = network.verdicts(job).await;
        assert_eq!(of(&verdicts, &nodes[2]), [Verdict::Inconclusive], "only the referee makes it invalid");
        assert!(network.is_disputed(job).await);
        network.assert_replays().await;
        assert_eq!(network.balance_of(&nodes[2].id).await.millipoints, 0);
        assert!(network.balance_of(&nodes[0].id).await.millipoints > 0);
    }
}

#[tokio::test]
async fn a_late_conflict_opens_a_dispute() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, Act::Silence).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask::default()).await;
    assert_eq!(verification(&network.end_of(job).await).status, VerificationStatus::Verified);
    assert!(!network.is_disputed(job).await);
    assert!(!network.is_closed(job).await, "the group waits for the third");
    let late = nodes[2].assignment(0).await;
    nodes[2].reply(&late, &line(&[300, 400, 302])).await;
    eventually("it is disputed", || async { network.is_disputed(job).await.then_some(()) }).await;
    let verdicts = network.verdicts(job).await;
    assert_eq!(of(&verdicts, &nodes[2]), [Verdict::Inconclusive]);
    assert_eq!(of(&verdicts, &nodes[1]), [Verdict::Valid]);
}

#[tokio::test]
async fn three_different_answers_are_no_consensus_and_nobody_is_judged() {
    let network = Arc::new(Network::new().await);
    let nodes = [
        Node::start(&network, "a", |_| right()).await,
        Node::start(&network, "b", |_| wrong(310)).await,
        Node::start(&network, "c", |_| wrong(311)).await,
    ];
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask::default()).await;
    assert_eq!(failure(&network.end_of(job).await), FailureReason::NoConsensus);
    let verdicts = network.verdicts(job).await;
    assert_eq!(verdicts.len(), 3);
    assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Inconclusive), "{verdicts:?}");
}

#[tokio::test]
async fn a_disagreement_is_settled_by_a_fourth() {
    for _ in 0..4 {
        let network = Arc::new(Network::new().await);
        let nodes = [
            Node::start(&network, "a", |_| right()).await,
            Node::start(&network, "b", |_| wrong(310)).await,
            Node::start(&network, "c", |_| wrong(311)).await,
            Node::start(&network, "d", |_| right()).await,
        ];
        let _chorus = keep_speaking(&nodes);
        let _verifier = network.verifier(quick());
        let job = network.submit(Ask::default()).await;
        assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    }
}

#[tokio::test]
async fn an_objective_fault_is_invalid_and_not_counted_for_the_quorum() {
    let network = Arc::new(Network::new().await);
    let broken = Line { text: Some("something else".to_owned()), ..line(&RIGHT) };
    let nodes = three(&network, Act::Answer(broken)).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask::default()).await;
    let settlement = network.end_of(job).await;
    assert_eq!(tokens(&settlement), RIGHT);
    assert_eq!(verification(&settlement).replicas.agreed, 2);
    let verdicts = network.verdicts(job).await;
    assert_eq!(of(&verdicts, &nodes[2]), [Verdict::Invalid]);
    assert!(!network.is_disputed(job).await, "a broken replica says nothing about the answer");
}

#[tokio::test]
async fn numbers_outside_are_told_and_stop_nothing() {
    let network = Arc::new(Network::new().await);
    let quantised = Line { shift: 0.5, ..line(&RIGHT) };
    let nodes = three(&network, Act::Answer(quantised)).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask::quorum(3)).await;
    let settlement = network.end_of(job).await;
    assert_eq!(verification(&settlement).replicas.agreed, 3);
    assert_eq!(verification(&settlement).numbers, Some(Numbers::Outside));
    let record = network.archived(job).await;
    assert!(verdicts_in(&record.postings).iter().all(|(_, verdict)| *verdict == Verdict::Valid));
    for posting in &record.postings {
        if let PostingEntry::Verdict { node, numbers_outside, .. } = &posting.entry {
            assert_eq!(*numbers_outside, *node == nodes[2].id, "{posting:?}");
        }
    }
}

#[tokio::test]
async fn nobody_answers_for_another_or_twice() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, Act::Silence).await;
    let silent = Node::register(&network, "d", |_| Act::Silence).await;
    let _chorus = keep_speaking(&nodes);
    let verifier = network.verifier(quick());
    let job = network.submit(Ask::quorum(3)).await;
    let (first, third) = (nodes[0].assignment(0).await, nodes[2].assignment(0).await);
    eventually("two are in", || async { (verifier.counters.replicas.get() == 2).then_some(()) }).await;
    // A stranger answers for the third, and the first answers again and otherwise.
    silent.reply(&third, &line(&RIGHT)).await;
    nodes[0].reply(&first, &line(&[300, 400, 302])).await;
    eventually("both are dropped", || async {
        let dropped = (verifier.counters.replicas_impostor.get(), verifier.counters.replicas_unknown.get());
        (dropped == (1, 1)).then_some(())
    })
    .await;
    nodes[2].reply(&third, &line(&RIGHT)).await;
    assert_eq!(verification(&network.end_of(job).await).replicas.agreed, 3);
    assert_eq!(network.verdicts(job).await.len(), 3);
    assert!(!network.is_disputed(job).await);
}

#[tokio::test]
async fn a_node_can_not_speak_as_a_verifier() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let verifier = network.verifier(quick());
    network.end_of(network.submit(Ask::default()).await).await;
    let asked = nodes[0].assignment(0).await;
    let invented =
        CapacitySummary { verifier: VerifierId::fresh(), models: Vec::new(), speaks: Version::NEWEST };
    let address = topology::replica_to(&nodes[0].id, &asked.verifier);
    network.broker.publish(&address, invented.to_message("1")).await;
    eventually("it is dropped", || async { (verifier.counters.replicas_impostor.get() == 1).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_node_without_a_queue_is_nobodys_fault() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    network.broker.delete(&topology::node(&nodes[2].id, "test").name).await.unwrap();
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask::default()).await;
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    let verdicts = network.verdicts(job).await;
    let third = of(&verdicts, &nodes[2]);
    assert!(!third.is_empty() && third.iter().all(|verdict| *verdict == Verdict::Neutral), "{third:?}");
}

#[tokio::test]
async fn a_node_found_broken_is_ejected() {
    let network = Arc::new(Network::new().await);
    let broken = Line { text: Some("something else".to_owned()), ..line(&RIGHT) };
    let nodes = three(&network, Act::Answer(broken)).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let first = network.submit(Ask::default()).await;
    assert_eq!(of(&network.verdicts(first).await, &nodes[2]), [Verdict::Invalid]);
    // Folded, and read again by the verifier: then two owners are left, too few for a client that waits.
    eventually("it is ejected", || async {
        let job = network.submit(Ask { synchronous: true, ..Ask::default() }).await;
        let end = network.end_of(job).await.end;
        matches!(end, End::Failed { reason: FailureReason::InsufficientNodes, .. }).then_some(())
    })
    .await;
    let asked = nodes[2].seen().len();
    let fourth = [Node::start(&network, "d", |_| right()).await];
    let _fourth_chorus = keep_speaking(&fourth);
    for _ in 0..5 {
        let job = network.submit(Ask::quorum(3)).await;
        assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    }
    assert_eq!(nodes[2].seen().len(), asked);
}
