//! What was lost on the way is found again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use infera_broker::{Address, Broker as _, GIVEN_BACK_MAX, Message, topology};
use infera_ledger::JobReader as _;
use infera_types::job::End;
use infera_types::messages::{JobNotice, Version, Wire as _};
use infera_types::time::Timestamp;
use infera_verifier::{Config, Seams};

use super::faults::{FailingArchive, Gate, Stop, StopBroker, StopOwner, StuckBroker};
use super::network::{Ask, Network, eventually, quick, tokens};
use super::node::{RIGHT, keep_speaking, right, three};

#[tokio::test]
async fn a_job_whose_notice_was_never_published_is_handed_out() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let request = serde_json::to_vec(&network.request("What is 2 plus 2?")).unwrap();
    let job = network.accept(&request, Ask::default()).await;
    let _verifier = network.verifier(quick());
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
}

#[tokio::test]
async fn jobs_whose_queue_was_lost_are_handed_out() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let jobs = [network.submit(Ask::default()).await, network.submit(Ask::default()).await];
    network.broker.delete(&topology::jobs(&network.model).name).await.unwrap();
    let _verifiers = [network.verifier(quick()), network.verifier(quick())];
    for job in jobs {
        assert_eq!(tokens(&network.end_of(job).await), RIGHT);
        assert_eq!(network.verdicts(job).await.len(), 3);
    }
}

#[tokio::test]
async fn a_queue_deleted_under_its_consumer_is_read_again() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let first = network.submit(Ask::default()).await;
    network.end_of(first).await;
    network.broker.delete(&topology::jobs(&network.model).name).await.unwrap();
    let request = serde_json::to_vec(&network.request("What is 2 plus 2?")).unwrap();
    let second = network.accept(&request, Ask::default()).await;
    assert_eq!(tokens(&network.end_of(second).await), RIGHT);
}

/// Without nodes nothing is taken, and a queue in which another job waits isn't empty: only the dead letter tells.
#[tokio::test]
async fn a_job_whose_notice_was_given_up_is_handed_out() {
    let network = Arc::new(Network::new().await);
    let jobs = topology::jobs(&network.model).name;
    network.broker.declare(&topology::dead_jobs()).await.unwrap();
    let cursed = network.submit(Ask::default()).await;
    let mut consumer = network.broker.consume(&jobs, 1).await.unwrap();
    for _ in 0..=GIVEN_BACK_MAX {
        consumer.next().await.unwrap().nack().await;
    }
    drop(consumer);
    assert_eq!(network.broker.depth(&jobs).await.unwrap(), Some(0));
    assert_eq!(network.broker.depth(&topology::dead_jobs().name).await.unwrap(), Some(1));
    network.submit(Ask::default()).await;

    let verifier = network.verifier(quick());
    eventually("both wait", || async {
        (network.broker.depth(&jobs).await.unwrap() == Some(2)).then_some(())
    })
    .await;
    assert_eq!(verifier.counters.dead_letters.get(), 1);
    assert_eq!(network.broker.depth(&topology::dead_jobs().name).await.unwrap(), Some(0));
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    assert_eq!(tokens(&network.end_of(cursed).await), RIGHT);
}

#[tokio::test]
async fn a_stuck_queue_is_made_anew_and_its_jobs_end() {
    for is_silent in [true, false] {
        let network = Arc::new(Network::new().await);
        let nodes = three(&network, right()).await;
        let _chorus = keep_speaking(&nodes);
        let job = network.submit(Ask::default()).await;
        let stuck = StuckBroker {
            inner: Arc::clone(&network.broker) as _,
            is_stuck: true.into(),
            is_silent,
            refused: 0.into(),
        };
        // What waits in such a queue is never given out.
        let mut thief = network.broker.consume(&topology::jobs(&network.model).name, 1).await.unwrap();
        let _stolen = thief.next().await.unwrap();
        let verifier = network.verifier_on(quick(), Seams { broker: Arc::new(stuck), ..network.seams() });
        assert_eq!(tokens(&network.end_of(job).await), RIGHT, "silent: {is_silent}");
        assert_eq!(verifier.counters.queues_repaired.get(), 1);
    }
}

/// Without nodes all of them wait, and can be counted.
#[tokio::test]
async fn a_queue_that_takes_nothing_is_tried_once_a_sweep() {
    let network = Arc::new(Network::new().await);
    let request = serde_json::to_vec(&network.request("What is 2 plus 2?")).unwrap();
    for _ in 0..100 {
        network.accept(&request, Ask::default()).await;
    }
    let stuck = Arc::new(StuckBroker {
        inner: Arc::clone(&network.broker) as _,
        is_stuck: true.into(),
        is_silent: false,
        refused: 0.into(),
    });
    let seams = Seams { broker: Arc::clone(&stuck) as _, ..network.seams() };
    let verifier = network.verifier_on(quick(), seams);
    let jobs = topology::jobs(&network.model).name;
    eventually("all are handed out", || async {
        (network.broker.depth(&jobs).await.unwrap() >= Some(100)).then_some(())
    })
    .await;
    assert_eq!(verifier.counters.queues_repaired.get(), 1);
    // Two sweeps condemn it, unless the verifier began again between them; each tries one notice and not all.
    let refused = stuck.refused.load(Ordering::SeqCst);
    assert!((2..20).contains(&refused), "{refused}");
}

#[tokio::test]
async fn jobs_expire_while_no_notice_can_be_published() {
    let network = Arc::new(Network::new().await);
    let gate = Arc::new(Gate::default());
    let broker = StopBroker {
        inner: Arc::clone(&network.broker) as _,
        prefix: "jobs.",
        passes: false,
        gate: Arc::clone(&gate),
    };
    let config = Config { shared_lease_ms: 400, ..quick() };
    let _verifier = network.verifier_on(config, Seams { broker: Arc::new(broker), ..network.seams() });
    let request = serde_json::to_vec(&network.request("What is 2 plus 2?")).unwrap();
    network.accept(&request, Ask::default()).await;
    gate.reached().await;
    let job = network.submit(Ask { deadline: Duration::from_millis(1), ..Ask::default() }).await;
    assert_eq!(network.end_of(job).await.end, End::Expired);
}

#[tokio::test]
async fn a_job_that_nobody_could_take_expires() {
    let network = Arc::new(Network::new().await);
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask { deadline: Duration::from_millis(300), ..Ask::default() }).await;
    let settlement = network.end_of(job).await;
    assert_eq!(settlement.end, End::Expired);
    assert_eq!(settlement.group, None);
    assert!(network.archived(job).await.postings.is_empty());
}

#[tokio::test]
async fn a_job_that_can_not_end_keeps_no_other_from_it() {
    let network = Arc::new(Network::new().await);
    let soon = |milliseconds| Ask { deadline: Duration::from_millis(milliseconds), ..Ask::default() };
    let broken = network.submit(soon(1)).await;
    let other = network.submit(soon(50)).await;
    let owner = StopOwner {
        inner: Arc::clone(&network.ledger) as _,
        stop: Stop::Refuse(broken),
        gate: Arc::default(),
    };
    let _verifier = network.verifier_on(quick(), Seams { owner: Arc::new(owner), ..network.seams() });
    assert_eq!(network.end_of(other).await.end, End::Expired);
    assert!(network.ledger.settlements(&[broken]).await.unwrap().is_empty());
}

#[tokio::test]
async fn unknown_messages_are_parked_and_malformed_ones_dropped() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let jobs = Address::Queue(topology::jobs(&network.model).name);
    let unknown = Message {
        kind: "next year's".to_owned(),
        ..JobNotice { job_id: infera_types::ids::JobId::new(), speaks: Version::NEWEST }.to_message("1")
    };
    let malformed = Message {
        body: vec![1, b'{'].into(),
        ..JobNotice { job_id: infera_types::ids::JobId::new(), speaks: Version::NEWEST }.to_message("2")
    };
    network.broker.publish(&jobs, unknown.clone()).await;
    network.broker.publish(&jobs, malformed).await;
    let _verifier = network.verifier(quick());
    let job = network.submit(Ask::default()).await;
    assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    eventually("it is parked", || async {
        (network.broker.depth(&topology::parked().name).await.unwrap() == Some(1)).then_some(())
    })
    .await;
    let mut parked = network.broker.consume(&topology::parked().name, 1).await.unwrap();
    assert_eq!(parked.next().await.unwrap().message, unknown);
}

#[tokio::test]
async fn a_segment_that_was_not_written_is_written_again() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let archive = Arc::new(FailingArchive::new(Arc::clone(&network.archive) as _, 3));
    let seams = Seams { archive: Arc::clone(&archive) as _, ..network.seams() };
    let _verifier = network.verifier_on(Config { archive_retry_ms: 100, ..quick() }, seams);
    let job = network.submit(Ask::default()).await;
    let record = network.archived(job).await;
    assert_eq!(record.settlement, network.end_of_with_group(job).await);
    assert!(record.settlement.settled_ms <= Timestamp::now());
    let keys = archive.keys();
    assert!(keys.len() >= 4 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}
