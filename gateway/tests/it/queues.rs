//! The broker is away, or one model's queue is stuck. Neither holds up anything that doesn't depend on it. There is
//! no sweeper that could publish notices again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use infera_broker::{Published, topology};
use infera_gateway::Config;
use infera_types::ids::ModelName;
use serde_json::{Value, json};

use crate::losing::Losing;
use crate::support::client::Reply;
use crate::support::rig::{MODEL, OTHER, Rig, chat, job, list_model, unlimited};

const OUTBOX_MAX: usize = 20;

fn queue_of(model: &str) -> String {
    topology::jobs(&ModelName::new(model)).name
}

/// A gateway without nodes, over a broker that fails from the start as it is told to.
async fn start(fail: impl FnOnce(&Losing)) -> (Rig, Arc<Losing>) {
    start_with(0, fail).await
}

/// The same with the nodes of this many owners.
async fn start_with(owners: u32, fail: impl FnOnce(&Losing)) -> (Rig, Arc<Losing>) {
    let mut broker = None;
    let config = Config { outbox_max: OUTBOX_MAX, catalogue_refresh_ms: 50, ..unlimited() };
    let between = |ledger, inner| {
        let losing = Losing::new(inner);
        fail(&losing);
        (ledger, Arc::clone(broker.insert(Arc::new(losing))))
    };
    let rig = Rig::start_between(config, owners, between, |_| None).await;
    (rig, broker.expect("the gateway's broker"))
}

async fn submit(rig: &Rig, model: &str) -> Reply {
    let mut asked = job();
    asked["model"] = json!(model);
    rig.post("/submit_job", &asked, &[]).await
}

/// Has a client wait for an answer of this model, for a second at most, and returns the status that it gets.
async fn chat_with(rig: &Rig, model: &str) -> u16 {
    let mut asked = chat();
    asked["model"] = json!(model);
    asked["request_timeout_time"] = json!(1);
    rig.post("/v1/chat/completions", &asked, &[]).await.status
}

fn id(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.json());
    reply.json()["job_id"].as_str().expect("an id").to_owned()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_listed(rig: &Rig, model: &str) {
    let is_listed = |models: &Value| {
        models["data"].as_array().is_some_and(|all| all.iter().any(|listed| listed["id"] == json!(model)))
    };
    rig.get_until("/v1/models", is_listed).await;
}

#[tokio::test]
async fn a_gateway_that_starts_without_the_broker_accepts_jobs_that_can_wait() {
    let (rig, broker) = start(|broker| broker.set_away(true)).await;
    let ready = rig.send("GET", "/readyz", &[], b"").await.json();
    assert_eq!((&ready["ready"], &ready["degraded"]), (&json!(true), &json!(["completions"])));
    let mut ids = Vec::new();
    for _ in 0..=OUTBOX_MAX {
        ids.push(id(&submit(&rig, MODEL).await));
    }
    assert!(broker.kept().is_empty() && !broker.has_declared(&queue_of(MODEL)));

    broker.set_away(false);
    for id in &ids {
        rig.get_until(&format!("/v1/jobs/{id}"), |job| job["status"] == "succeeded").await;
    }
    until("the queue is declared", || broker.has_declared(&queue_of(MODEL))).await;
    assert_eq!(submit(&rig, MODEL).await.status, 200);
}

#[tokio::test]
async fn a_queue_that_is_never_declared_holds_up_no_other_model() {
    let (rig, broker) = start(|broker| broker.set_stuck(&queue_of(MODEL))).await;
    assert_eq!(rig.send("GET", "/readyz", &[], b"").await.status, 200);
    id(&submit(&rig, MODEL).await);
    for model in [OTHER, "third-model"] {
        broker.set_stuck(&queue_of("third-model"));
        list_model(&rig.ledger, model).await;
        until_listed(&rig, model).await;
        id(&submit(&rig, model).await);
    }
    until("the other's queue is declared", || broker.has_declared(&queue_of(OTHER))).await;
    assert!(!broker.has_declared(&queue_of(MODEL)));
}

/// The publish to the stuck queue never ends, which is longer than any broker's timeout.
#[tokio::test]
async fn a_queue_that_says_nothing_holds_up_no_other_models_notices() {
    let (rig, broker) = start_with(3, |_| {}).await;
    list_model(&rig.ledger, OTHER).await;
    until_listed(&rig, OTHER).await;
    broker.set_stuck(&queue_of(OTHER));
    assert_eq!(chat_with(&rig, OTHER).await, 504);
    assert_eq!(broker.tries(&queue_of(OTHER)), 1, "the publish is under way");
    for _ in 0..5 {
        assert_eq!(chat_with(&rig, MODEL).await, 200);
    }
}

/// This lasts for some seconds only, until the sweeper finds the notices unconfirmed.
#[tokio::test]
async fn a_queue_that_took_nothing_is_not_asked_with_each_notice() {
    const JOBS: usize = 60;
    let (rig, broker) = start_with(3, |broker| broker.end_publishes(Some(Published::Refused))).await;
    let begun = Instant::now();
    let clients = (0..JOBS).map(|_| async {
        while chat_with(&rig, MODEL).await != 504 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    join_all(clients).await;
    // At first, the notices of jobs that are accepted before the first refusal go out; then one in five seconds.
    let probes = usize::try_from(begun.elapsed().as_secs() / 5).expect("a few");
    let tries = broker.tries(&queue_of(MODEL));
    assert!(tries < JOBS / 2 + probes, "{tries} tries in {:?}", begun.elapsed());
}

#[tokio::test]
async fn whoever_asks_whether_it_is_ready_shares_the_look_with_others() {
    const ASKED: usize = 200;
    let (rig, broker) = start(|_| {}).await;
    let (before, begun) = (broker.looks(), Instant::now());
    for _ in 0..ASKED {
        assert_eq!(rig.send("GET", "/readyz", &[], b"").await.status, 200);
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).expect("a few");
    let looks = broker.looks() - before;
    assert!(looks <= seconds + 2, "{looks} looks for {ASKED} questions in {:?}", begun.elapsed());
}
