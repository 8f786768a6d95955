//! The broker is away, and takes no notice of a job. Behind it is a real one; only publishes to the jobs queues are
//! lost, and there is no sweeper that could publish them again. Only jobs of clients that wait have notices of the
//! gateway's; submitted ones are held in the ledger until their turn.

use std::sync::Arc;
use std::time::Duration;

use infera_broker::Published;
use infera_gateway::Config;
use infera_ledger::JobReader as _;
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use crate::losing::Losing;
use crate::support::client::Reply;
use crate::support::rig::{Rig, chat, job, unlimited};

/// The number of jobs that the gateway may promise to hand on.
const OUTBOX_MAX: usize = 3;

async fn start() -> (Rig, Arc<Losing>) {
    let mut broker = None;
    let config = Config { outbox_max: OUTBOX_MAX, ..unlimited() };
    let between = |ledger, inner| (ledger, Arc::clone(broker.insert(Arc::new(Losing::new(inner)))));
    let rig = Rig::start_between(config, 3, between, |_| None).await;
    (rig, broker.expect("the gateway's broker"))
}

async fn outbox_has_room(rig: &Rig) -> bool {
    rig.send("GET", "/readyz", &[], b"").await.status == 200
}

async fn until_room(rig: &Rig) {
    for _ in 0..600 {
        if outbox_has_room(rig).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the outbox never had room again");
}

/// Makes a job whose client gives up waiting after a second, and returns its id. The job goes on.
async fn left_waiting(rig: &Rig, more: &[(&str, &str)]) -> String {
    let mut body: Value = chat();
    body["request_timeout_time"] = json!(1);
    let waited = rig.post("/v1/chat/completions", &body, more).await;
    assert_eq!((waited.status, &waited.json()["error"]["code"]), (504, &json!("timeout")));
    waited.header("x-job-id").expect("the job goes on").to_owned()
}

fn id(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.json());
    reply.json()["job_id"].as_str().expect("an id").to_owned()
}

async fn accepted(rig: &Rig) -> u64 {
    rig.ledger.statistics(Timestamp::now()).await.expect("a ledger").accepted
}

/// Returns what the gateway answers on each face to a job that it doesn't accept.
async fn is_refused_everywhere(rig: &Rig, more: &[(&str, &str)]) {
    for path in ["/chat/completions", "/v1/chat/completions"] {
        let reply = rig.post(path, &chat(), more).await;
        assert_eq!(reply.status, 503, "{path}");
        assert!(reply.wait_ms().is_some_and(|wait| (5_000..=7_500).contains(&wait)), "{path}");
        assert_eq!(reply.header("x-job-id"), None, "{path}: there is no job");
        let told = reply.json();
        if path.starts_with("/v1") {
            let error = &told["error"];
            assert_eq!((&error["code"], &error["type"]), (&json!("outbox_full"), &json!("server_error")));
        } else {
            assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("not accepted")), "{told}");
        }
    }
}

#[tokio::test]
async fn without_the_broker_jobs_are_accepted_up_to_the_cap_and_published_when_it_is_back() {
    let (rig, broker) = start().await;
    broker.end_publishes(Some(Published::Unknown));
    let mut ids = Vec::new();
    for _ in 1..OUTBOX_MAX {
        assert!(outbox_has_room(&rig).await);
        ids.push(left_waiting(&rig, &[]).await);
    }
    ids.push(left_waiting(&rig, &[]).await);
    for _ in 0..3 {
        is_refused_everywhere(&rig, &[]).await;
        assert!(!outbox_has_room(&rig).await, "what refuses jobs is not ready");
    }
    assert_eq!(accepted(&rig).await, OUTBOX_MAX as u64, "what was refused is no job");
    assert!(broker.kept().is_empty());
    let submitted = id(&rig.post("/submit_job", &job(), &[]).await);
    rig.get_until(&format!("/v1/jobs/{submitted}"), |job| job["status"] == "succeeded").await;

    broker.end_publishes(None);
    for id in &ids {
        rig.get_until(&format!("/v1/jobs/{id}"), |job| job["status"] == "succeeded").await;
    }
    until_room(&rig).await;
    let mut kept = broker.kept();
    kept.sort();
    ids.sort();
    assert_eq!(kept, ids, "each notice once");
    assert_eq!(rig.post("/chat/completions", &chat(), &[]).await.status, 200);
    assert_eq!(accepted(&rig).await, OUTBOX_MAX as u64 + 2);
}

#[tokio::test]
async fn a_full_outbox_keeps_back_no_answer_of_an_earlier_job() {
    let (rig, broker) = start().await;
    let ended = [("Idempotency-Key", "ended")];
    let first = rig.post("/v1/chat/completions", &chat(), &ended).await;
    assert_eq!(first.status, 200);
    broker.end_publishes(Some(Published::Unknown));
    let open = [("Idempotency-Key", "open")];
    let left = left_waiting(&rig, &open).await;
    for _ in 1..OUTBOX_MAX {
        left_waiting(&rig, &[]).await;
    }
    is_refused_everywhere(&rig, &[]).await;

    let again = rig.post("/v1/chat/completions", &chat(), &ended).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(again.json(), first.json());
    let mut same = chat();
    same["request_timeout_time"] = json!(1);
    let again = rig.post("/v1/chat/completions", &same, &open).await;
    assert_eq!((again.status, again.header("x-job-id")), (409, Some(left.as_str())), "it still runs");
    let other = rig.post("/v1/chat/completions", &chat(), &open).await;
    assert_eq!(other.status, 422, "another request under the key");
    is_refused_everywhere(&rig, &[("Idempotency-Key", "fresh")]).await;
    assert_eq!(accepted(&rig).await, OUTBOX_MAX as u64 + 1);

    // A key under which a job was refused can be used again.
    broker.end_publishes(None);
    until_room(&rig).await;
    let fresh = rig.post("/chat/completions", &chat(), &[("Idempotency-Key", "fresh")]).await;
    assert_eq!((fresh.status, fresh.header("idempotent-replayed")), (200, None));
}

#[tokio::test]
async fn a_queue_that_takes_nothing_is_left_to_the_sweeper_and_fills_no_outbox() {
    let (rig, broker) = start().await;
    broker.end_publishes(Some(Published::Refused));
    for _ in 0..OUTBOX_MAX * 3 {
        until_room(&rig).await;
        left_waiting(&rig, &[]).await;
    }
    assert_eq!(accepted(&rig).await, OUTBOX_MAX as u64 * 3);
}
