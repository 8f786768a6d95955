//! A verifier that dies, or races, at the worst moments. Wherever it does, the job ends once, usage is posted once,
//! and every assignment is judged once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use infera_broker::{Broker as _, Published, topology};
use infera_ledger::{
    ArchiveIndex as _, Cancelled, JobIntake as _, JobOwner as _, PostingEntry, Settled, Standing as _,
    Sweeping as _, Verdict,
};
use infera_types::ids::{Digest, JobId, VerifierId};
use infera_types::job::{End, FailureReason, GroupRecord, Settlement};
use infera_types::knobs::Knobs;
use infera_types::messages::{Completion, Wire as _};
use infera_types::time::Timestamp;
use infera_verifier::{Config, Seams, Verifier};

use super::faults::{DeafSweeping, Gate, Stop, StopBroker, StopOwner};
use super::network::{Ask, Network, PATIENCE, eventually, failure, quick, tokens, verdicts_in};
use super::node::{Act, Node, RIGHT, keep_speaking, line, right, three};

fn stop_broker(network: &Network, passes: bool, gate: &Arc<Gate>) -> Seams {
    let broker = StopBroker {
        inner: Arc::clone(&network.broker) as _,
        prefix: "node.",
        passes,
        gate: Arc::clone(gate),
    };
    Seams { broker: Arc::new(broker), ..network.seams() }
}

fn stop_owner(network: &Network, stop: Stop, gate: &Arc<Gate>) -> Seams {
    let owner = StopOwner { inner: Arc::clone(&network.ledger) as _, stop, gate: Arc::clone(gate) };
    Seams { owner: Arc::new(owner), ..network.seams() }
}

async fn assert_paid_once(network: &Network, job: JobId) {
    let record = network.archived(job).await;
    let usages = record.postings.iter().filter(|one| matches!(one.entry, PostingEntry::Usage { .. })).count();
    assert_eq!(usages, 1);
    let verdicts = verdicts_in(&record.postings);
    let group = record.settlement.group.unwrap();
    assert_eq!(verdicts.len(), group.assignments.len());
    network.assert_replays().await;
}

#[tokio::test]
async fn death_before_dispatch() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let gate = Arc::new(Gate::default());
    let first = network.verifier_on(quick(), stop_broker(&network, false, &gate));
    let job = network.submit(Ask::quorum(3)).await;
    gate.reached().await;
    first.kill().await;
    let _second = network.verifier(quick());
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    assert!(nodes.iter().all(|node| node.seen().len() == 1), "the dead one's assignments never left");
    assert_paid_once(&network, job).await;
}

#[tokio::test]
async fn death_after_dispatch() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let gate = Arc::new(Gate::default());
    let first = network.verifier_on(quick(), stop_broker(&network, true, &gate));
    let job = network.submit(Ask::quorum(3)).await;
    for node in &nodes {
        node.assignment(0).await;
    }
    gate.reached().await;
    first.kill().await;
    let _second = network.verifier(quick());
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    assert!(nodes.iter().all(|node| node.seen().len() == 2), "asked by both owners");
    let asked: Vec<_> = nodes[0].seen().iter().map(|one| one.sample_key).collect();
    assert_eq!(asked[0], asked[1], "a job's noise doesn't depend on its owner");
    assert_paid_once(&network, job).await;
}

#[tokio::test]
async fn death_after_the_settlement_and_before_its_completion() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let gateway = topology::completions(&network.gateway);
    network.broker.declare(&gateway).await.unwrap();
    let mut completions = network.broker.consume(&gateway.name, 99).await.unwrap();
    let gate = Arc::new(Gate::default());
    let first = network.verifier_on(quick(), stop_owner(&network, Stop::AfterSettle, &gate));
    let job = network.submit(Ask::quorum(3)).await;
    gate.reached().await;
    first.kill().await;
    let settled = network.end_of(job).await;
    let _second = network.verifier(quick());
    let heard = loop {
        let delivery = completions.next().await.unwrap();
        if delivery.message.kind == Completion::KIND {
            break Completion::from_message(&delivery.message).unwrap().settlement;
        }
    };
    assert_eq!((heard.job_id, &heard.end), (job, &settled.end), "the second one publishes it again");
    assert!(nodes.iter().all(|node| node.seen().len() == 1));
    // The dead one's group is closed by the sweeper: all were in, so all are judged.
    let verdicts = network.verdicts(job).await;
    assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Valid), "{verdicts:?}");
    assert_paid_once(&network, job).await;
    assert_eq!(network.broker.depth(&topology::jobs(&network.model).name).await.unwrap(), Some(0));
}

#[tokio::test]
async fn death_between_the_settlement_and_the_group_s_close() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, Act::Silence).await;
    let _chorus = keep_speaking(&nodes);
    let config = Config { assignment_base_ms: 1_500, assignment_slack: 0.0, ..quick() };
    let gate = Arc::new(Gate::default());
    let first = network.verifier_on(config.clone(), stop_owner(&network, Stop::BeforePost, &gate));
    let job = network.submit(Ask::default()).await;
    gate.reached().await;
    first.kill().await;
    assert!(!network.is_closed(job).await);
    let _second = network.verifier(config);
    let verdicts = network.verdicts(job).await;
    let of = |node: &Node| verdicts.iter().find(|(id, _)| *id == node.id).unwrap().1;
    assert_eq!((of(&nodes[0]), of(&nodes[1])), (Verdict::Valid, Verdict::Valid));
    assert_eq!(of(&nodes[2]), Verdict::Neutral, "its answer may have died with the owner");
    assert_paid_once(&network, job).await;
}

#[tokio::test]
async fn death_between_a_cancel_and_the_group_s_close() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, Act::Silence).await;
    let _chorus = keep_speaking(&nodes);
    let config = Config { assignment_base_ms: 3_000, assignment_slack: 0.0, ..quick() };
    let gate = Arc::new(Gate::default());
    let first = network.verifier_on(config.clone(), stop_owner(&network, Stop::BeforePost, &gate));
    let job = network.submit(Ask::quorum(3)).await;
    eventually("two are in", || async { (first.counters.replicas.get() == 2).then_some(()) }).await;
    let cancelled = network.ledger.cancel(&network.account, job, Timestamp::now()).await.unwrap();
    assert!(matches!(cancelled, Cancelled::Now(_)));
    gate.reached().await;
    first.kill().await;
    assert!(!network.is_closed(job).await);
    assert_eq!(network.ledger.locate(job).await.unwrap(), None, "its verdicts are not in yet");
    let _second = network.verifier(config);
    let record = network.archived(job).await;
    assert_eq!(record.settlement.end, End::cancelled());
    let verdicts = verdicts_in(&record.postings);
    let of = |node: &Node| verdicts.iter().find(|(id, _)| *id == node.id).unwrap().1;
    assert_eq!((of(&nodes[0]), of(&nodes[1])), (Verdict::Valid, Verdict::Valid), "in before the cancel");
    network.assert_replays().await;
}

#[tokio::test]
async fn a_job_that_two_settle_is_closed_by_the_one_that_won() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let gate = Arc::new(Gate::default());
    let _verifier = network.verifier_on(quick(), stop_owner(&network, Stop::BeforeSettle, &gate));
    let job = network.submit(Ask::quorum(3)).await;
    gate.reached().await;
    // Another one that lives, as after a notice that the broker gave out twice.
    let (winner, now) = (VerifierId::fresh(), Timestamp::now());
    assert!(network.ledger.lease(winner.as_str(), &winner, now, PATIENCE).await.unwrap());
    let group = GroupRecord {
        verifier: winner,
        assignments: Vec::new(),
        deadline_ms: now.after(PATIENCE),
        temperature: 0.0,
        sample_key: Digest::of(b"key"),
        choice: 0,
        knobs: Knobs::default(),
        prompt_tokens: Vec::new(),
        payment: infera_types::money::Payment::Free,
        is_for_chosen_nodes: false,
    };
    let settlement = Settlement {
        job_id: job,
        account: network.account.clone(),
        model: network.model.clone(),
        gateway: network.gateway.clone(),
        end: End::Expired,
        group: Some(group),
        settled_ms: now,
    };
    assert_eq!(network.ledger.settle(&settlement).await.unwrap(), Settled::Now);
    gate.open();
    eventually("the loser's nodes are paid", || async {
        network.ledger.project(100, Timestamp::now()).await.unwrap();
        let paid = network.balance_of(&nodes[0].id).await.millipoints;
        (paid > 0).then_some(())
    })
    .await;
    assert!(!network.is_closed(job).await, "the winner has posted nothing yet");
}

#[tokio::test]
async fn a_drain_leaves_an_open_group_to_others() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, Act::Silence).await;
    let _chorus = keep_speaking(&nodes);
    let first = network.verifier(Config { drain_late_ms: 10, ..quick() });
    let job = network.submit(Ask::default()).await;
    network.end_of(job).await;
    first.drain().await;
    assert!(!network.is_closed(job).await, "the third still has time");
    let late = nodes[2].assignment(0).await;
    assert_eq!(nodes[2].reply(&late, &line(&RIGHT)).await, Published::Unroutable);
    nodes[2].reply_to_any(&late, &line(&RIGHT)).await;
    let _second = network.verifier(quick());
    eventually("it is paid", || async {
        (network.balance_of(&nodes[2].id).await.millipoints > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_replica_for_a_dead_owner_is_scored_by_another() {
    for (said, is_disputed) in [(RIGHT, false), ([300, 400, 302], true)] {
        let network = Arc::new(Network::new().await);
        let nodes = three(&network, Act::Silence).await;
        let _chorus = keep_speaking(&nodes);
        let first = network.verifier(quick());
        let job = network.submit(Ask::default()).await;
        network.end_of(job).await;
        let late = nodes[2].assignment(0).await;
        first.kill().await;
        eventually("its queue is gone", || async {
            (nodes[2].reply(&late, &line(&said)).await == Published::Unroutable).then_some(())
        })
        .await;
        let second = network.verifier(quick());
        assert_eq!(nodes[2].reply_to_any(&late, &line(&said)).await, Published::Confirmed);
        // And once more: nodes publish it once, but brokers may repeat it.
        assert_eq!(nodes[2].reply_to_any(&late, &line(&said)).await, Published::Confirmed);
        eventually("both are read", || async { (second.counters.replicas_stray.get() == 2).then_some(()) })
            .await;
        eventually("it is posted", || async {
            (network.balance_of(&nodes[2].id).await.postings == 1).then_some(())
        })
        .await;
        assert_eq!(network.balance_of(&nodes[2].id).await.millipoints > 0, !is_disputed);
        assert_eq!(network.is_disputed(job).await, is_disputed);
    }
}

#[tokio::test]
async fn a_stray_of_a_job_that_goes_on_is_left_to_its_next_owner() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let gate = Arc::new(Gate::default());
    let first = network.verifier_on(quick(), stop_broker(&network, true, &gate));
    let job = network.submit(Ask::default()).await;
    let lost = nodes[2].assignment(0).await;
    first.kill().await;
    nodes[2].reply_to_any(&lost, &line(&[300, 400, 302])).await;
    let second = network.verifier(quick());
    eventually("it is read", || async { (second.counters.replicas_stray.get() == 1).then_some(()) }).await;
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    assert_paid_once(&network, job).await;
    assert!(!network.is_disputed(job).await);
}

#[tokio::test]
async fn a_cancel_that_commits_first_wins_over_an_answer() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let gate = Arc::new(Gate::default());
    let verifier = network.verifier_on(quick(), stop_owner(&network, Stop::BeforeSettle, &gate));
    let job = network.submit(Ask::quorum(3)).await;
    gate.reached().await;
    let cancelled = network.ledger.cancel(&network.account, job, Timestamp::now()).await.unwrap();
    assert!(matches!(cancelled, Cancelled::Now(_)));
    gate.open();
    eventually("its group is closed", || async {
        (verifier.counters.groups_closed.get() == 1).then_some(())
    })
    .await;
    assert_eq!(network.end_of(job).await.end, End::cancelled());
    network.assert_replays().await;
    for node in &nodes {
        assert!(network.balance_of(&node.id).await.millipoints > 0, "delivered before the cancel");
    }
    assert_eq!(
        network.ledger.balance(network.account.as_str()).await.unwrap().postings,
        0,
        "nothing to pay for"
    );
}

#[tokio::test]
async fn a_repeated_notice_starts_no_second_life() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let request = serde_json::to_vec(&network.request("What is 2 plus 2?")).unwrap();
    let job = network.accept(&request, Ask::quorum(3)).await;
    for _ in 0..5 {
        network.notify(job).await;
    }
    let _verifiers = [network.verifier(quick()), network.verifier(quick())];
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    network.notify(job).await;
    assert_paid_once(&network, job).await;
    assert!(nodes.iter().all(|node| node.seen().len() == 1));
    eventually("nothing is left", || async {
        let depth = network.broker.depth(&topology::jobs(&network.model).name).await.unwrap();
        (depth == Some(0)).then_some(())
    })
    .await;
}

/// How a verifier is changed, how often it panics then, and why.
type Breaking = (fn(Verifier) -> Verifier, u64, &'static str);

#[tokio::test]
async fn a_job_that_breaks_its_verifiers_is_poison() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let gate = Arc::new(Gate::default());
    // It breaks them at its end: where nodes run elsewhere, its trial is over long before.
    let changes: [Breaking; 2] = [
        (|verifier| verifier, 6, "the first handout and five lost ones"),
        (Verifier::beside_nodes, 3, "beside others, and twice alone"),
    ];
    for (change, panics, why) in changes {
        let seams = stop_owner(&network, Stop::PanicOnSuccess, &gate);
        let verifier = network.verifier_as(quick(), seams, change);
        let job = network.submit(Ask::default()).await;
        assert_eq!(failure(&network.end_of(job).await), FailureReason::Poison);
        assert_eq!(verifier.counters.panics.get(), panics, "{why}");
        verifier.drain().await;
    }
}

#[tokio::test]
async fn without_its_lease_a_verifier_lets_go_and_begins_anew() {
    let network = Arc::new(Network::new().await);
    let nodes = [
        Node::start(&network, "a", |_| right()).await,
        Node::start(&network, "b", |_| right()).await,
        Node::start(&network, "c", |number| if number == 0 { Act::Silence } else { right() }).await,
    ];
    let _chorus = keep_speaking(&nodes);
    let sweeping = DeafSweeping::new(Arc::clone(&network.ledger) as _);
    let is_deaf = Arc::clone(&sweeping.is_deaf);
    let seams = Seams { sweeping: Arc::new(sweeping), ..network.seams() };
    let verifier = network.verifier_on(quick(), seams);
    let job = network.submit(Ask::quorum(3)).await;
    let before = nodes[2].assignment(0).await;
    is_deaf.store(true, Ordering::SeqCst);
    eventually("the lease is lost", || async { (verifier.counters.leases_lost.get() == 1).then_some(()) })
        .await;
    is_deaf.store(false, Ordering::SeqCst);
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    let after = nodes[2].assignment(1).await;
    assert_ne!(before.verifier, after.verifier);
    assert_paid_once(&network, job).await;
    verifier.drain().await;
}

#[tokio::test]
async fn a_verifier_whose_sweeper_broke_begins_anew() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let sweeping = DeafSweeping::new(Arc::clone(&network.ledger) as _);
    let breaks_once = Arc::clone(&sweeping.breaks_once);
    let verifier = network.verifier_on(quick(), Seams { sweeping: Arc::new(sweeping), ..network.seams() });
    network.end_of(network.submit(Ask::default()).await).await;
    breaks_once.store(true, Ordering::SeqCst);
    eventually("it broke", || async { (verifier.counters.panics.get() == 1).then_some(()) }).await;
    // A job without a notice is found by a sweeper only.
    let request = serde_json::to_vec(&network.request("What is 2 plus 2?")).unwrap();
    let job = network.accept(&request, Ask::default()).await;
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    verifier.drain().await;
}
