//! Assignments that the broker gives out again: they run alone once and then never again, and not at all if neither
//! is needed.

use infera_broker::Broker as _;
use infera_types::messages::RefusalReason;
use infera_worker::Config;

use crate::support::engines::{Call, Fate, Watched, slow, stub};
use crate::support::{Network, assignment};

fn well(_: usize) -> Fate {
    Fate::Well
}

#[tokio::test]
async fn a_redelivered_assignment_runs_with_nobody_else_in_the_engine() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let (suspect, others) =
        (assignment(&verifier, "a"), [assignment(&verifier, "b"), assignment(&verifier, "c")]);
    network.assign(&suspect).await;
    network.make_redelivered(1).await;
    for other in &others {
        network.assign(other).await;
    }
    let (engine, calls) = Watched::new(stub(2_000), well);
    // Only one prompt is rendered at a time, so that the suspect, which is first in the queue, is first in the
    // engine.
    let worker = network.start(Config { tokenizer_threads: 1, ..Config::default() }, engine);
    assert_eq!(verifier.next().await.replica().assignment_id, suspect.id);
    for _ in &others {
        verifier.next().await.replica();
    }
    let counts = worker.handle.counts();
    assert_eq!((counts.run.get(), counts.run_alone.get()), (3, 1));
    worker.stop().await.unwrap();

    // A stub's answer has seventeen rows. No other sequence was in the engine during the suspect's.
    let calls: Vec<Call> = calls.all().into_iter().filter(|call| *call != Call::Dropped).collect();
    let Call::Prefill(first) = &calls[0] else { panic!("{calls:?}") };
    let with_suspect: Vec<&Call> = calls
        .iter()
        .filter(
            |call| matches!(call, Call::Prefill(named) | Call::Decode(named) if named.contains(&first[0])),
        )
        .collect();
    assert_eq!(with_suspect.len(), 17);
    let first_of_others = calls.iter().position(|call| !with_suspect.contains(&call));
    assert!(with_suspect.iter().all(|call| call.size() == 1), "{calls:?}");
    assert_eq!(first_of_others, Some(17), "{calls:?}");
}

#[tokio::test]
async fn an_assignment_that_was_in_hand_at_two_crashes_is_refused_at_the_third_start() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let folder = tempfile::tempdir().unwrap();
    let config = Config { alone_file: Some(folder.path().join("alone")), ..Config::default() };
    network.assign(&assignment(&verifier, "poison?")).await;
    for run_alone in [0, 1] {
        let (engine, calls) = Watched::new(slow(), well);
        let worker = network.start(config.clone(), engine);
        let decoding = async {
            while calls.count() < 3 {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(crate::support::PATIENCE, decoding).await.unwrap();
        assert_eq!(worker.handle.counts().run_alone.get(), run_alone);
        worker.crash().await;
        assert_eq!(network.waiting().await, 1);
    }
    let worker = network.start(config, Box::new(slow()));
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Crashed);
    assert_eq!(worker.handle.counts().run.get(), 0);
    worker.stop().await.unwrap();
    assert_eq!(network.waiting().await, 0);
}

#[tokio::test]
async fn an_innocent_neighbour_of_a_crash_runs_alone_and_is_forgotten() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alone");
    let config = Config { alone_file: Some(path.clone()), ..Config::default() };
    network.assign(&assignment(&verifier, "innocent")).await;
    network.make_redelivered(1).await;
    let worker = network.start(config, Box::new(stub(0)));
    verifier.next().await.replica();
    worker.stop().await.unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "");
}

#[tokio::test]
async fn a_lost_connection_runs_nothing_again() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let worker = network.start(Config::default(), Box::new(slow()));
    let asked = assignment(&verifier, "once");
    network.assign(&asked).await;
    worker.until(|counts| counts.run.get() == 1).await;
    // The queue goes away and comes back, as when a connection breaks, and the verifier's message is given out again.
    network.broker.delete(&network.queue.name).await.unwrap();
    network.broker.declare(&network.queue).await.unwrap();
    network.assign(&asked).await;
    for _ in 0..2 {
        assert_eq!(verifier.next().await.replica().assignment_id, asked.id);
    }
    assert_eq!((worker.handle.counts().run.get(), worker.handle.counts().run_alone.get()), (1, 0));
    worker.stop().await.unwrap();
}
