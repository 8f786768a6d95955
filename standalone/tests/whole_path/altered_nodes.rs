//! One node of three is altered, or all are: which answers are served, which are disputed, and which jobs fail.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::altered::{Lie, LyingBroker, swapped_token};
use crate::client::question;
use crate::stage::{Stage, eventually, text};

async fn add_liar(stage: &mut Stage, name: &str, lie: Lie, delay: Duration) {
    let engine = stage.engine("model");
    let chat = Arc::clone(&stage.chat);
    stage
        .add(name, engine, |mut node| {
            node.broker = Arc::new(LyingBroker { honest: node.broker, chat, lie, delay });
            node
        })
        .await;
}

const SUMS: [(u32, u32); 6] = [(47, 38), (12, 7), (60, 21), (5, 9), (33, 44), (71, 18)];

#[tokio::test(flavor = "multi_thread")]
async fn one_liar_of_three_is_never_served() {
    let mut stage = Stage::open(2).await;
    add_liar(&mut stage, "liar", swapped_token(1, 1), Duration::ZERO).await;
    stage.run(3).await;
    for (first, second) in SUMS {
        let reply = stage.client.chat(&question(&format!("What is {first} + {second}?"))).await;
        assert_eq!(reply.status, 200, "{}", reply.json);
        let sum = (first + second).to_string();
        assert!(text(&reply.json).contains(&sum), "{first} + {second}: {}", reply.json);
        assert_eq!(reply.json["verification"]["replicas"]["agreed"], 2, "{}", reply.json);
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_lie_opens_a_dispute_and_changes_no_answer() {
    let mut stage = Stage::open(2).await;
    add_liar(&mut stage, "late-liar", swapped_token(1, 1), Duration::from_millis(1_500)).await;
    stage.run(3).await;
    let reply = stage.client.chat(&question("What is 47 + 38?")).await;
    assert_eq!(reply.status, 200, "{}", reply.json);
    assert!(text(&reply.json).contains("85"), "{}", reply.json);
    assert_eq!(reply.json["verification"]["status"], "verified");
    let id = reply.json["job_id"].as_str().expect("the job's id").to_owned();
    let job = eventually("a dispute", async || {
        let job = stage.client.job(&id).await;
        (job["verification"]["status"] == "disputed").then_some(job)
    })
    .await;
    assert_eq!(job["status"], "succeeded", "a dispute takes nothing back");
    assert!(text(&job["result"]).contains("85"), "{job}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_different_answers_are_no_answer() {
    let mut stage = Stage::open(0).await;
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        add_liar(&mut stage, name, swapped_token(1, index + 1), Duration::ZERO).await;
    }
    stage.run(3).await;
    let mut body = question("What is 47 + 38?");
    body["verification"] = json!({"quorum": 2});
    let reply = stage.client.chat(&body).await;
    assert_ne!(reply.status, 200, "{}", reply.json);
    assert!(reply.json.to_string().contains("no_consensus"), "{}", reply.json);
    stage.close().await;
}
