//! Jobs for nodes of one's own, private nodes, groups, and backstops of the network.

use std::sync::Arc;
use std::time::Duration;

use infera_ledger::{
    Accepted, Feeding as _, GroupBounds, GroupChange, GroupMade, GroupOrder, JobIntake as _, JobReader as _,
    NewGroup, NewJob, NodeChange, NodeGroupBook as _, NodePool, NodeRoster as _, PoolBook as _, PostingEntry,
    Standby, Standing as _, Verdict, Whose,
};
use infera_types::ids::{AccountId, GroupId, JobId, OwnerId};
use infera_types::job::{End, FailureReason, Settlement, VerificationPolicy, VerificationStatus};
use infera_types::messages::Version;
use infera_types::service::Lane;
use infera_types::time::Timestamp;
use infera_verifier::Config;

use super::network::{Ask, Network, eventually, failure, quick, tokens, verification};
use super::node::{Act, Announced, Node, RIGHT, keep_speaking, line, right, three};

/// Ten times what a verifier needs to notice what it is to notice.
const A_WHILE: Duration = Duration::from_secs(1);

/// Accepts a job of `account` for a pool as a gateway does, and publishes its notice if it isn't held.
pub(super) async fn submit(network: &Network, account: &AccountId, pool: &NodePool, ask: Ask) -> JobId {
    let request = serde_json::to_vec(&network.request("What is 2 plus 2?")).unwrap();
    let lane = if ask.synchronous { Lane::First } else { Lane::Later };
    let standby = Standby { lane, ..Standby::never_held(account) }.in_pool(pool);
    let job = NewJob { account: account.clone(), standby, ..network.new_job(&request, ask) };
    let id = job.id;
    let is_held = !ask.synchronous;
    assert_eq!(network.ledger.accept(job).await.unwrap(), Accepted::New { is_held });
    if !is_held {
        network.notify_own(id, Version::NEWEST).await;
    }
    id
}

/// Three nodes of the client's own account, each on a machine of its own.
async fn three_own(network: &Arc<Network>, act: Act) -> [Node; 3] {
    let mut nodes = Vec::new();
    for number in 0..3 {
        let act = act.clone();
        nodes.push(own_node(network, number, &format!("machine-{number}"), act).await);
    }
    nodes.try_into().ok().unwrap()
}

pub(super) async fn own_node(network: &Arc<Network>, number: u32, machine: &str, act: Act) -> Node {
    let announced = Announced { machine: Some(machine.to_owned()), ..Announced::default() };
    let account = network.account.clone();
    Node::start_for(network, account, &format!("own-{number}"), announced, move |_| act.clone()).await
}

pub(super) fn own(network: &Network) -> NodePool {
    NodePool::Account(network.account.clone())
}

fn waited_for() -> Ask {
    Ask { synchronous: true, ..Ask::default() }
}

/// A verifier that waits for the first heartbeats before it tells a client of too few nodes.
fn patient() -> Config {
    Config { warm_up_ms: 60_000, ..quick() }
}

fn message(settlement: &Settlement) -> &str {
    match &settlement.end {
        End::Failed { message, .. } => message,
        end => panic!("not failed: {end:?}"),
    }
}

#[tokio::test]
async fn a_job_for_ones_own_nodes_is_compared_among_them_and_goes_nowhere_else() {
    let network = Arc::new(Network::new().await);
    let strangers = three(&network, right()).await;
    let mine = three_own(&network, right()).await;
    let (_theirs, _own) = (keep_speaking(&strangers), keep_speaking(&mine));
    let _verifier = network.verifier(patient());
    for ask in [waited_for(), Ask::quorum(3), Ask { synchronous: true, ..Ask::quorum(3) }] {
        let account = network.account.clone();
        let job = submit(&network, &account, &own(&network), ask).await;
        let settlement = network.end_of(job).await;
        assert_eq!(tokens(&settlement), RIGHT);
        let said = verification(&settlement);
        assert_eq!((said.status, said.backstop), (VerificationStatus::Verified, None));
        let verdicts = network.verdicts(job).await;
        assert!(verdicts.iter().all(|(node, _)| mine.iter().any(|one| one.id == *node)), "{verdicts:?}");
        assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Valid), "{verdicts:?}");
    }
    assert!(strangers.iter().all(|node| node.seen().is_empty()));
    // And the client's own nodes take no part in its other jobs.
    let job = network.submit(Ask::quorum(3)).await;
    network.end_of(job).await;
    assert!(strangers.iter().all(|node| node.seen().len() == 1));
}

/// A lie of one of one's own machines is outvoted like a stranger's.
#[tokio::test]
async fn ones_own_nodes_are_compared() {
    let network = Arc::new(Network::new().await);
    let mine = [
        own_node(&network, 0, "a", right()).await,
        own_node(&network, 1, "b", super::node::wrong(310)).await,
        own_node(&network, 2, "c", right()).await,
    ];
    let _chorus = keep_speaking(&mine);
    let _verifier = network.verifier(patient());
    let account = network.account.clone();
    let job = submit(&network, &account, &own(&network), waited_for()).await;
    let settlement = network.end_of(job).await;
    assert_eq!((tokens(&settlement), verification(&settlement).replicas.agreed), (&RIGHT[..], 2));
}

#[tokio::test]
async fn too_few_of_ones_own_are_told_in_numbers() {
    let network = Arc::new(Network::new().await);
    let strangers = three(&network, right()).await;
    // Three nodes on two machines are two.
    let mine = [
        own_node(&network, 0, "one", right()).await,
        own_node(&network, 1, "one", right()).await,
        own_node(&network, 2, "two", right()).await,
    ];
    let (_theirs, _own) = (keep_speaking(&strangers), keep_speaking(&mine));
    let _verifier = network.verifier(quick());
    let account = network.account.clone();
    let end = eventually("its nodes are known", || async {
        let job = submit(&network, &account, &own(&network), waited_for()).await;
        let end = network.end_of(job).await;
        assert_eq!(failure(&end), FailureReason::InsufficientNodes);
        message(&end).contains(": 3 do, on 2 different machines, and the request asks for 3.").then_some(end)
    })
    .await;
    assert!(message(&end).starts_with("Too few nodes of this account serve this model"), "{end:?}");
    let alone = VerificationPolicy { quorum: 1, replicas: 1 };
    let job = submit(&network, &account, &own(&network), Ask { policy: alone, ..waited_for() }).await;
    assert_eq!(verification(&network.end_of(job).await).status, VerificationStatus::Unverified);
    let stranger = network.runner("nobody").await;
    let job = submit(&network, &stranger, &NodePool::Account(stranger.clone()), waited_for()).await;
    assert!(message(&network.end_of(job).await).contains(": 0 do, on 0 different machines"));
    assert!(strangers.iter().all(|node| node.seen().is_empty()), "none went to strangers");
}

/// A job that no client waits for waits in the ledger until its nodes are there, taken by no verifier meanwhile.
#[tokio::test]
async fn a_job_for_later_waits_until_its_own_nodes_are_there() {
    let network = Arc::new(Network::new().await);
    let strangers = three(&network, right()).await;
    let _theirs = keep_speaking(&strangers);
    let verifier = network.verifier(quick());
    let account = network.account.clone();
    let job = submit(&network, &account, &own(&network), Ask::default()).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(verifier.counters.taken.get(), 0);
    let mine = three_own(&network, right()).await;
    let _own = keep_speaking(&mine);
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    assert!(strangers.iter().all(|node| node.seen().is_empty()));
}

/// An account's nodes are busy and hundreds of its jobs wait for them: that holds up neither strangers' jobs nor another account's
/// own ones, and no verifier keeps the waiting ones.
#[tokio::test]
async fn a_backlog_for_busy_nodes_of_ones_own_is_in_nobodys_way() {
    const BACKLOG: usize = 300;
    let network = Arc::new(Network::new().await);
    let strangers = three(&network, right()).await;
    let busy = three_own(&network, Act::Silence).await;
    let other = network.runner("other").await;
    let mut free = Vec::new();
    for number in 0..3 {
        let announced = Announced { machine: Some(format!("free-{number}")), ..Announced::default() };
        let name = format!("free-{number}");
        free.push(Node::start_for(&network, other.clone(), &name, announced, |_| right()).await);
    }
    let _chorus = (keep_speaking(&strangers), keep_speaking(&busy), keep_speaking(&free));
    let verifier = network.verifier(quick());
    let (account, pool) = (network.account.clone(), own(&network));
    let mut backlog = Vec::new();
    for number in 0..BACKLOG {
        let ask = if number % 2 == 0 { waited_for() } else { Ask::default() };
        backlog.push(submit(&network, &account, &pool, ask).await);
    }
    // As many as its nodes have slots are at work; the others come back to the ledger.
    eventually("its nodes are full", || async { (busy[0].seen().len() >= 16).then_some(()) }).await;
    eventually("the others are held", || async {
        let kinds = network.ledger.waiting(u32::MAX).await.unwrap();
        let held: u64 = kinds.iter().filter(|kind| kind.lane == Lane::Own).map(|kind| kind.held).sum();
        (held >= (BACKLOG - 40) as u64).then_some(())
    })
    .await;
    for _ in 0..5 {
        let job = network.submit(Ask::quorum(3)).await;
        assert_eq!(tokens(&network.end_of(job).await), RIGHT, "a stranger's job");
        for ask in [waited_for(), Ask::default()] {
            let job = submit(&network, &other, &NodePool::Account(other.clone()), ask).await;
            assert_eq!(tokens(&network.end_of(job).await), RIGHT, "another account's own");
        }
    }
    // It doesn't take and give back the same jobs all the time.
    let taken = verifier.counters.taken.get();
    tokio::time::sleep(A_WHILE).await;
    let more = verifier.counters.taken.get() - taken;
    assert!(more <= 40, "{more} takes in a second in which nothing could be done");
    // What ends makes room for the next.
    let first = busy[0].seen()[0].job_id;
    for node in &busy {
        let assignment = node.seen().into_iter().find(|one| one.job_id == first).unwrap();
        node.reply(&assignment, &line(&RIGHT)).await;
    }
    assert_eq!(tokens(&network.end_of(first).await), RIGHT);
    eventually("the next is asked", || async { (busy[0].seen().len() >= 17).then_some(()) }).await;
    drop(backlog);
}

/// More jobs of an account than one reading shows ask for more machines than it has. They wait, and its other jobs go on.
#[tokio::test]
async fn jobs_that_ones_own_nodes_are_too_few_for_hold_up_no_others() {
    const UNFILLED: usize = 300;
    let network = Arc::new(Network::new().await);
    let mine = [own_node(&network, 0, "only", right()).await];
    let _chorus = keep_speaking(&mine);
    let _verifier = network.verifier(quick());
    let (account, pool) = (network.account.clone(), own(&network));
    let mut unfilled = Vec::new();
    for _ in 0..UNFILLED {
        unfilled.push(submit(&network, &account, &pool, Ask::quorum(3)).await);
    }
    let alone = Ask { policy: VerificationPolicy { quorum: 1, replicas: 1 }, ..Ask::default() };
    for _ in 0..5 {
        let job = submit(&network, &account, &pool, alone).await;
        assert_eq!(tokens(&network.end_of(job).await), RIGHT, "behind {UNFILLED} that can't be filled");
    }
    assert!(network.ledger.settlements(&unfilled).await.unwrap().is_empty(), "they wait");
    // The machines that they wait for come.
    let more =
        [own_node(&network, 1, "second", right()).await, own_node(&network, 2, "third", right()).await];
    let _more = keep_speaking(&more);
    for job in unfilled {
        assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    }
}

/// A private node is no room for strangers: not drawn, not counted, not waited for.
#[tokio::test]
async fn a_private_node_serves_its_owner_alone() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask::quorum(3)).await;
    network.end_of(job).await;
    let runner = network.runner("c").await;
    let whose = Whose::Of(OwnerId::of_account(&runner));
    let change = NodeChange::Restrict { is_private: true };
    network.ledger.change_node(&whose, "c", &change, Timestamp::now()).await.unwrap().unwrap();
    eventually("there are too few for strangers", || async {
        let job = network.submit(Ask { synchronous: true, ..Ask::quorum(3) }).await;
        matches!(network.end_of(job).await.end, End::Failed { .. }).then_some(())
    })
    .await;
    let before = nodes[2].seen().len();
    let alone = VerificationPolicy { quorum: 1, replicas: 1 };
    let ask = Ask { policy: alone, ..waited_for() };
    let job = submit(&network, &runner, &NodePool::Account(runner.clone()), ask).await;
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    assert_eq!(nodes[2].seen().len(), before + 1);
}

const BOUNDS: GroupBounds = GroupBounds {
    groups_max: 9,
    nodes_max: 9,
    accounts_max: 9,
    uses_max: 9,
    invitations_max: 9,
    memberships_max: 9,
};

async fn change(network: &Network, by: &AccountId, group: &GroupId, change: GroupChange) {
    let order = GroupOrder { by: by.clone(), group: group.clone(), change };
    network.ledger.change_group(&order, &BOUNDS, Timestamp::now()).await.unwrap();
}

/// A group's nodes serve the accounts that may use it, once their owners consent, and no longer than they may.
#[tokio::test]
async fn a_group_serves_those_who_may_use_it() {
    let network = Arc::new(Network::new().await);
    let members = three(&network, right()).await;
    let others = [
        Node::start(&network, "d", |_| right()).await,
        Node::start(&network, "e", |_| right()).await,
        Node::start(&network, "f", |_| right()).await,
    ];
    let _chorus = (keep_speaking(&members), keep_speaking(&others));
    let _verifier = network.verifier(quick());
    let owner = network.runner("a").await;
    let new = NewGroup { id: GroupId::fresh(), account: owner.clone(), name: "lab".to_owned() };
    assert_eq!(network.ledger.create_group(&new, &BOUNDS, Timestamp::now()).await.unwrap(), GroupMade::Made);
    let (group, pool) = (&new.id, NodePool::Group(new.id.clone()));
    let account = network.account.clone();
    let ended = async |account: &AccountId| {
        let job = submit(&network, account, &pool, Ask { synchronous: true, ..Ask::quorum(3) }).await;
        network.end_of(job).await
    };
    for node in &members {
        change(&network, &owner, group, GroupChange::AddNode(node.id.to_string())).await;
    }
    assert_eq!(failure(&ended(&owner).await), FailureReason::InsufficientNodes, "two have not consented");
    for name in ["b", "c"] {
        let runner = network.runner(name).await;
        change(&network, &runner, group, GroupChange::AddNode(name.to_owned())).await;
    }
    eventually("all are in", || async {
        matches!(ended(&owner).await.end, End::Succeeded { .. }).then_some(())
    })
    .await;
    let end = ended(&account).await;
    assert!(message(&end).starts_with("Too few nodes of this group"), "it may not use it: {end:?}");
    change(&network, &owner, group, GroupChange::Allow(account.clone())).await;
    eventually("it may", || async {
        matches!(ended(&account).await.end, End::Succeeded { .. }).then_some(())
    })
    .await;
    assert_worthless(&network, ended(&account).await.job_id).await;
    let runner = network.runner("c").await;
    change(&network, &runner, group, GroupChange::RemoveNode("c".to_owned())).await;
    eventually("one has left", || async {
        matches!(ended(&account).await.end, End::Failed { .. }).then_some(())
    })
    .await;
    assert!(others.iter().all(|node| node.seen().is_empty()));
}

/// The verdicts on a job are VALID, earn nothing, and neither they nor those before made a standing. Its account could be another
/// one in the hand that runs the nodes.
async fn assert_worthless(network: &Network, job: JobId) {
    let postings = network.archived(job).await.postings;
    let earned: Vec<_> = postings
        .iter()
        .filter_map(|posting| match posting.entry {
            PostingEntry::Verdict { verdict, millipoints, .. } => Some((verdict, millipoints)),
            PostingEntry::Usage { .. } => None,
        })
        .collect();
    assert_eq!(earned, [(Verdict::Valid, 0); 3]);
    network.assert_replays().await;
    assert_eq!(network.ledger.standings().await.unwrap(), [], "the network learned nothing of its nodes");
}

/// A backstop answers where two owners are all there are, is told of, counted, and paid nothing; with a third owner it rests.
#[tokio::test]
async fn a_backstop_helps_out_and_says_so() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    network.ledger.set_backstop("c", true, Timestamp::now()).await.unwrap().unwrap();
    let verifier = network.verifier(quick());
    let job = network.submit(Ask::quorum(3)).await;
    let settlement = network.end_of(job).await;
    assert_eq!(verification(&settlement).backstop, Some(1));
    assert_eq!(verifier.counters.backstops.get(), 1);
    let verdicts = network.verdicts(job).await;
    assert!(verdicts.contains(&(nodes[2].id.clone(), Verdict::Valid)), "{verdicts:?}");
    eventually("the others are paid", || async {
        (network.balance_of(&nodes[0].id).await.millipoints > 0).then_some(())
    })
    .await;
    assert_eq!(network.balance_of(&nodes[2].id).await.millipoints, 0);

    let more = [Node::start(&network, "d", |_| right()).await];
    let _fourth = keep_speaking(&more);
    eventually("the fourth is asked", || async {
        network.end_of(network.submit(Ask::quorum(3)).await).await;
        (!more[0].seen().is_empty()).then_some(())
    })
    .await;
    let before = nodes[2].seen().len();
    for _ in 0..8 {
        let settlement = network.end_of(network.submit(Ask::quorum(3)).await).await;
        assert_eq!(verification(&settlement).backstop, None);
    }
    assert_eq!(nodes[2].seen().len(), before);
}
