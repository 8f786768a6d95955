//! The tokens that count against a key by the minute are those that the ledger settles: also of requests that fail after some of their
//! answers came, and of clients that went away.

use std::time::Duration;

use infera_broker::{Address, Broker as _};
use infera_gateway::Config;
use infera_ledger::JobOwner as _;
use infera_types::ids::{AccountId, GatewayId, JobId, ModelName};
use infera_types::job::{End, FailureReason, Settlement};
use infera_types::messages::{Completion, Version, Wire as _};
use infera_types::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::client;
use crate::support::rig::{MODEL, Play, Rig, answered, chat, unlimited};

/// The tokens of the prompt and of the one answer that comes, together.
const USED: u64 = 3_000;

/// What comes back in a minute: some five hundred while a test runs, and never half of what was used.
const PER_MINUTE: u64 = 10_000;

fn long() -> End {
    let End::Succeeded { mut answer, verification } = answered() else { unreachable!() };
    (answer.prompt_tokens, answer.tokens) = (1_000, vec![7; 2_000]);
    End::Succeeded { answer, verification }
}

async fn left(rig: &Rig) -> u64 {
    let reply = rig.get("/v1/models").await;
    reply.header("x-ratelimit-remaining-tokens").and_then(|left| left.parse().ok()).expect("a number")
}

/// Asserts that one answer counts.
async fn assert_used(rig: &Rig, what: &str) {
    let used = PER_MINUTE - left(rig).await;
    assert!((USED / 2..=USED).contains(&used), "{what}: {used}");
}

/// Ends a job and tells the gateway.
async fn end(rig: &Rig, id: &str, end: End) {
    let account = rig.get("/v1/account").await.json()["id"].as_str().expect("an account").to_owned();
    let settlement = Settlement {
        job_id: id.parse().expect("an id"),
        account: AccountId::new(account),
        model: ModelName::new(MODEL),
        gateway: GatewayId::fresh(),
        end,
        group: None,
        settled_ms: Timestamp::now(),
    };
    rig.ledger.settle(&settlement).await.expect("a ledger");
    let completion = Completion { settlement }.to_message_in(Version::NEWEST, JobId::new().to_string());
    rig.broker.publish(&Address::Queue(rig.completions.clone()), completion).await;
}

/// An answer that came before another one of its request failed is settled and paid for, and so it counts, however its client waits.
#[tokio::test]
async fn an_answer_before_a_failure_counts() {
    for (prefers, streams) in [(None, false), (Some("wait=30"), false), (None, true)] {
        let rig = Rig::start(Config { tokens_per_minute: PER_MINUTE, ..unlimited() }).await;
        rig.play(Play::Only(0, long()));
        let mut body = chat();
        (body["n"], body["stream"]) = (json!(3), json!(streams));
        let headers: Vec<(&str, &str)> = prefers.into_iter().map(|words| ("Prefer", words)).collect();
        assert_eq!(left(&rig).await, PER_MINUTE);
        let failing = async {
            let path = "/v1/jobs?status=succeeded";
            let listed = rig.get_until(path, |list| list["data"][0]["id"].is_string()).await.json();
            let first = listed["data"][0]["id"].as_str().expect("an id");
            let job = rig.get(&format!("/v1/jobs/{first}")).await.json();
            let second = job["choice"]["job_ids"][1].as_str().expect("an id").to_owned();
            let message = "They disagree.".to_owned();
            end(&rig, &second, End::Failed { reason: FailureReason::NoConsensus, message }).await;
        };
        let (reply, ()) = tokio::join!(rig.post("/v1/chat/completions", &body, &headers), failing);
        let said = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(said.contains("no_consensus"), "{said}");
        assert_used(&rig, &format!("{prefers:?} {streams}")).await;
    }
}

/// A client that goes away leaves a job for a while. If it is answered then, that counts; if it is cancelled, nothing does.
#[tokio::test]
async fn what_a_client_left_behind_counts_by_its_end() {
    for is_answered in [true, false] {
        let abandoned_ms = if is_answered { 60_000 } else { 0 };
        let config = Config { tokens_per_minute: PER_MINUTE, abandoned_ms, ..unlimited() };
        let rig = Rig::start(config).await;
        rig.play(Play::Leave);
        let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
        let mut body = chat();
        body["max_tokens"] = json!(500);
        let request = client::request("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes());
        let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
        stream.write_all(&request).await.expect("sent");
        let listed = rig.get_until("/v1/jobs", |list| list["data"][0]["id"].is_string()).await.json();
        assert!(left(&rig).await < PER_MINUTE - 300, "reserved");
        drop(stream);
        if is_answered {
            // Longer than the gateway takes to notice.
            tokio::time::sleep(Duration::from_secs(3)).await;
            end(&rig, listed["data"][0]["id"].as_str().expect("an id"), long()).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_used(&rig, "left and answered").await;
        } else {
            rig.get_until("/v1/jobs", |list: &Value| list["data"][0]["status"] == "cancelled").await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(left(&rig).await > PER_MINUTE - 100, "{}", left(&rig).await);
        }
    }
}
