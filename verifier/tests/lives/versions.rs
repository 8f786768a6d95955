//! Programs of two versions beside each other, and engines that can't do everything.

use std::sync::Arc;

use infera_broker::{Broker as _, topology};
use infera_ledger::Verdict;
use infera_types::features::{Feature, Features};
use infera_types::ids::VerifierId;
use infera_types::job::{End, FailureReason, VerificationPolicy};
use infera_types::messages::{CapacitySummary, Completion, RefusalReason, Version, Wire as _};

use super::network::{Ask, Network, PATIENCE, eventually, failure, quick, tokens, verification};
use super::node::{Act, Announced, Node, RIGHT, keep_speaking, right, three};

fn announces(speaks: Version) -> Announced {
    Announced { speaks, ..Announced::default() }
}

/// Waits until jobs are assigned as by a verifier that knows of no older one.
async fn until_newest(network: &Network, nodes: &[Node]) {
    eventually("the verifier has listened", || async {
        network.end_of(network.submit(Ask { policy: alone(), ..Ask::default() }).await).await;
        nodes.iter().any(|node| said_last(node) == Some(Version::NEWEST)).then_some(())
    })
    .await;
}

fn alone() -> VerificationPolicy {
    VerificationPolicy { quorum: 1, replicas: 1 }
}

/// The version that a node's last assignment asks for.
fn said_last(node: &Node) -> Option<Version> {
    node.seen().last().map(|assignment| assignment.speaks)
}

#[tokio::test]
async fn each_node_is_written_to_in_the_version_that_it_announced() {
    let network = Arc::new(Network::new().await);
    let (old, new) = (announces(Version::First), announces(Version::Second));
    let newest = announces(Version::Third);
    let nodes = [
        Node::start_as(&network, "a", old, |_| right()).await,
        Node::start_as(&network, "b", new, |_| right()).await,
        Node::start_as(&network, "c", newest, |_| right()).await,
    ];
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    until_newest(&network, &nodes).await;
    let job = network.submit(Ask::quorum(3)).await;
    let settlement = network.end_of(job).await;
    assert_eq!((tokens(&settlement), verification(&settlement).replicas.agreed), (&RIGHT[..], 3));
    for (node, byte) in nodes.iter().zip([1, 2, 3]) {
        let bytes = node.version_bytes();
        assert!(!bytes.is_empty() && bytes.iter().all(|found| *found == byte), "{byte}: {bytes:?}");
    }
    let verdicts = network.verdicts(job).await;
    assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Valid), "{verdicts:?}");
}

#[tokio::test]
async fn a_gateway_is_told_of_an_end_in_the_version_that_its_notice_announced() {
    let network = Arc::new(Network::new().await);
    let completions = topology::completions(&network.gateway);
    network.broker.declare(&completions).await.unwrap();
    let mut completions = network.broker.consume(&completions.name, 9).await.unwrap();
    // Without room on a node no job is taken.
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    // The template refuses it, for which the first version has no word of its own.
    let mut strange = network.request("What is 2 plus 2?");
    strange.messages[0].role = "nobody".to_owned();
    let strange = serde_json::to_vec(&strange).unwrap();
    // Without a notice, a sweeper finds it: gateways are upgraded before verifiers.
    for (announced, byte, reason) in [
        (Some(Version::First), 1, FailureReason::Unprocessable),
        (Some(Version::Second), 2, FailureReason::InvalidMessages),
        (Some(Version::Third), 3, FailureReason::InvalidMessages),
        (None, 3, FailureReason::InvalidMessages),
    ] {
        let job = network.accept(&strange, Ask::default()).await;
        if let Some(speaks) = announced {
            network.notify_as(job, speaks).await;
        }
        let told = async {
            loop {
                let delivery = completions.next().await.unwrap();
                let message = delivery.message.clone();
                delivery.ack().await;
                if message.kind == Completion::KIND {
                    break message;
                }
            }
        };
        let message = tokio::time::timeout(PATIENCE, told).await.unwrap();
        let told = Completion::from_message(&message).unwrap().settlement;
        assert_eq!((message.body[0], told.job_id, failure(&told)), (byte, job, reason), "{announced:?}");
        assert_eq!(failure(&network.end_of(job).await), FailureReason::InvalidMessages, "in the ledger");
    }
}

#[tokio::test]
async fn an_older_verifier_keeps_nodes_answers_in_words_that_it_knows() {
    let network = Arc::new(Network::new().await);
    let nodes = [Node::start(&network, "a", |_| right()).await];
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    network.end_of(network.submit(Ask { policy: alone(), ..Ask::default() }).await).await;
    assert_eq!(said_last(&nodes[0]), Some(Version::First), "an older one may not have been heard yet");
    until_newest(&network, &nodes).await;
    let older = CapacitySummary { verifier: VerifierId::fresh(), models: Vec::new(), speaks: Version::First };
    eventually("the older one is heard", || async {
        network.broker.publish(&topology::capacity(), older.to_message("1")).await;
        network.end_of(network.submit(Ask { policy: alone(), ..Ask::default() }).await).await;
        (said_last(&nodes[0]) == Some(Version::First)).then_some(())
    })
    .await;
    // It falls silent: an upgrade is over.
    until_newest(&network, &nodes).await;
}

#[tokio::test]
async fn a_refusal_as_unsupported_counts_against_nobody_and_another_answers() {
    let network = Arc::new(Network::new().await);
    let nodes = [
        Node::start(&network, "a", |_| right()).await,
        Node::start(&network, "b", |_| right()).await,
        Node::start(&network, "c", |_| Act::Refuse(RefusalReason::Unsupported)).await,
    ];
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    until_newest(&network, &nodes[..2]).await;
    let before = nodes[2].seen().len();
    // It has refused this one client's job, and nothing is left to ask.
    let waits = Ask { synchronous: true, ..Ask::quorum(3) };
    let job = network.submit(waits).await;
    assert_eq!(failure(&network.end_of(job).await), FailureReason::InsufficientNodes);
    assert_eq!(nodes[2].seen().len(), before + 1, "it would refuse again, so it is asked once");

    let job = network.submit(Ask::quorum(3)).await;
    let refused = nodes[2].assignment(before + 1).await;
    assert_eq!(refused.job_id, job, "other jobs ask it again");
    let fourth = [Node::start(&network, "d", |_| right()).await];
    let _fourth_chorus = keep_speaking(&fourth);
    let settlement = network.end_of(job).await;
    assert_eq!((tokens(&settlement), verification(&settlement).replicas.agreed), (&RIGHT[..], 3));
    let verdicts = network.verdicts(job).await;
    let of_third: Vec<_> = verdicts.iter().filter(|(node, _)| *node == nodes[2].id).collect();
    assert_eq!(of_third, [&(nodes[2].id.clone(), Verdict::Neutral)]);
    assert_eq!(nodes[2].seen().len(), before + 2);
}

#[tokio::test]
async fn a_job_is_given_to_nodes_only_that_can_do_what_it_asks() {
    let network = Arc::new(Network::new().await);
    let cannot_sample = Announced { features: Features::from_iter([Feature::Seed]), ..Announced::default() };
    let nodes = [
        Node::start(&network, "a", |_| right()).await,
        Node::start(&network, "b", |_| right()).await,
        Node::start_as(&network, "c", cannot_sample, |_| right()).await,
    ];
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let request = |temperature| {
        let mut request = network.request("What is 2 plus 2?");
        request.temperature = temperature;
        serde_json::to_vec(&request).unwrap()
    };
    let greedy = network.accept(&request(0.0), Ask::quorum(3)).await;
    network.notify(greedy).await;
    assert_eq!(verification(&network.end_of(greedy).await).replicas.agreed, 3);
    assert_eq!(nodes[2].seen().len(), 1);

    // There are three owners, and two of them can sample.
    let waits = Ask { synchronous: true, ..Ask::quorum(3) };
    let sampled = network.accept(&request(0.7), waits).await;
    network.notify(sampled).await;
    assert_eq!(failure(&network.end_of(sampled).await), FailureReason::InsufficientNodes);
    let sampled = network.accept(&request(0.7), Ask::quorum(3)).await;
    network.notify(sampled).await;
    let fourth = [Node::start(&network, "d", |_| right()).await];
    let _fourth_chorus = keep_speaking(&fourth);
    assert_eq!(verification(&network.end_of(sampled).await).replicas.agreed, 3);
    assert_eq!((nodes[2].seen().len(), fourth[0].seen().len()), (1, 1));
}

/// A node that doesn't know the field would refuse the assignment. What a node says of its cache is no more than the prompt.
#[tokio::test]
async fn a_scope_is_sent_to_nodes_only_that_announce_it_and_their_word_is_bounded() {
    let network = Arc::new(Network::new().await);
    let caches =
        || Announced { features: Features::default().with(Feature::PrefixCache), ..Announced::default() };
    let nodes = [
        Node::start_as(&network, "a", caches(), |_| right()).await,
        Node::start_as(&network, "b", caches(), |_| right()).await,
        Node::start(&network, "c", |_| right()).await,
    ];
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let mut scopes = Vec::new();
    for number in 0..2 {
        let request = serde_json::to_vec(&network.request("What is 2 plus 2?")).unwrap();
        let job = network.accept(&request, Ask::quorum(3)).await;
        network.notify(job).await;
        let End::Succeeded { answer, .. } = network.end_of(job).await.end else { panic!("no answer") };
        assert!([0, answer.prompt_tokens].contains(&answer.cached_tokens), "{}", answer.cached_tokens);
        for node in &nodes {
            scopes.push(node.assignment(number).await.cache_scope);
        }
    }
    let scope = scopes[0];
    assert!(scope.is_some());
    // Both jobs are of one account and one epoch.
    assert_eq!(scopes, [scope, scope, None, scope, scope, None]);
}
