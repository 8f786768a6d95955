//! What owners say their nodes may be drawn for.

use std::sync::Arc;

use infera_ledger::{AccountBook as _, NodeChange, NodeRoster as _, Verdict, Whose};
use infera_types::ids::{ModelName, OwnerId};
use infera_types::job::{End, FailureReason};
use infera_types::time::Timestamp;

use super::network::{Ask, Network, PATIENCE, eventually, failure, quick, verification};
use super::node::{Act, Node, RIGHT, keep_speaking, line, right, three};

/// Changes the node of this name, as its owner does.
async fn change(network: &Network, name: &str, change: NodeChange) {
    let account = network.ledger.sign_up(&format!("{name}@example.org"), None, Timestamp::now()).await;
    let whose = Whose::Of(OwnerId::of_account(&account.unwrap().account));
    let changed = network.ledger.change_node(&whose, name, &change, Timestamp::now()).await.unwrap();
    assert!(changed.is_some(), "{name} is its owner's");
}

/// Submits jobs until each of `count` in a row asked three nodes and not `node`. A verifier reads wishes within its
/// refresh, so the first may still be drawn by the old ones.
async fn left_alone(network: &Network, node: &Node, count: usize) {
    let submitting = async {
        let (mut asked, mut in_a_row) = (node.seen().len(), 0);
        while in_a_row < count {
            let job = network.submit(Ask::quorum(3)).await;
            assert_eq!(verification(&network.end_of(job).await).replicas.agreed, 3);
            let now_asked = node.seen().len();
            in_a_row = if now_asked == asked { in_a_row + 1 } else { 0 };
            asked = now_asked;
        }
    };
    tokio::time::timeout(PATIENCE, submitting).await.unwrap();
}

/// Submits jobs until the node is asked.
async fn drawn_again(network: &Network, node: &Node) {
    let before = node.seen().len();
    eventually("the node is drawn", || async {
        let job = network.submit(Ask::quorum(3)).await;
        network.end_of(job).await;
        (node.seen().len() > before).then_some(())
    })
    .await;
}

async fn four(network: &Arc<Network>) -> [Node; 4] {
    let [a, b, c] = three(network, right()).await;
    [a, b, c, Node::start(network, "d", |_| right()).await]
}

#[tokio::test]
async fn a_node_is_drawn_for_the_models_that_its_owner_chose() {
    let network = Arc::new(Network::new().await);
    let nodes = four(&network).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    drawn_again(&network, &nodes[3]).await;
    for taken_off in [vec![ModelName::new("another")], Vec::new()] {
        change(&network, "d", NodeChange::OfferModels(taken_off)).await;
        left_alone(&network, &nodes[3], 12).await;
        let models = vec![ModelName::new("another"), network.model.clone()];
        change(&network, "d", NodeChange::OfferModels(models)).await;
        drawn_again(&network, &nodes[3]).await;
    }
}

#[tokio::test]
async fn a_deregistered_node_ends_its_work_and_gets_no_more_until_it_is_registered() {
    let network = Arc::new(Network::new().await);
    // The third says nothing to its first assignment until the test speaks for it, and answers all others.
    let third = |number| if number == 0 { Act::Silence } else { right() };
    let nodes = [
        Node::start(&network, "a", |_| right()).await,
        Node::start(&network, "b", |_| right()).await,
        Node::start(&network, "c", third).await,
    ];
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask::quorum(3)).await;
    let in_hand = nodes[2].assignment(0).await;
    change(&network, "c", NodeChange::Withdraw { version: None }).await;
    let fourth = [Node::start(&network, "d", |_| right()).await];
    let _fourth_chorus = keep_speaking(&fourth);
    left_alone(&network, &nodes[2], 6).await;

    // What it had in hand counts as ever.
    nodes[2].reply(&in_hand, &line(&RIGHT)).await;
    assert_eq!(verification(&network.end_of(job).await).replicas.agreed, 3);
    let verdicts = network.verdicts(job).await;
    assert!(verdicts.contains(&(nodes[2].id.clone(), Verdict::Valid)), "{verdicts:?}");

    change(&network, "c", NodeChange::Enlist { version: None }).await;
    drawn_again(&network, &nodes[2]).await;
}

#[tokio::test]
async fn too_few_are_left_when_owners_deregister_their_nodes() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask::quorum(3)).await;
    network.end_of(job).await;
    change(&network, "a", NodeChange::Withdraw { version: None }).await;
    // Once that is read, a job that somebody waits for fails at once.
    eventually("there are too few", || async {
        let ask = Ask { synchronous: true, ..Ask::quorum(3) };
        let job = network.submit(ask).await;
        let end = network.end_of(job).await;
        if matches!(end.end, End::Succeeded { .. }) {
            return None;
        }
        assert_eq!(failure(&end), FailureReason::InsufficientNodes);
        Some(())
    })
    .await;
}
