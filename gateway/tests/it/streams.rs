//! Streams and jobs' events, with the verifier's part of them played by the test: what was released is told by it, and lost by it.

mod reading;

use std::sync::Arc;
use std::time::Duration;

use infera_broker::memory::MemoryBroker;
use infera_broker::{Broker as _, Consumer, Fleeting as _, topology};
use infera_gateway::{Config, Gateway, Seams};
use infera_types::frames::{Delta, DeltasFrame, Watch, Watched};
use infera_types::ids::{GatewayId, JobId, VerifierId};
use infera_types::messages::Wire as _;
use infera_types::shutdown::Shutdown;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use reading::{PATIENCE, Reading, data, field};

use crate::erasing::erase;
use crate::lives::end_what_waits;
use crate::support::rig::{Play, Rig, chat, job, new_key, unlimited};

/// Begins a streamed chat under an idempotency key.
async fn streamed(rig: &Rig, key: &str) -> Reading {
    let mut body = chat();
    body["stream"] = json!(true);
    let headers =
        [("api_key", rig.key.as_str()), ("Content-Type", "application/json"), ("Idempotency-Key", key)];
    Reading::begin(rig.address, ("POST", "/v1/chat/completions"), &headers, &body.to_string()).await
}

/// Follows a job's events from the one after `last`.
async fn follow(address: std::net::SocketAddr, key: &str, job: JobId, last: &str) -> Reading {
    let headers = [("api_key", key), ("Last-Event-ID", last)];
    Reading::begin(address, ("GET", &format!("/v1/jobs/{job}/events")), &headers, "").await
}

/// Tells a gateway the tokens of the answer "Paris." from one position on, as its verifier does.
fn tell_gateway(broker: &MemoryBroker, gateway: &str, job: JobId, from: u32) {
    let (tokens, text) = match from {
        0 => (vec![7], "Pa"),
        _ => (vec![8], "ri"),
    };
    let delta = Delta { job, from, tokens, text: text.to_owned() };
    let frame = DeltasFrame { verifier: VerifierId::new("v"), deltas: vec![delta] };
    broker.publish_fleeting(&topology::deltas_to(&GatewayId::new(gateway)), frame.to_message("v"));
}

fn tell(rig: &Rig, job: JobId, from: u32) {
    let gateway = rig.completions.strip_prefix("completions.").expect("the gateway's queue");
    tell_gateway(&rig.broker, gateway, job, from);
}

/// Waits for the account's only job.
async fn only_job(rig: &Rig) -> JobId {
    let found = rig.get_until("/v1/jobs", |jobs| !jobs["data"][0].is_null()).await.json();
    assert_eq!(found["data"].as_array().map(Vec::len), Some(1), "{found}");
    found["data"][0]["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
}

/// Submits a job, which waits.
async fn submitted(rig: &Rig) -> JobId {
    rig.play(Play::Leave);
    let reply = rig.post("/submit_job", &job(), &[]).await.json();
    reply["job_id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
}

/// Returns a job with two streams under one key that have shown its first part.
async fn joined(rig: &Rig) -> (JobId, Reading, Reading) {
    rig.play(Play::Leave);
    let mut first = streamed(rig, "k").await;
    let job = only_job(rig).await;
    tell(rig, job, 0);
    first.until(|first| first.chat_text() == "Pa").await;
    let mut second = streamed(rig, "k").await;
    second.until(|second| second.chat_text() == "Pa").await;
    (job, first, second)
}

#[tokio::test]
async fn a_stream_under_the_same_key_joins_the_one_that_runs() {
    let rig = Rig::start(unlimited()).await;
    let (job, mut first, mut second) = joined(&rig).await;
    tell(&rig, job, 1);
    for reading in [&mut first, &mut second] {
        reading.until(|reading| reading.chat_text() == "Pari").await;
    }
    end_what_waits(&rig).await;
    for reading in [&mut first, &mut second] {
        reading.until_over().await;
        assert_eq!(reading.chat_text(), "Paris.");
        assert!(reading.events().last().is_some_and(|event| event == "data: [DONE]\n\n"));
    }
    let id = |reading: &Reading| data(&reading.events()[0])["id"].clone();
    assert_eq!(id(&first), id(&second));
    assert!(
        !first.head().contains("idempotent-replayed") && second.head().contains("idempotent-replayed: true")
    );
    assert_eq!(only_job(&rig).await, job);
    let usage = rig.get("/v1/usage?group_by=model").await.json();
    assert_eq!(usage["data"][0]["requests"], 1, "{usage}");
    let mut third = streamed(&rig, "k").await;
    third.until_over().await;
    assert_eq!(third.chat_text(), "Paris.", "one that ended is replayed");
    assert_eq!(id(&third), id(&first));
}

#[tokio::test]
async fn who_joins_and_leaves_ends_nothing() {
    let rig = Rig::start(unlimited()).await;
    let (_, mut first, second) = joined(&rig).await;
    drop(second);
    tokio::time::sleep(Duration::from_millis(300)).await;
    end_what_waits(&rig).await;
    first.until_over().await;
    assert_eq!(first.chat_text(), "Paris.");
}

#[tokio::test]
async fn a_jobs_events_tell_its_states_its_text_and_its_end() {
    let rig = Rig::start(unlimited()).await;
    let job = submitted(&rig).await;
    let mut all = follow(rig.address, &rig.key, job, "").await;
    all.until(|all| all.kinds() == ["queued"]).await;
    tell(&rig, job, 0);
    all.until(|all| all.job_text() == "Pa").await;
    let last = field(all.events().last().expect("an event"), "id: ").to_owned();
    let mut back = follow(rig.address, &rig.key, job, &last).await;
    tell(&rig, job, 1);
    back.until(|back| back.job_text() == "ri").await;
    end_what_waits(&rig).await;
    for reading in [&mut all, &mut back] {
        reading.until_over().await;
    }
    assert_eq!((all.job_text().as_str(), back.job_text().as_str()), ("Paris.", "ris."));
    assert!(all.head().contains("text/event-stream") && all.head().contains(&format!("x-job-id: {job}")));
    let events = all.events();
    let end = data(events.last().expect("an event"));
    assert_eq!((&end["status"], &end["job_id"]), (&json!("succeeded"), &json!(job)));
    assert_eq!(end["result"]["choices"], json!([{ "index": 0, "finish_reason": "stop" }]));
    assert_eq!(end["result"]["usage"]["completion_tokens"], 3, "{end}");
    assert_eq!(end["verification"]["status"], "verified");
    // From each event on, what comes after it is told, and nothing twice.
    let texts: Vec<String> =
        events.iter().map(|event| data(event)["text"].as_str().unwrap_or_default().to_owned()).collect();
    for (place, event) in events.iter().enumerate().take(events.len() - 1) {
        let mut later = follow(rig.address, &rig.key, job, field(event, "id: ")).await;
        later.until_over().await;
        assert_eq!(later.job_text(), texts[place + 1..].concat(), "{event}");
        assert_eq!(later.events().last(), events.last(), "{event}");
    }
    let mut none = follow(rig.address, &rig.key, job, field(events.last().expect("the end"), "id: ")).await;
    none.until_over().await;
    assert!(none.head().starts_with("http/1.1 204"), "{}", none.head());
    let mut whole = follow(rig.address, &rig.key, job, "").await;
    whole.until_over().await;
    assert_eq!(
        (whole.job_text().as_str(), whole.kinds()),
        ("Paris.", vec!["text".to_owned(), "end".to_owned()])
    );
}

#[tokio::test]
async fn what_is_no_event_or_no_job_of_the_account_is_refused() {
    let rig = Rig::start(unlimited()).await;
    let job = submitted(&rig).await;
    let path = format!("/v1/jobs/{job}/events");
    let get = async |path: &str, key: &str, last: &str| {
        rig.send("GET", path, &[("api_key", key), ("Last-Event-ID", last)], b"").await
    };
    let wrong = get(&path, &rig.key, "7").await;
    assert_eq!((wrong.status, &wrong.json()["error"]["code"]), (400, &json!("bad_request")));
    let (_, eves) = new_key(&rig.ledger, "eve@example.com").await;
    for (path, key) in [
        (&*path, eves.as_str()),
        ("/v1/jobs/job_1/events", &rig.key),
        (&format!("/v1/jobs/{}/events", JobId::new()), &rig.key),
    ] {
        assert_eq!(get(path, key, "").await.status, 404, "{path}");
    }
    assert_eq!(get(&path, "inf_nobody", "").await.status, 401);
    end_what_waits(&rig).await;
    rig.get_until(&format!("/v1/jobs/{job}"), |job| job["status"] == "succeeded").await;
    // A text that isn't the beginning of the answer's was never shown by anyone who knew better.
    let mut other = follow(rig.address, &rig.key, job, "running.2.0000000000000000").await;
    other.until_over().await;
    assert_eq!(other.kinds(), ["error"]);
    assert_eq!(data(&other.events()[0])["error"]["code"], "stream_overturned");
    let headers = [("api_key", rig.key.as_str())];
    let erased = rig.send("DELETE", &format!("/v1/jobs/{job}/data"), &headers, b"").await;
    assert!(erased.status < 300, "{}", erased.json());
    assert_eq!(erase(&rig).await, 1);
    let gone = get(&path, &rig.key, "").await;
    assert_eq!((gone.status, &gone.json()["error"]["code"]), (410, &json!("erased")));
}

/// Starts another gateway of the same network; returns its address and id.
async fn another_gateway(rig: &Rig) -> (std::net::SocketAddr, GatewayId, Shutdown) {
    let (ledger, broker) = (&rig.ledger, &rig.broker);
    let seams = Seams {
        intake: Arc::clone(ledger) as _,
        reader: Arc::clone(ledger) as _,
        batches: Arc::clone(ledger) as _,
        lists: Arc::clone(ledger) as _,
        accounts: Arc::clone(ledger) as _,
        keys: Arc::clone(ledger) as _,
        erasures: Arc::clone(ledger) as _,
        network: Arc::clone(ledger) as _,
        roster: Arc::clone(ledger) as _,
        node_reader: Arc::clone(ledger) as _,
        groups: Arc::clone(ledger) as _,
        broker: Arc::clone(broker) as _,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (gateway, shutdown) = (Gateway::new(unlimited(), seams), Shutdown::new());
    let id = gateway.id().clone();
    tokio::spawn(gateway.run(listener, shutdown.clone()));
    (address, id, shutdown)
}

/// Waits until a verifier is asked for this job, and returns by whom.
async fn asked(consumer: &mut Box<dyn Consumer>, job: JobId) -> (GatewayId, Watched) {
    let asked = async {
        loop {
            let delivery = consumer.next().await.expect("the queue is there");
            let watch = Watch::from_message(&delivery.message).expect("a watch");
            if let Some(watched) = watch.jobs.iter().find(|watched| watched.job == job) {
                return (watch.gateway.clone(), *watched);
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("it is asked for")
}

#[tokio::test]
async fn a_job_is_followed_at_a_gateway_that_did_not_accept_it() {
    let rig = Rig::start(unlimited()).await;
    let queue = topology::watch(&VerifierId::new("v"));
    rig.broker.declare(&queue).await.expect("a queue");
    let mut consumer = rig.broker.consume(&queue.name, 16).await.expect("a consumer");
    let (address, id, _shutdown) = another_gateway(&rig).await;
    let job = submitted(&rig).await;
    let mut there = follow(address, &rig.key, job, "").await;
    there.until(|there| there.kinds() == ["queued"]).await;
    let (gateway, watched) = asked(&mut consumer, job).await;
    assert_eq!((gateway, watched.passed_on.count, watched.stop), (id.clone(), 0, false));
    tell_gateway(&rig.broker, id.as_str(), job, 0);
    there.until(|there| there.job_text() == "Pa").await;
    // A client of the first gateway goes on at the other one.
    let mut here = follow(rig.address, &rig.key, job, "").await;
    asked(&mut consumer, job).await;
    tell(&rig, job, 0);
    here.until(|here| here.job_text() == "Pa").await;
    let last = field(here.events().last().expect("an event"), "id: ").to_owned();
    drop(here);
    let mut moved = follow(address, &rig.key, job, &last).await;
    tell_gateway(&rig.broker, id.as_str(), job, 1);
    moved.until(|moved| moved.job_text() == "ri").await;
    end_what_waits(&rig).await;
    for reading in [&mut there, &mut moved] {
        reading.until_over().await;
    }
    assert_eq!((there.job_text().as_str(), moved.job_text().as_str()), ("Paris.", "ris."));
}

#[tokio::test]
async fn a_drain_ends_streams_with_where_they_go_on() {
    let rig = Rig::start(Config { drain_ms: 500, ..unlimited() }).await;
    rig.play(Play::Leave);
    let mut chat = streamed(&rig, "k").await;
    let job = only_job(&rig).await;
    tell(&rig, job, 0);
    chat.until(|chat| chat.chat_text() == "Pa").await;
    let mut events = follow(rig.address, &rig.key, job, "").await;
    events.until(|events| events.job_text() == "Pa").await;
    let (address, id, _shutdown) = another_gateway(&rig).await;
    rig.shutdown.cancel();
    for reading in [&mut events, &mut chat] {
        reading.until_over().await;
        let last = data(reading.events().last().expect("an event"));
        assert_eq!(
            (&last["error"]["code"], &last["job_id"]),
            (&json!("shutting_down"), &json!(job)),
            "{last}"
        );
    }
    let error = data(chat.events().last().expect("an event"))["error"].clone();
    assert_eq!(error["events_url"], json!(format!("/v1/jobs/{job}/events")));
    let last = error["last_event_id"].as_str().expect("an id").to_owned();
    let mut there = follow(address, &rig.key, job, &last).await;
    there.until(|there| !there.head().is_empty()).await;
    tell_gateway(&rig.broker, id.as_str(), job, 0);
    tell_gateway(&rig.broker, id.as_str(), job, 1);
    there.until(|there| there.job_text() == "ri").await;
    end_what_waits(&rig).await;
    there.until_over().await;
    assert_eq!(there.job_text(), "ris.", "the rest, and nothing twice");
    tokio::time::timeout(PATIENCE, rig.running).await.expect("it ends").expect("it ends well");
}

#[tokio::test]
async fn nobody_is_asked_for_what_is_not_released() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let queue = topology::watch(&VerifierId::new("v"));
    rig.broker.declare(&queue).await.expect("a queue");
    let mut consumer = rig.broker.consume(&queue.name, 16).await.expect("a consumer");
    let send = async |more: &Value| {
        let mut body = chat();
        body["stream"] = json!(true);
        more.as_object().expect("members").iter().for_each(|(name, value)| body[name] = value.clone());
        let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
        Reading::begin(rig.address, ("POST", "/v1/chat/completions"), &headers, &body.to_string()).await
    };
    let _verified = send(&json!({ "verification": { "release": "verified" } })).await;
    let _told = send(&json!({ "logprobs": true })).await;
    let asking = send(&json!({ "seed": 1 })).await;
    let watch = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("one asks").expect("a queue");
    let watch = Watch::from_message(&watch.message).expect("a watch");
    assert_eq!(watch.jobs.len(), 1, "one of three: {watch:?}");
    drop(asking);
}
