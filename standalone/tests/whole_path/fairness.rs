//! One account's backlog is not ahead of another account's chat.

use serde_json::{Value, json};

use crate::client::{Client, question};
use crate::stage::Stage;

/// The jobs that one account submits: minutes of work for the three slots of the network under test.
const BACKLOG: u64 = 200;

fn job(number: u64) -> Value {
    json!({
        "model": "infera-tiny",
        "messages": [{"role": "user", "content": format!("Tell me a story about {number} dogs.")}],
        "max_output": 200,
        "temperature": 1.2,
        "seed": number,
    })
}

/// Signs up, and returns a client with the new account's key.
async fn another(client: &Client) -> Client {
    let reply = client.call("POST", "/signup_user", Some(&json!({"email": "other@example.org"}))).await;
    let key = reply.json["api_key"].as_str().expect("a key").to_owned();
    Client { key, ..client.clone() }
}

async fn queued(client: &Client) -> u64 {
    let counts = client.call("GET", "/network_stats", None).await.json;
    counts["queued"].as_u64().expect("a count")
}

/// Nothing here is about time: when the chats are answered, most of the backlog still waits, though all of it came before.
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_answered_while_another_accounts_backlog_waits() {
    let mut stage = Stage::open_with(3, |config| {
        config.worker.slots = 1;
        config.verifier.drain_ms = 1_000;
    })
    .await;
    stage.run(3).await;
    for number in 0..BACKLOG {
        let reply = stage.client.call("POST", "/submit_job", Some(&job(number))).await;
        assert_eq!(reply.status, 200, "{}", reply.json);
    }
    let other = another(&stage.client).await;
    let before = queued(&other).await;
    assert!(before > BACKLOG / 2, "{before} wait: the network is too fast for this test");
    for asked in ["What is 47 + 38?", "What is the capital of France?"] {
        let reply = other.chat(&question(asked)).await;
        assert_eq!((reply.status, &reply.json["service_tier"]), (200, &json!("default")), "{}", reply.json);
    }
    let mut flex = question("What is 5 + 6?");
    flex["service_tier"] = json!("flex");
    let reply = other.chat(&flex).await;
    assert_eq!((reply.status, &reply.json["service_tier"]), (200, &json!("flex")), "{}", reply.json);
    let after = queued(&other).await;
    assert!(after > BACKLOG / 4, "of {before} jobs that came before only {after} still wait");
    stage.close().await;
}
