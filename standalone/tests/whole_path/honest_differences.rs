//! Nodes whose numbers differ: an honest node with another export of the model agrees and is not flagged, and a node
//! that serves the quantised model under a false name is detected by its numbers, even where its tokens are right.

use infera_types::numbers::NumericClass;
use serde_json::{Value, json};

use crate::altered::Disguised;
use crate::client::question;
use crate::stage::Stage;

const QUESTIONS: [&str; 8] = [
    "What is 47 + 38?",
    "What is the capital of Peru?",
    "What is the opposite of cheap?",
    "How many meters are in 3 kilometers?",
    "Which day comes before Monday?",
    "What is 12 * 7?",
    "Name the capital of Japan.",
    "How much is 61 plus 17?",
];

/// Asks all questions at three temperatures with a quorum of three, and returns the verifications.
async fn verifications(stage: &Stage) -> Vec<Value> {
    let mut found = Vec::new();
    for temperature in [0.0, 0.7, 1.0] {
        for (seed, text) in QUESTIONS.iter().enumerate() {
            let mut body = question(text);
            body["temperature"] = json!(temperature);
            body["seed"] = json!(seed);
            body["verification"] = json!({"quorum": 3});
            let reply = stage.client.chat(&body).await;
            assert_eq!(reply.status, 200, "{text} at {temperature}: {}", reply.json);
            found.push(reply.json["verification"].clone());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_export_agrees_and_is_never_flagged() {
    let mut stage = Stage::open(2).await;
    let engine = stage.engine(infera::node::PLAIN_VARIANT);
    stage.add("plain", engine, |node| node).await;
    stage.run(3).await;
    for verification in verifications(&stage).await {
        assert_eq!(verification["replicas"]["agreed"], 3, "{verification}");
        assert_eq!(verification["numbers"], "inside", "{verification}");
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quantised_model_under_a_false_name_is_told_by_its_numbers() {
    let mut stage = Stage::open(2).await;
    let honest: NumericClass = stage.engine("model").description().numeric_class.clone();
    let engine = Disguised::as_class(stage.engine("q4"), honest);
    stage.add("quantised", engine, |node| node).await;
    stage.run(3).await;
    let mut told = 0;
    for text in QUESTIONS {
        // Two of three settle it even where the quantised tokens differ; numbers must be compared with all three in.
        let mut body = question(text);
        body["verification"] = json!({"quorum": 3});
        let reply = stage.client.chat(&body).await;
        if reply.status == 200 {
            assert_eq!(reply.json["verification"]["rung"], "identical", "{}", reply.json);
            assert_eq!(reply.json["verification"]["numbers"], "outside", "{text}: {}", reply.json);
            told += 1;
        }
    }
    assert!(told >= QUESTIONS.len() / 2, "most quantised answers have the same tokens, {told} did");
    stage.close().await;
}
