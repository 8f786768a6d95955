//! Jobs whose nodes are too slow for the time that they are given.

use std::sync::Arc;

use infera_types::job::{End, FailureReason};
use infera_types::messages::RefusalReason;
use infera_verifier::Config;

use super::network::{Ask, Network, failure, quick};
use super::node::{Act, Node, keep_speaking, right, three};

async fn slow(network: &Arc<Network>, names: &[&str]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(Node::start(network, name, |_| Act::Refuse(RefusalReason::Expired)).await);
    }
    nodes
}

/// Ends as out of time, and says what to do, whether or not a client waits. Before, a job in the queue waited for its deadline, and
/// one that a client waited for was said to lack nodes.
#[tokio::test]
async fn a_job_that_is_too_long_for_all_nodes_ends_and_says_so() {
    for (synchronous, names) in [
        (true, &["a", "b", "c"][..]),
        (false, &["a", "b", "c"]),
        (false, &["a", "b", "c", "d", "e", "f", "g"]),
    ] {
        let network = Arc::new(Network::new().await);
        let nodes = slow(&network, names).await;
        let _chorus = keep_speaking(&nodes);
        let _verifier = network.verifier(quick());
        let job = network.submit(Ask { synchronous, ..Ask::default() }).await;
        let settlement = network.end_of(job).await;
        assert_eq!(failure(&settlement), FailureReason::TooManyMisses);
        let End::Failed { message, .. } = settlement.end else { unreachable!("it failed") };
        for words in ["time ran out before the answer was complete", "max_tokens", "--reference-token-us"] {
            assert!(message.contains(words), "{words}: {message}");
        }
        let asked: usize = nodes.iter().map(|node| node.seen().len()).sum();
        assert!(asked <= names.len().min(6), "{asked} of {names:?}");
        assert!(nodes.iter().all(|node| node.seen().len() <= 1), "none is asked twice");
    }
}

/// Silence is a lack of time too for a client that waits: the nodes are there.
#[tokio::test]
async fn a_client_that_waits_is_told_that_silent_nodes_were_too_slow() {
    let network = Arc::new(Network::new().await);
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        nodes.push(Node::start(&network, name, |_| Act::Silence).await);
    }
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(Config { assignment_base_ms: 500, assignment_slack: 0.0, ..quick() });
    let job = network.submit(Ask { synchronous: true, ..Ask::default() }).await;
    let settlement = network.end_of(job).await;
    assert_eq!(failure(&settlement), FailureReason::TooManyMisses);
    let End::Failed { message, .. } = settlement.end else { unreachable!("it failed") };
    assert!(message.contains("1 s, for up to 8 tokens"), "{message}");
}

/// One slow node among others says nothing of the job: a fourth is waited for.
#[tokio::test]
async fn one_slow_node_is_replaced() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, Act::Refuse(RefusalReason::Expired)).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask::quorum(3)).await;
    nodes[2].assignment(0).await;
    let fourth = [Node::start(&network, "d", |_| right()).await];
    let _fourth = keep_speaking(&fourth);
    assert!(matches!(network.end_of(job).await.end, End::Succeeded { .. }));
}
