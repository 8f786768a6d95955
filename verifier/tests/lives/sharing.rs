//! How much a verifier takes (rule 4): what there is room for, its share of it, and nothing beyond.

use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Broker as _, topology};
use infera_verifier::Config;

use super::network::{Ask, Network, quick, tokens};
use super::node::{Act, Node, RIGHT, keep_speaking, right, three};

/// Ten times what a verifier needs to notice what it is to notice.
const A_WHILE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn nothing_is_taken_while_there_is_no_room() {
    let network = Arc::new(Network::new().await);
    let verifier = network.verifier(quick());
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(network.submit(Ask::default()).await);
    }
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(network.broker.depth(&topology::jobs(&network.model).name).await.unwrap(), Some(5));
    assert_eq!(verifier.counters.taken.get(), 0);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    for job in jobs {
        assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    }
}

#[tokio::test]
async fn two_verifiers_share_the_room_and_leave_the_rest_in_the_queue() {
    let network = Arc::new(Network::new().await);
    let nodes = [
        Node::start(&network, "a", |_| Act::Silence).await,
        Node::start(&network, "b", |_| Act::Silence).await,
        Node::start(&network, "c", |_| Act::Silence).await,
    ];
    let _chorus = keep_speaking(&nodes);
    // A sweeper that saw the queue empty just before a job came hands that one out a second time, which is harmless but counted.
    let config = Config { sweep_ms: 3_600_000, ..quick() };
    let verifiers = [network.verifier(config.clone()), network.verifier(config)];
    // They hear of the nodes and of each other.
    tokio::time::sleep(A_WHILE).await;
    for _ in 0..60 {
        network.submit(Ask::default()).await;
    }
    tokio::time::sleep(A_WHILE).await;
    // Three nodes of 16 slots: 48, so 24 for each.
    let taken = verifiers.map(|verifier| verifier.counters.taken.get());
    let waiting = network.broker.depth(&topology::jobs(&network.model).name).await.unwrap().unwrap();
    assert!(taken.iter().all(|taken| (1..=24).contains(taken)), "{taken:?}");
    assert_eq!(taken[0] + taken[1] + waiting, 60);
}
