//! From an assignment to its replica or refusal, with the result cache and the parking queue on the way.

use infera_broker::{Broker as _, Message, topology};
use infera_model::chat::prompt_hash;
use infera_types::ids::{AssignmentId, Digest};
use infera_types::job::FinishReason;
use infera_types::messages::{Assignment, RefusalReason, Replica, Version, Wire as _};
use infera_worker::Config;

use crate::support::engines::{slow, stub};
use crate::support::{Network, PATIENCE, Verifier, again, assignment, chat};

#[tokio::test]
async fn an_assignment_becomes_a_replica() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let worker = network.start(Config::default(), Box::new(stub(0)));
    let asked = assignment(&verifier, "What is 12 + 7?");
    network.assign(&asked).await;

    let delivery = verifier.next_delivery().await;
    assert_eq!(delivery.message.id, asked.id.to_string());
    assert_eq!(delivery.sender(), network.node.as_str());
    let replica = Replica::from_message(&delivery.message).unwrap();
    assert_eq!((replica.assignment_id, replica.job_id), (asked.id, asked.job_id));
    assert_eq!(replica.numeric_class.model_digest, asked.model_digest);
    let prompt = chat().render(&asked.request.messages, asked.now_ms).unwrap();
    assert_eq!(replica.prompt_hash, prompt_hash(&prompt));
    assert_eq!(usize::try_from(replica.prompt_tokens).unwrap(), prompt.len());
    assert_eq!(replica.text, chat().decode(&replica.tokens).unwrap());
    assert_eq!((replica.tokens.len(), replica.numbers.len()), (16, 17));
    assert_eq!(replica.finish_reason, FinishReason::Stop);
    for (token, numbers) in replica.tokens.iter().zip(&replica.numbers) {
        assert_eq!(numbers.top[0].0, *token, "the chosen token leads its numbers");
    }
    assert_eq!(network.waiting().await, 0);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn an_answer_ends_at_the_tokens_asked_for_or_at_the_contexts_end() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let worker = network.start(Config::default(), Box::new(stub(0)));
    let mut asked = assignment(&verifier, "short");
    asked.request.max_tokens = 5;
    network.assign(&asked).await;
    let replica = verifier.next().await.replica();
    assert_eq!((replica.tokens.len(), replica.numbers.len()), (5, 5));
    assert_eq!(replica.finish_reason, FinishReason::Length);

    // As many words as leave the context less room than the stub's sixteen tokens.
    let model = chat();
    let mut asked = assignment(&verifier, "");
    let mut left = usize::MAX;
    while left > 9 {
        asked.request.messages[0].content.push_str(" 1");
        let prompt = model.render(&asked.request.messages, asked.now_ms).unwrap();
        left = model.context_max() - prompt.len();
    }
    network.assign(&asked).await;
    let replica = verifier.next().await.replica();
    assert_eq!((replica.tokens.len(), replica.numbers.len()), (left, left));
    assert_eq!(replica.finish_reason, FinishReason::Length);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_dead_verifiers_replica_goes_to_any_and_the_jobs_next_assignment_is_answered_from_the_cache() {
    let network = Network::new().await;
    let dead = network.verifier().await;
    let asked = assignment(&dead, "capital of France");
    drop(dead);
    let mut any = network.broker.consume(&topology::replicas_any().name, 10).await.unwrap();
    let worker = network.start(Config::default(), Box::new(stub(0)));
    network.assign(&asked).await;
    let orphan = tokio::time::timeout(PATIENCE, any.next()).await.unwrap().unwrap();
    let orphan = Replica::from_message(&orphan.message).unwrap();
    assert_eq!(orphan.assignment_id, asked.id);

    let mut alive = network.verifier().await;
    let next = again(&asked, &alive);
    network.assign(&next).await;
    let replica = alive.next().await.replica();
    assert_eq!(replica.assignment_id, next.id);
    assert_eq!(replica, Replica { assignment_id: next.id, ..orphan });
    let counts = worker.handle.counts();
    assert_eq!(
        (counts.run.get(), counts.from_cache.get(), counts.ownerless.get(), counts.replicas.get()),
        (1, 1, 1, 2)
    );
    assert_eq!(network.waiting().await, 0);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_that_is_still_decoding_is_joined_and_decoded_once() {
    let network = Network::new().await;
    let (mut first, mut second) = (network.verifier().await, network.verifier().await);
    let worker = network.start(Config { slots: 1, ..Config::default() }, Box::new(slow()));
    let asked = assignment(&first, "count");
    network.assign(&asked).await;
    worker.until(|counts| counts.run.get() == 1).await;
    let joining = again(&asked, &second);
    network.assign(&joining).await;
    let (one, other) = (first.next().await.replica(), second.next().await.replica());
    assert_eq!((one.assignment_id, other.assignment_id), (asked.id, joining.id));
    assert_eq!((one.tokens, one.numbers), (other.tokens, other.numbers));
    let counts = worker.handle.counts();
    assert_eq!((counts.run.get(), counts.joined.get()), (1, 1));
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_run_outlives_the_budget_of_one_of_those_who_wait_for_it() {
    let network = Network::new().await;
    let (mut hasty, mut patient) = (network.verifier().await, network.verifier().await);
    let worker = network.start(Config::default(), Box::new(slow()));
    let asked = Assignment { budget_ms: 150, ..assignment(&hasty, "long") };
    network.assign(&asked).await;
    network.assign(&Assignment { budget_ms: 60_000, ..again(&asked, &patient) }).await;
    assert_eq!(hasty.next().await.refusal(), RefusalReason::Expired);
    assert_eq!(patient.next().await.replica().tokens.len(), 64);
    assert_eq!(worker.handle.counts().run.get(), 1);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_budget_that_ends_while_decoding_frees_the_slot_and_publishes_nothing() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let worker = network.start(Config { slots: 1, ..Config::default() }, Box::new(slow()));
    network.assign(&Assignment { budget_ms: 100, ..assignment(&verifier, "too slow") }).await;
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Expired);
    let mut free_slots = worker.handle.free_slots();
    tokio::time::timeout(PATIENCE, free_slots.wait_for(|free| *free == 1)).await.unwrap().unwrap();
    let next = assignment(&verifier, "in time");
    network.assign(&next).await;
    assert_eq!(verifier.next().await.replica().assignment_id, next.id);
    worker.stop().await.unwrap();
}

async fn refusal(change: impl FnOnce(&mut Assignment)) -> RefusalReason {
    let network = Network::new().await;
    let mut verifier: Verifier = network.verifier().await;
    let worker = network.start(Config::default(), Box::new(stub(0)));
    let mut asked = assignment(&verifier, "hello");
    change(&mut asked);
    network.assign(&asked).await;
    let reason = verifier.next().await.refusal();
    assert_eq!(network.waiting().await, 0);
    worker.stop().await.unwrap();
    reason
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_its_reason() {
    use RefusalReason::{Broken, Expired};
    assert_eq!(refusal(|asked| asked.budget_ms = 0).await, Expired);
    assert_eq!(refusal(|asked| asked.model_digest = Digest::of(b"another")).await, Broken);
    assert_eq!(refusal(|asked| asked.request.max_tokens = 0).await, Broken);
    assert_eq!(refusal(|asked| asked.request.messages[0].content = "1 ".repeat(2_000)).await, Broken);
}

#[tokio::test]
async fn without_a_free_slot_an_assignment_is_refused_at_once() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let worker = network.start(Config { slots: 1, ..Config::default() }, Box::new(slow()));
    let running = assignment(&verifier, "first");
    network.assign(&running).await;
    worker.until(|counts| counts.run.get() == 1).await;
    network.assign(&assignment(&verifier, "second")).await;
    assert_eq!(verifier.next().await.refusal(), RefusalReason::Busy);
    assert_eq!(verifier.next().await.replica().assignment_id, running.id);
    worker.stop().await.unwrap();
}

/// A field that this worker doesn't know, wherever it is, may change the answer, so the worker gives none. A verifier that doesn't
/// know the reason `unsupported` gets another reason in its place.
#[tokio::test]
async fn an_assignment_with_an_unknown_field_is_refused_and_counts_against_nobody() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let worker = network.start(Config::default(), Box::new(stub(0)));
    let at = |path: &'static [&'static str]| path;
    for (speaks, reason, path) in [
        (Version::Second, RefusalReason::Unsupported, at(&["request", "response_format"])),
        (Version::Second, RefusalReason::Unsupported, at(&["request", "knobs", "mirostat"])),
        (Version::Second, RefusalReason::Unsupported, at(&["priority"])),
        (Version::First, RefusalReason::Busy, at(&["request", "knobs", "mirostat"])),
    ] {
        let known = Assignment { speaks, ..assignment(&verifier, "how likely?") };
        let plain = known.to_message_in(speaks, known.id.to_string());
        let mut json: serde_json::Value = serde_json::from_slice(&plain.body[1..]).unwrap();
        let field = path.iter().fold(&mut json, |json, key| &mut json[*key]);
        *field = 3.into();
        let body = [&[speaks.byte()][..], &serde_json::to_vec(&json).unwrap()].concat();
        network.send(Message { body: body.into(), ..plain }).await;
        let refused = verifier.next().await.refusal();
        assert_eq!(refused, reason);
        assert!(!refused.counts());
        network.assign(&Assignment { id: AssignmentId::new(), ..known.clone() }).await;
        assert_eq!(verifier.next().await.replica().job_id, known.job_id, "without the field it is answered");
    }
    assert_eq!((worker.handle.counts().refused.get(), worker.handle.counts().run.get()), (4, 4));
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn poison_is_dropped_the_unknown_is_parked_and_work_goes_on() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let worker = network.start(Config::default(), Box::new(stub(0)));
    let asked = assignment(&verifier, "still there?");
    let sound = asked.to_message(asked.id.to_string());
    let malformed = Message { body: b"\x01{\"id\": 12".as_slice().into(), ..sound.clone() };
    let empty = Message { body: b"".as_slice().into(), ..sound.clone() };
    let ttl_ms = Some(60_000);
    let newer = Message { body: b"\x09\x00".as_slice().into(), ttl_ms, ..sound.clone() };
    let unknown = Message { kind: "tensor".to_owned(), ..sound.clone() };
    for message in [malformed, empty, newer.clone(), unknown.clone(), sound] {
        network.send(message).await;
    }
    assert_eq!(verifier.next().await.replica().assignment_id, asked.id);
    worker
        .until(|counts| (counts.malformed.get(), counts.parked.get(), counts.deliveries.get()) == (2, 2, 5))
        .await;
    worker.stop().await.unwrap();
    let mut parked = network.broker.consume(&topology::parked().name, 10).await.unwrap();
    for expected in [newer, unknown] {
        let lasting = Message { ttl_ms: None, ..expected };
        assert_eq!(parked.next().await.unwrap().message, lasting, "an assignment's time is not its own");
    }
    assert_eq!(network.waiting().await, 0);
}

#[tokio::test]
async fn a_full_queue_is_tried_again_under_the_same_id() {
    let network = Network::new().await;
    let verifier = network.verifier().await;
    let (queue, id) = network.full_verifier().await;
    let worker = network.start(Config::default(), Box::new(stub(0)));
    let asked = Assignment { verifier: id, ..assignment(&verifier, "wait for it") };
    network.assign(&asked).await;
    // The answer is there once its slot is free again. By then the queue is still full.
    worker.until(|counts| counts.run.get() == 1).await;
    let mut free_slots = worker.handle.free_slots();
    free_slots.wait_for(|free| *free == Config::default().slots).await.unwrap();
    assert_eq!(worker.handle.counts().replicas.get(), 0);
    let mut consumer = network.broker.consume(&queue.name, 10).await.unwrap();
    consumer.next().await.unwrap().ack().await;
    let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
    assert_eq!(delivery.message.id, asked.id.to_string());
    worker.until(|counts| counts.replicas.get() == 1).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_nobody_takes_in_time_stays_in_the_cache() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let (_queue, id) = network.full_verifier().await;
    let worker = network.start(Config::default(), Box::new(stub(0)));
    let asked = Assignment { verifier: id, budget_ms: 2_000, ..assignment(&verifier, "nobody listens") };
    network.assign(&asked).await;
    worker.until(|counts| counts.unpublished.get() == 1).await;
    let next = Assignment { id: AssignmentId::new(), budget_ms: 60_000, ..again(&asked, &verifier) };
    network.assign(&next).await;
    assert_eq!(verifier.next().await.replica().assignment_id, next.id);
    assert_eq!((worker.handle.counts().run.get(), worker.handle.counts().from_cache.get()), (1, 1));
    worker.stop().await.unwrap();
    assert_eq!(network.waiting().await, 0);
}

#[tokio::test]
async fn heartbeats_say_when_the_node_fills_up_and_when_it_has_room_again() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let config = Config { slots: 1, heartbeat_gap_ms: 1, ..Config::default() };
    let worker = network.start(config, Box::new(slow()));
    let first = verifier.heartbeat(|_| true).await;
    assert_eq!(first.queue, network.queue.name);
    assert_eq!((first.models[0].slots, first.models[0].free_slots), (1, 1));
    network.assign(&assignment(&verifier, "fill it")).await;
    verifier.heartbeat(|heartbeat| heartbeat.models[0].free_slots == 0).await;
    verifier.heartbeats.clear();
    verifier.heartbeat(|heartbeat| heartbeat.models[0].free_slots == 1).await;
    worker.stop().await.unwrap();
}
