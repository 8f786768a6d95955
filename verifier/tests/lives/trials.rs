//! Jobs that were in hand when a verifier died are tried one by one, so that what ends verifiers ends nothing beside it.

use std::sync::Arc;
use std::time::Duration;

use infera_ledger::{JobOwner as _, JobReader as _, JobState, LOST_ALONE, Notice, Sweeping as _, Take};
use infera_types::ids::{JobId, VerifierId};
use infera_types::time::Timestamp;
use infera_verifier::Verifier;

use super::network::{Ask, Network, Running, eventually, quick, tokens};
use super::node::{Act, Node, RIGHT, keep_speaking, line, right};

/// Three nodes that say nothing to the first `silent` assignments and answer right from then on.
async fn silent_at_first(network: &Arc<Network>, silent: usize) -> [Node; 3] {
    let act = move |asked| if asked < silent { Act::Silence } else { right() };
    [
        Node::start(network, "a", act).await,
        Node::start(network, "b", act).await,
        Node::start(network, "c", act).await,
    ]
}

async fn state_of(network: &Network, job: JobId) -> JobState {
    network.ledger.job(&network.account, job).await.unwrap().unwrap().state
}

/// How many lost handouts the job counts, by taking it after all owners died.
async fn lost_handouts(network: &Network, job: JobId) -> u32 {
    network.ledger.end_leases(Timestamp::now()).await.unwrap();
    let notices = [Notice::together(job, true)];
    match network.ledger.take(&VerifierId::fresh(), &notices, Timestamp::now()).await.unwrap().remove(0) {
        Take::Taken(taken) => taken.lost_handouts,
        other => panic!("{other:?}"),
    }
}

/// Two jobs that a verifier had in hand when it was killed.
async fn left_in_hand(network: &Arc<Network>, nodes: &[Node; 3]) -> [JobId; 2] {
    let first = network.verifier(quick());
    let jobs = [network.submit(Ask::quorum(3)).await, network.submit(Ask::quorum(3)).await];
    nodes[2].assignment(1).await;
    first.kill().await;
    jobs
}

fn second(network: &Network, change: impl FnOnce(Verifier) -> Verifier) -> Running {
    network.verifier_as(quick(), network.seams(), change)
}

#[tokio::test]
async fn what_was_in_hand_at_a_death_is_tried_alone_up_to_its_end() {
    let network = Arc::new(Network::new().await);
    let nodes = silent_at_first(&network, 3).await;
    let _chorus = keep_speaking(&nodes);
    let jobs = left_in_hand(&network, &nodes).await;
    let verifier = second(&network, Verifier::beside_nodes);
    let tried = nodes[2].assignment(2).await;
    let fresh = network.submit(Ask::quorum(3)).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(nodes[2].seen().len(), 3, "nothing else is asked beside it");
    let waiting = if jobs[0] == tried.job_id { jobs[1] } else { jobs[0] };
    for job in [waiting, fresh] {
        assert_eq!(state_of(&network, job).await, JobState::Queued, "nor taken");
    }
    for node in &nodes {
        let assignment = node.assignment(2).await;
        node.reply(&assignment, &line(&RIGHT)).await;
    }
    for job in [tried.job_id, waiting, fresh] {
        assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    }
    let order: Vec<JobId> = nodes[2].seen().iter().skip(2).map(|asked| asked.job_id).collect();
    assert_eq!(order, [tried.job_id, waiting, fresh], "those that were in hand come first");
    verifier.drain().await;
}

#[tokio::test]
async fn a_job_that_ends_its_verifier_alone_takes_nothing_with_it() {
    let network = Arc::new(Network::new().await);
    let nodes = silent_at_first(&network, 9).await;
    let _chorus = keep_speaking(&nodes);
    let jobs = left_in_hand(&network, &nodes).await;
    let verifier = second(&network, Verifier::beside_nodes);
    let tried = nodes[2].assignment(2).await.job_id;
    let fresh = network.submit(Ask::quorum(3)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    verifier.kill().await;
    for job in jobs {
        let alone = if job == tried { LOST_ALONE } else { 0 };
        assert_eq!(lost_handouts(&network, job).await, 1 + alone);
    }
    assert_eq!(lost_handouts(&network, fresh).await, 0);
}

/// Nodes of other processes die for themselves: asked, the job has shown that it doesn't end the verifier.
#[tokio::test]
async fn with_nodes_outside_a_trial_is_over_when_they_are_asked() {
    let network = Arc::new(Network::new().await);
    let nodes = silent_at_first(&network, 9).await;
    let _chorus = keep_speaking(&nodes);
    let jobs = left_in_hand(&network, &nodes).await;
    let verifier = second(&network, |verifier| verifier);
    nodes[2].assignment(3).await;
    eventually("both are in hand", || async {
        let running = [state_of(&network, jobs[0]).await, state_of(&network, jobs[1]).await];
        (running == [JobState::Running; 2]).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    verifier.kill().await;
    for job in jobs {
        assert_eq!(lost_handouts(&network, job).await, 2, "it was lived through");
    }
}
