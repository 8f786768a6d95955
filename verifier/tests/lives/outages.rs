//! What is away for a while, or floods, stops nothing else; and whoever stops leaves nothing behind that others wait for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use infera_broker::{Broker as _, Message, Published, topology};
use infera_ledger::{LedgerError, PostingEntry, Sweeping as _, Verdict};
use infera_types::ids::VerifierId;
use infera_types::job::End;
use infera_types::messages::{Heartbeat, RefusalReason, Version, Wire as _};
use infera_types::time::Timestamp;
use infera_verifier::{Config, Seams};

use super::faults::{FailingArchive, Gate, NoConnections, NotingSweeping, StopBroker};
use super::moody::{MoodyBroker, MoodyOwner, MoodySweeping};
use super::network::{Ask, Network, Running, eventually, quick, tokens};
use super::node::{Act, Node, RIGHT, keep_speaking, line, right, three};

fn away() -> LedgerError {
    LedgerError::Unavailable("as the test wants".to_owned())
}

/// A queue whose job is being taken looks as if it had lost it: without sweeps there is one notice.
fn without_sweeps() -> Config {
    Config { sweep_ms: 600_000, ..quick() }
}

/// What a node says that comes from another year.
async fn say_something_unknown(node: &Node, network: &Network, times: u32) {
    let known =
        Heartbeat { models: Vec::new(), queue: String::new(), machine: None, speaks: Version::NEWEST }
            .to_message("1");
    for number in 0..times {
        let message = Message { id: number.to_string(), kind: "next year's".to_owned(), ..known.clone() };
        let published = network.broker.publish(&topology::heartbeat_of(&node.id), message).await;
        assert_eq!(published, Published::Confirmed);
    }
}

#[tokio::test]
async fn a_flood_of_unknown_messages_stops_no_job() {
    const FLOOD: u32 = 500;
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let gate = Arc::new(Gate::default());
    let broker = StopBroker {
        inner: Arc::clone(&network.broker) as _,
        prefix: "parked",
        passes: false,
        gate: Arc::clone(&gate),
    };
    let verifier = network.verifier_on(quick(), Seams { broker: Arc::new(broker), ..network.seams() });
    network.end_of(network.submit(Ask::default()).await).await;

    say_something_unknown(&nodes[0], &network, FLOOD).await;
    gate.reached().await;
    // None of them can be parked now, and the next job's replicas come behind them all.
    assert_eq!(tokens(&network.end_of(network.submit(Ask::quorum(3)).await).await), RIGHT);
    let dropped = verifier.counters.messages_unparked.get();
    assert!(dropped > 0 && dropped < u64::from(FLOOD), "{dropped}");
    gate.open();
    eventually("those that waited are parked", || async {
        let parked = verifier.counters.messages_parked.get();
        (parked + verifier.counters.messages_unparked.get() == u64::from(FLOOD)).then_some(())
    })
    .await;
    let parked = verifier.counters.messages_parked.get();
    assert_eq!(network.broker.depth(&topology::parked().name).await.unwrap(), Some(parked));
}

#[tokio::test]
async fn a_parking_queue_that_went_is_made_anew() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let verifier = network.verifier(quick());
    network.end_of(network.submit(Ask::default()).await).await;
    let parked = topology::parked().name;
    for _ in 0..2 {
        eventually("it is there", || async { network.broker.depth(&parked).await.unwrap() }).await;
        network.broker.delete(&parked).await.unwrap();
        say_something_unknown(&nodes[0], &network, 1).await;
        eventually("it is parked", || async {
            (network.broker.depth(&parked).await.unwrap() == Some(1)).then_some(())
        })
        .await;
    }
    assert_eq!(verifier.counters.messages_parked.get(), 2);
    assert_eq!(verifier.counters.messages_unparked.get(), 0);
}

#[tokio::test]
async fn no_lease_is_taken_before_nodes_can_be_heard() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let broker = Arc::new(MoodyBroker::new(Arc::clone(&network.broker) as _, "replicas."));
    broker.is_away.store(true, Ordering::SeqCst);
    let sweeping = Arc::new(MoodySweeping::new(Arc::clone(&network.ledger) as _, []));
    let seams =
        Seams { broker: Arc::clone(&broker) as _, sweeping: Arc::clone(&sweeping) as _, ..network.seams() };
    let verifier = network.verifier_on(quick(), seams);
    eventually("it has tried again and again", || async {
        (broker.refused.load(Ordering::SeqCst) >= 5).then_some(())
    })
    .await;
    assert_eq!(*sweeping.leases.lock().unwrap(), [""; 0]);
    broker.is_away.store(false, Ordering::SeqCst);
    assert_eq!(tokens(&network.end_of(network.submit(Ask::default()).await).await), RIGHT);
    assert_eq!(verifier.counters.leases_lost.get(), 0);
    verifier.drain().await;
}

#[tokio::test]
async fn a_verifier_that_waits_for_the_broker_can_be_stopped() {
    let network = Arc::new(Network::new().await);
    let broker = Arc::new(MoodyBroker::new(Arc::clone(&network.broker) as _, "replicas."));
    broker.is_away.store(true, Ordering::SeqCst);
    let verifier =
        network.verifier_on(quick(), Seams { broker: Arc::clone(&broker) as _, ..network.seams() });
    eventually("it tries", || async { (broker.refused.load(Ordering::SeqCst) > 0).then_some(()) }).await;
    verifier.drain().await;
}

/// A verifier that looks for the groups of strays by `sweeping`, for a job whose owner was killed and whose third node
/// answers now; with the broker, which counts the strays that it gives out.
async fn with_a_stray(
    network: &Arc<Network>,
    third: &Node,
    sweeping: &Arc<MoodySweeping>,
) -> (Running, Arc<MoodyBroker>) {
    let first = network.verifier(quick());
    let job = network.submit(Ask::default()).await;
    network.end_of(job).await;
    let late = third.assignment(0).await;
    first.kill().await;
    let broker = Arc::new(MoodyBroker::new(Arc::clone(&network.broker) as _, "replicas.any"));
    let seams =
        Seams { broker: Arc::clone(&broker) as _, sweeping: Arc::clone(sweeping) as _, ..network.seams() };
    let second = network.verifier_on(quick(), seams);
    eventually("it has somewhere to go", || async {
        (third.reply_to_any(&late, &line(&RIGHT)).await == Published::Confirmed).then_some(())
    })
    .await;
    (second, broker)
}

#[tokio::test]
async fn a_stray_waits_in_hand_while_the_ledger_is_away() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, Act::Silence).await;
    let _chorus = keep_speaking(&nodes);
    let failures = std::iter::repeat_with(away).take(5);
    let sweeping = Arc::new(MoodySweeping::new(Arc::clone(&network.ledger) as _, failures));
    let (_verifier, broker) = with_a_stray(&network, &nodes[2], &sweeping).await;
    eventually("its node is paid", || async {
        (network.balance_of(&nodes[2].id).await.millipoints > 0).then_some(())
    })
    .await;
    assert_eq!(sweeping.asked.load(Ordering::SeqCst), 6);
    assert_eq!(broker.given.load(Ordering::SeqCst), 1, "never given back");
}

#[tokio::test]
async fn a_stray_that_can_not_be_scored_is_dropped() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, Act::Silence).await;
    let _chorus = keep_speaking(&nodes);
    let sweeping = Arc::new(MoodySweeping::new(
        Arc::clone(&network.ledger) as _,
        [LedgerError::Row("as the test wants".to_owned())],
    ));
    let (verifier, broker) = with_a_stray(&network, &nodes[2], &sweeping).await;
    eventually("it is dropped", || async { (verifier.counters.messages_malformed.get() == 1).then_some(()) })
        .await;
    verifier.drain().await;
    assert_eq!(network.broker.depth(&topology::replicas_any().name).await.unwrap(), Some(0));
    assert_eq!(broker.given.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn only_a_take_that_may_have_committed_is_repeated_as_redelivered() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let failures = [away(), LedgerError::Refused("as the test wants".to_owned()), away()];
    let failures = failures.into_iter().chain([LedgerError::Unknown("as the test wants".to_owned()), away()]);
    let owner = Arc::new(MoodyOwner::new(Arc::clone(&network.ledger) as _, failures));
    let seams = Seams { owner: Arc::clone(&owner) as _, ..network.seams() };
    let _verifier = network.verifier_on(without_sweeps(), seams);
    assert_eq!(tokens(&network.end_of(network.submit(Ask::default()).await).await), RIGHT);
    assert_eq!(*owner.redelivered.lock().unwrap(), [false, false, false, false, true, true]);
}

#[tokio::test]
async fn a_stop_waits_for_no_take() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let owner = Arc::new(MoodyOwner::hanging(Arc::clone(&network.ledger) as _));
    let seams = Seams { owner: Arc::clone(&owner) as _, ..network.seams() };
    let verifier = network.verifier_on(Config { drain_ms: 100, ..without_sweeps() }, seams);
    network.submit(Ask::default()).await;
    eventually("it takes", || async { (!owner.redelivered.lock().unwrap().is_empty()).then_some(()) }).await;
    verifier.drain().await;
    let depth = network.broker.depth(&topology::jobs(&network.model).name).await.unwrap();
    assert_eq!(depth, Some(1), "given back");
}

/// Whether another verifier could have this shared lease now.
async fn is_free(network: &Network, lease: &str) -> bool {
    let ttl = Duration::from_secs(1);
    network.ledger.lease(lease, &VerifierId::fresh(), Timestamp::now(), ttl).await.unwrap()
}

#[tokio::test]
async fn after_a_drain_another_verifier_gets_every_lease_at_once() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let config = Config { shared_lease_ms: 600_000, archive_retry_ms: 600_000, ..quick() };
    let sweeping = Arc::new(NotingSweeping::new(Arc::clone(&network.ledger) as _));
    let seams = Seams { sweeping: Arc::clone(&sweeping) as _, ..network.seams() };
    let gate = infera_verifier::Gate {
        connections: Arc::new(NoConnections),
        book: Arc::clone(&network.ledger) as _,
    };
    let verifier = network.verifier_as(config, seams, |verifier| verifier.guarding(gate));
    network.archived(network.submit(Ask::default()).await).await;
    // The five that verifiers share, and the one that says that this verifier lives.
    eventually("all leases are taken", || async { (sweeping.names().len() == 6).then_some(()) }).await;
    for lease in ["sweeper", "feeder", "projector", "archiver", "warden"] {
        assert!(!is_free(&network, lease).await, "{lease}");
    }
    verifier.drain().await;
    for lease in sweeping.names() {
        assert!(is_free(&network, &lease).await, "{lease}");
    }
}

#[tokio::test]
async fn who_stops_in_the_middle_of_a_segment_keeps_others_from_it() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let archive = Arc::new(FailingArchive::new(Arc::clone(&network.archive) as _, u32::MAX));
    let config = Config { archive_retry_ms: 600_000, ..quick() };
    let seams = Seams { archive: Arc::clone(&archive) as _, ..network.seams() };
    let verifier = network.verifier_on(config, seams);
    network.submit(Ask::default()).await;
    eventually("it was written in vain", || async { (!archive.keys().is_empty()).then_some(()) }).await;
    verifier.drain().await;
    assert!(is_free(&network, "sweeper").await);
    assert!(!is_free(&network, "archiver").await, "what it wrote may still arrive");
}

/// A verifier whose own queue can be stopped, and the switch.
fn with_ears(network: &Network, config: Config) -> (Running, Arc<std::sync::atomic::AtomicBool>) {
    let broker = MoodyBroker::new(Arc::clone(&network.broker) as _, "replicas.");
    let is_deaf = Arc::clone(&broker.is_deaf);
    (network.verifier_on(config, Seams { broker: Arc::new(broker), ..network.seams() }), is_deaf)
}

/// Longer than a verifier with quick settings hears nothing before it counts as deaf.
const DEAF: Duration = Duration::from_millis(900);

#[tokio::test]
async fn a_refusal_that_reaches_into_deafness_is_no_miss() {
    let network = Arc::new(Network::new().await);
    let nodes = [
        Node::start(&network, "a", |_| right()).await,
        Node::start(&network, "b", |_| right()).await,
        // As a node says that stood still with us: its budget was over before it began.
        Node::start(&network, "c", |asked| match asked {
            0 => right(),
            1 => Act::Refuse(RefusalReason::Expired),
            _ => right(),
        })
        .await,
    ];
    let _chorus = keep_speaking(&nodes);
    let (_verifier, is_deaf) = with_ears(&network, quick());
    network.end_of(network.submit(Ask::quorum(3)).await).await;
    is_deaf.store(true, Ordering::SeqCst);
    let job = network.submit(Ask::quorum(3)).await;
    nodes[2].assignment(1).await;
    tokio::time::sleep(DEAF).await;
    is_deaf.store(false, Ordering::SeqCst);
    // Had the refusal counted, no node would be left to ask in its place.
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    assert_eq!(nodes[2].seen().len(), 3);
    let verdicts = network.verdicts(job).await;
    assert!(verdicts.iter().all(|(_, verdict)| *verdict != Verdict::Missed), "{verdicts:?}");
    assert_eq!(verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Neutral).count(), 1);
}

#[tokio::test]
async fn what_is_open_when_a_job_expires_in_deafness_is_no_miss() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    // Their time is up before the job's is, and they are waited for longer.
    let config = Config { assignment_base_ms: 100, assignment_grace_ms: 60_000, ..quick() };
    let (_verifier, is_deaf) = with_ears(&network, config);
    network.end_of(network.submit(Ask::quorum(3)).await).await;
    is_deaf.store(true, Ordering::SeqCst);
    let job = network.submit(Ask { deadline: Duration::from_millis(1_500), ..Ask::quorum(3) }).await;
    assert_eq!(network.end_of(job).await.end, End::Expired);
    is_deaf.store(false, Ordering::SeqCst);
    let verdicts = network.verdicts(job).await;
    assert_eq!(verdicts.len(), 3);
    assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Neutral), "{verdicts:?}");
}

#[tokio::test]
async fn what_came_late_because_of_deafness_is_just_in_time() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let config = Config { assignment_base_ms: 200, assignment_grace_ms: 60_000, ..quick() };
    let (_verifier, is_deaf) = with_ears(&network, config);
    network.end_of(network.submit(Ask::quorum(3)).await).await;
    is_deaf.store(true, Ordering::SeqCst);
    let job = network.submit(Ask::quorum(3)).await;
    nodes[2].assignment(1).await;
    tokio::time::sleep(DEAF).await;
    is_deaf.store(false, Ordering::SeqCst);
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    for posting in network.archived(job).await.postings {
        if let PostingEntry::Verdict { on_time, verdict, elapsed_ms, .. } = posting.entry {
            assert!(on_time && verdict == Verdict::Valid, "{verdict:?} after {elapsed_ms} ms");
        }
    }
}
