//! Both queues of a model beside each other: neither keeps the other waiting for more than its part.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use infera_broker::{Broker as _, topology};
use infera_ledger::{Group, LedgerError, Sweep, SweepQuestion, Sweeping};
use infera_types::ids::{JobId, VerifierId};
use infera_types::service::Lane;
use infera_types::time::Timestamp;
use infera_verifier::{Config, Seams};

use super::network::{Ask, Network, eventually, quick, tokens};
use super::node::{Act, Node, RIGHT, keep_speaking, line, right, three};

/// How many groups of three run at once on three nodes of 16 slots.
const GROUPS: usize = 16;

/// The sweeper would count jobs of the later lane as lost while the first lane's queue is empty: the rig accepts all for that.
fn unswept() -> Config {
    Config { sweep_ms: 3_600_000, ..quick() }
}

/// Three nodes that answer when they are told to.
async fn silent(network: &Arc<Network>) -> [Node; 3] {
    [
        Node::start(network, "a", |_| Act::Silence).await,
        Node::start(network, "b", |_| Act::Silence).await,
        Node::start(network, "c", |_| Act::Silence).await,
    ]
}

async fn submit(network: &Network, lane: Lane, jobs: usize) -> Vec<JobId> {
    let mut submitted = Vec::with_capacity(jobs);
    for _ in 0..jobs {
        submitted.push(network.submit_in(Ask::default(), lane).await);
    }
    submitted
}

/// The jobs that the first node was asked about, in that order, once there are as many as this.
async fn asked(nodes: &[Node], jobs: usize) -> Vec<JobId> {
    eventually("so many are asked", || async {
        let seen: Vec<_> = nodes[0].seen().iter().map(|assignment| assignment.job_id).collect();
        (seen.len() >= jobs).then_some(seen)
    })
    .await
}

/// Answers a job's assignments on all nodes, and waits for its end.
async fn finish(network: &Network, nodes: &[Node], job: JobId) {
    for node in nodes {
        let assignment = eventually("the node is asked", || async {
            node.seen().into_iter().find(|assignment| assignment.job_id == job)
        })
        .await;
        node.reply(&assignment, &line(&RIGHT)).await;
    }
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
}

async fn waiting(network: &Network, lane: Lane) -> u64 {
    network.broker.depth(&topology::jobs_in(&network.model, lane).name).await.unwrap().unwrap()
}

#[tokio::test]
async fn jobs_of_both_lanes_end() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(unswept());
    for lane in [Lane::Later, Lane::First, Lane::Later] {
        let job = network.submit_in(Ask::default(), lane).await;
        assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    }
}

/// All groups run jobs of the later lane, many more are held, and hundreds wait at the broker. Jobs of the first lane that
/// come then are asked before any of these, as soon as groups are free.
#[tokio::test]
async fn a_flooded_later_lane_lets_the_first_in_at_once() {
    let network = Arc::new(Network::new().await);
    let nodes = silent(&network).await;
    let _chorus = keep_speaking(&nodes);
    let verifier = network.verifier(unswept());
    submit(&network, Lane::Later, 150).await;
    let running = asked(&nodes, GROUPS).await;
    // What may wait here does.
    eventually("more are held than run", || async { (verifier.counters.taken.get() > 20).then_some(()) })
        .await;
    // The broker has been told by then how little the first lane may hold: what was free before counts no more.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut expected = HashSet::new();
    for round in 0..4 {
        let taken = verifier.counters.taken.get();
        let first = submit(&network, Lane::First, 2).await;
        eventually("the first lane's are taken", || async {
            (waiting(&network, Lane::First).await == 0 && verifier.counters.taken.get() >= taken + 2)
                .then_some(())
        })
        .await;
        expected.extend(first);
        for job in &running[2 * round..2 * round + 2] {
            finish(&network, &nodes, *job).await;
        }
        let asked = asked(&nodes, GROUPS + 2 * (round + 1)).await;
        let next: HashSet<_> = asked[GROUPS..].iter().copied().collect();
        assert_eq!(next, expected, "round {round}");
    }
    assert!(waiting(&network, Lane::Later).await > 50);
}

/// The first lane takes over all groups but the later lane's tenth, whatever ran before.
#[tokio::test]
async fn a_flooded_first_lane_leaves_the_later_one_its_tenth() {
    const ENDS: usize = 100;
    let network = Arc::new(Network::new().await);
    let nodes = silent(&network).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(unswept());
    let mut later: HashSet<_> = submit(&network, Lane::Later, GROUPS).await.into_iter().collect();
    asked(&nodes, GROUPS).await;
    submit(&network, Lane::First, 2 * ENDS).await;
    later.extend(submit(&network, Lane::Later, ENDS).await);
    for ended in 0..ENDS {
        let asked = asked(&nodes, ended + GROUPS).await;
        finish(&network, &nodes, asked[ended]).await;
    }
    let asked = asked(&nodes, ENDS + GROUPS).await;
    // Those that were asked before the first lane came count for none.
    let of_later = asked[GROUPS..].iter().filter(|job| later.contains(job)).count();
    assert!((ENDS / 20..=ENDS / 7).contains(&of_later), "{of_later} of {ENDS}");
}

/// A ledger's half whose jobs are all of the later lane.
#[derive(Debug)]
struct LaterSweeping(Arc<dyn Sweeping>);

#[async_trait]
impl Sweeping for LaterSweeping {
    async fn lease(
        &self,
        name: &str,
        holder: &VerifierId,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<bool, LedgerError> {
        self.0.lease(name, holder, now, ttl).await
    }

    async fn end_leases(&self, now: Timestamp) -> Result<(), LedgerError> {
        self.0.end_leases(now).await
    }

    async fn sweep(&self, question: &SweepQuestion, now: Timestamp) -> Result<Sweep, LedgerError> {
        let mut question = question.clone();
        question.empty_queues.retain(|(_, lane)| *lane == Lane::Later);
        question.empty_queues.iter_mut().for_each(|(_, lane)| *lane = Lane::First);
        let mut sweep = self.0.sweep(&question, now).await?;
        sweep.hand_out.iter_mut().for_each(|(_, _, lane)| *lane = Lane::Later);
        Ok(sweep)
    }

    async fn handed_out(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        self.0.handed_out(jobs, now).await
    }

    async fn groups(&self, jobs: &[JobId]) -> Result<Vec<Group>, LedgerError> {
        self.0.groups(jobs).await
    }
}

/// The later queue is lost while nothing can be taken; what waited there is in it again, and not in the other one.
#[tokio::test]
async fn jobs_whose_later_queue_was_lost_are_handed_out_to_it() {
    let network = Arc::new(Network::new().await);
    let jobs = submit(&network, Lane::Later, 3).await;
    network.broker.delete(&topology::jobs_in(&network.model, Lane::Later).name).await.unwrap();
    let sweeping = Arc::new(LaterSweeping(Arc::clone(&network.ledger) as _));
    let _verifier = network.verifier_on(quick(), Seams { sweeping, ..network.seams() });
    eventually("they are in their queue again", || async {
        let depth = network.broker.depth(&topology::jobs_in(&network.model, Lane::Later).name).await.unwrap();
        (depth == Some(3)).then_some(())
    })
    .await;
    assert_eq!(waiting(&network, Lane::First).await, 0);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    for job in jobs {
        assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    }
}
