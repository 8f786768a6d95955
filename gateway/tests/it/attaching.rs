//! A client that lost its connection and sends the same request again attaches to the job that it left, and to nothing else.

use std::time::Duration;

use infera_gateway::Config;
use infera_gateway::access::ApiKey;
use infera_ledger::{JobReader as _, KeyBook as _, Statistics};
use infera_types::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::lives::end_what_waits;
use crate::support::client::{self, Reply};
use crate::support::rig::{Play, Rig, chat, unlimited};

/// How long the gateway takes to notice that a client is gone and doesn't only stop sending, and some time for a busy machine.
const NOTICED: Duration = Duration::from_millis(2_500);

async fn counts(rig: &Rig) -> Statistics {
    rig.ledger.statistics(Timestamp::now()).await.expect("a ledger")
}

/// Sends a chat and goes away once its job is accepted.
async fn leave(rig: &Rig, path: &str, body: &Value) {
    leave_at_once(rig, path, body).await;
    tokio::time::sleep(NOTICED).await;
}

/// Does the same, and doesn't wait until the gateway has noticed.
async fn leave_at_once(rig: &Rig, path: &str, body: &Value) {
    let before = counts(rig).await.accepted;
    let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
    let request = client::request("POST", path, &headers, body.to_string().as_bytes());
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    stream.write_all(&request).await.expect("sent");
    for _ in 0..500 {
        if counts(rig).await.accepted > before {
            drop(stream);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the job was never accepted");
}

fn patient() -> Config {
    Config { abandoned_ms: 30_000, ..unlimited() }
}

/// Answers the jobs that nobody answered yet: the rig plays only what is noticed from now on.
async fn ask(rig: &Rig, path: &str, body: &Value, key: &str) -> Reply {
    let headers = [("api_key", key), ("Content-Type", "application/json")];
    rig.send("POST", path, &headers, body.to_string().as_bytes()).await
}

#[tokio::test]
async fn the_same_request_attaches_to_the_job_that_its_client_left() {
    let rig = Rig::start(patient()).await;
    rig.play(Play::Leave);
    let mut body = chat();
    body["request_timeout_time"] = json!(600);
    leave(&rig, "/v1/chat/completions", &body).await;
    // It leaves again, and comes back again.
    let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
    let request = client::request("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes());
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    stream.write_all(&request).await.expect("sent");
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(stream);
    tokio::time::sleep(NOTICED).await;

    let third = async { ask(&rig, "/v1/chat/completions", &body, &rig.key).await };
    let ended = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        end_what_waits(&rig).await;
    };
    let (reply, ()) = tokio::join!(third, ended);
    assert_eq!(reply.status, 200, "{}", reply.json());
    let seen = counts(&rig).await;
    assert_eq!((seen.accepted, seen.succeeded, seen.cancelled), (1, 1, 0), "one job for three requests");
}

#[tokio::test]
async fn nothing_else_attaches() {
    let rig = Rig::start(patient()).await;
    let own = rig.get("/v1/keys").await.json();
    let account = infera_types::ids::AccountId::new(own["data"][0]["account"].as_str().expect("an account"));
    let other_key = ApiKey::generate().expect("randomness");
    rig.ledger.add_key(&other_key.row(account), 9, Timestamp::now()).await.expect("a ledger");
    rig.play(Play::Leave);
    let body = chat();
    leave(&rig, "/v1/chat/completions", &body).await;
    rig.play(Play::Answer);
    let mut other_body = body.clone();
    other_body["temperature"] = json!(0.5);
    let path = "/v1/chat/completions";
    assert_eq!(ask(&rig, path, &body, other_key.expose()).await.status, 200, "another key of the account");
    assert_eq!(ask(&rig, path, &other_body, &rig.key).await.status, 200, "another body");
    assert_eq!(ask(&rig, "/chat/completions", &body, &rig.key).await.status, 200, "another path");
    let keyed = rig.post(path, &body, &[("Idempotency-Key", "one")]).await;
    assert_eq!(keyed.status, 200, "an idempotency key finds its own job alone");
    let seen = counts(&rig).await;
    assert_eq!((seen.accepted, seen.succeeded, seen.cancelled), (5, 4, 0));
}

#[tokio::test]
async fn a_client_that_comes_back_too_late_finds_its_job_cancelled() {
    let rig = Rig::start(Config { abandoned_ms: 4_000, ..unlimited() }).await;
    rig.play(Play::Leave);
    leave(&rig, "/v1/chat/completions", &chat()).await;
    assert_eq!(counts(&rig).await.cancelled, 0, "its cancellation waits");
    for _ in 0..500 {
        if counts(&rig).await.cancelled == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rig.play(Play::Answer);
    assert_eq!(ask(&rig, "/v1/chat/completions", &chat(), &rig.key).await.status, 200);
    let seen = counts(&rig).await;
    assert_eq!((seen.accepted, seen.succeeded, seen.cancelled), (2, 1, 1), "a job of its own");
}

/// A drain waits for no client that might come back.
#[tokio::test]
async fn a_drain_cancels_what_clients_left() {
    let rig = Rig::start(patient()).await;
    rig.play(Play::Leave);
    leave(&rig, "/v1/chat/completions", &chat()).await;
    let Rig { shutdown, running, ledger, .. } = rig;
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), running).await.expect("it ends").expect("without a panic");
    let seen = ledger.statistics(Timestamp::now()).await.expect("a ledger");
    assert_eq!((seen.accepted, seen.cancelled), (1, 1));
}

/// OpenAI's client retries within half a second, before the gateway knows that its first connection is gone, and says so.
#[tokio::test]
async fn a_retry_that_says_so_waits_for_the_job_that_its_client_left() {
    let rig = Rig::start(patient()).await;
    rig.play(Play::Leave);
    let mut body = chat();
    body["request_timeout_time"] = json!(600);
    leave_at_once(&rig, "/v1/chat/completions", &body).await;
    let retry = rig.post("/v1/chat/completions", &body, &[("X-Stainless-Retry-Count", "1")]);
    let ended = async {
        tokio::time::sleep(NOTICED).await;
        end_what_waits(&rig).await;
    };
    let (reply, ()) = tokio::join!(retry, ended);
    assert_eq!(reply.status, 200, "{}", reply.json());
    let seen = counts(&rig).await;
    assert_eq!((seen.accepted, seen.succeeded, seen.cancelled), (1, 1, 0), "one job for both");
}
