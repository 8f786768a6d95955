//! Many jobs in few requests: the example of the API users' page, against a whole network.

use std::process::Command;

use serde_json::{Value, json};

use crate::client::question;
use crate::stage::{Stage, root};

/// The example submits and collects; every row comes back once, with an answer, in few requests.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_example_collects_every_result_in_few_requests() {
    const JOBS: usize = 300;
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let mut python = Command::new("python3");
    python
        .arg(root().join("docs/examples/collect.py"))
        .args(["--jobs", &JOBS.to_string(), "--url", &format!("http://{}", stage.client.address)])
        .env("INFERA_API_KEY", &stage.client.key);
    let run = tokio::task::spawn_blocking(move || python.output()).await;
    let output = run.expect("no panic").expect("python3 runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    println!("{told}");
    assert_eq!((&told["jobs"], &told["statuses"]), (&json!(JOBS), &json!({ "succeeded": JOBS })));
    let requests = told["requests"].as_u64().expect("a count");
    assert!(requests <= 10, "{requests} requests");
    stage.close().await;
}

/// What came in by any way is in the list and in the results; ends of every kind are.
#[tokio::test(flavor = "multi_thread")]
async fn every_end_is_among_the_results() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let client = &stage.client;
    let chat = client.chat(&question("What is 2 + 3?")).await;
    assert_eq!(chat.status, 200, "{}", chat.json);
    let mut unanswerable = question("x");
    unanswerable["messages"] =
        json!([{ "role": "assistant", "content": "x" }, { "role": "system", "content": "y" }]);
    let jobs = json!({ "jobs": [question("What is 3 + 3?"), unanswerable] });
    let accepted = client.call("POST", "/v1/jobs", Some(&jobs)).await;
    assert_eq!(accepted.status, 202, "{}", accepted.json);
    for job in accepted.json["data"].as_array().expect("a list") {
        let path = format!("/v1/jobs/{}?wait=60", job["id"].as_str().expect("an id"));
        let ended = client.call("GET", &path, None).await.json;
        assert!(ended["ended"].is_u64(), "{ended}");
    }
    let page = client.lines("/v1/jobs/results?min=3&limit=1000&wait=60").await;
    let listed = client.call("GET", "/v1/jobs?order=asc&limit=100", None).await.json;
    let id = |job: &Value| job["id"].as_str().expect("an id").to_owned();
    let mut of_results: Vec<String> = page.iter().map(id).collect();
    let of_list: Vec<String> = listed["data"].as_array().expect("a list").iter().map(id).collect();
    of_results.sort();
    assert_eq!(of_results, of_list, "{page:?}");
    assert_eq!(of_list.len(), 3);
    for job in listed["data"].as_array().expect("a list") {
        let result = page.iter().find(|result| result["id"] == job["id"]).expect("a result");
        assert_eq!(result["status"], job["status"]);
        assert!(result["result"].is_object() || result["error"].is_object(), "{result}");
    }
    stage.close().await;
}
