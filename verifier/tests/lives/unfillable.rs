//! Jobs for nodes of one's own that can't be filled: what they cost the broker and the verifiers while they wait.

use std::sync::Arc;
use std::time::Duration;

use infera_ledger::{Accepted, JobIntake as _, NewJob, Standby};
use infera_types::features::Feature;
use infera_types::job::JobRequest;
use infera_types::service::Lane;

use super::network::{Ask, Network, Running, quick, tokens};
use super::node::{Announced, Node, RIGHT, keep_speaking, right};
use super::pools::{own, own_node, submit};

/// All that an account may have waiting here, but one.
const UNFILLABLE: usize = 999;

/// Returns how many jobs the verifier takes and gives back in three seconds.
async fn takes(verifier: &Running) -> u64 {
    let before = verifier.counters.taken.get();
    tokio::time::sleep(Duration::from_secs(3)).await;
    verifier.counters.taken.get() - before
}

/// Jobs that ask for more machines than there are stay in the ledger; they are not offered, taken and given back again and again. Once
/// their machines are there, they are answered.
#[tokio::test]
async fn jobs_that_ones_machines_are_too_few_for_go_through_no_queue() {
    let network = Arc::new(Network::new().await);
    let mine = [own_node(&network, 0, "only", right()).await];
    let _chorus = keep_speaking(&mine);
    let verifier = network.verifier(quick());
    let (account, pool) = (network.account.clone(), own(&network));
    let mut unfilled = Vec::new();
    for _ in 0..UNFILLABLE {
        unfilled.push(submit(&network, &account, &pool, Ask::quorum(3)).await);
    }
    let taken = takes(&verifier).await;
    println!("too few machines: {taken} takes in 3 s");
    assert_eq!(taken, 0);
    let more =
        [own_node(&network, 1, "second", right()).await, own_node(&network, 2, "third", right()).await];
    let _more = keep_speaking(&more);
    for job in &unfilled[..20] {
        assert_eq!(tokens(&network.end_of(*job).await), RIGHT);
    }
}

/// Jobs whose nodes can't do what they ask, which only a verifier finds out, are tried at a bounded rate.
#[tokio::test]
async fn jobs_that_ones_nodes_cannot_do_are_tried_at_a_bounded_rate() {
    let network = Arc::new(Network::new().await);
    let mut mine = Vec::new();
    for number in 0..3 {
        let features = [Feature::PrefixCache].into_iter().collect();
        let announced =
            Announced { machine: Some(format!("machine-{number}")), features, ..Announced::default() };
        let account = network.account.clone();
        mine.push(Node::start_for(&network, account, &format!("own-{number}"), announced, |_| right()).await);
    }
    let _chorus = keep_speaking(&mine);
    let verifier = network.verifier(quick());
    let (account, pool) = (network.account.clone(), own(&network));
    let warm = JobRequest { temperature: 1.0, ..network.request("What is 2 plus 2?") };
    let standby = Standby { lane: Lane::Later, ..Standby::never_held(&account) }.in_pool(&pool);
    let request = serde_json::to_vec(&warm).unwrap();
    for _ in 0..UNFILLABLE {
        let job = NewJob {
            account: account.clone(),
            standby: standby.clone(),
            ..network.new_job(&request, Ask::quorum(3))
        };
        assert_eq!(network.ledger.accept(job).await.unwrap(), Accepted::New { is_held: true });
    }
    // Each is tried three times before it counts as one that comes back often; three calm looks in a row are no chance.
    let mut calm = 0;
    for _ in 0..40 {
        let taken = takes(&verifier).await;
        println!("nodes that can't do it: {taken} takes in 3 s");
        calm = if taken <= 45 { calm + 1 } else { 0 };
        if calm == 3 {
            break;
        }
    }
    assert_eq!(calm, 3, "they are tried and tried");
    let job = submit(&network, &account, &pool, Ask::default()).await;
    assert_eq!(tokens(&network.end_of(job).await), RIGHT, "behind {UNFILLABLE} that can't be done");
}
