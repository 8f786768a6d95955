//! Many jobs in few requests: the example of the API users' page, against a whole network.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::client::question;
use crate::stage::{Stage, root};

/// Returns a run of the example of the API users' page.
fn example(stage: &Stage, arguments: &[&str]) -> Command {
    let mut python = Command::new("python3");
    python
        .arg(root().join("docs/examples/collect.py"))
        .args(["--url", &format!("http://{}", stage.client.address)])
        .args(arguments)
        .env("INFERA_API_KEY", &stage.client.key);
    python
}

/// Runs the example to its end, and returns what it says then.
async fn told_by(mut python: Command) -> Value {
    let run = tokio::task::spawn_blocking(move || python.output()).await;
    let output = run.expect("no panic").expect("python3 runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && output.stdout.is_empty(), "{said}");
    serde_json::from_str(&said).expect("a line of JSON")
}

/// Returns the rows of an output with their answers' texts, and asserts that none stands twice.
fn rows(path: &std::path::Path) -> BTreeMap<usize, String> {
    let text = std::fs::read_to_string(path).expect("an output");
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let result: Value = serde_json::from_str(line).expect("a line of JSON");
        let row = result["metadata"]["row"].as_str().and_then(|row| row.parse().ok()).expect("a row");
        let content = result["result"]["choices"][0]["message"]["content"].as_str().expect("an answer");
        assert_eq!(rows.insert(row, content.to_owned()), None, "row {row} twice");
    }
    rows
}

/// The example submits and collects; every row comes back once, with its answer, in few requests.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_example_writes_every_result_in_few_requests() {
    const JOBS: usize = 300;
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("results.ndjson");
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let arguments = ["--jobs", &JOBS.to_string(), "--output", &output.to_string_lossy()];
    let told = told_by(example(&stage, &arguments)).await;
    assert_eq!((&told["jobs"], &told["statuses"]), (&json!(JOBS), &json!({ "succeeded": JOBS })));
    let requests = told["requests"].as_u64().expect("a count");
    assert!(requests <= 10, "{requests} requests");
    let found = rows(&output);
    assert!(found.len() == JOBS && found.values().all(|text| text.contains('=')), "{found:?}");
    // The same command again finds that nothing is left to do.
    let again = told_by(example(&stage, &arguments)).await;
    assert_eq!((&again["statuses"], rows(&output).len()), (&json!({ "succeeded": JOBS }), JOBS));
    stage.close().await;
}

/// The example is killed while it waits for answers, and goes on from its files: no job is made twice, no result is lost or written
/// twice, also where the last page was written in part.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_example_goes_on_after_it_was_killed() {
    const JOBS: usize = 40;
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("questions.ndjson"), folder.path().join("results.ndjson"));
    let questions: Vec<String> = (0..JOBS)
        .map(|row| match row % 2 {
            0 => json!(format!("What is {row} + 1?")).to_string(),
            _ => question(&format!("What is {row} + 1?")).to_string(),
        })
        .collect();
    std::fs::write(&input, questions.join("\n")).expect("an input");
    let arguments = ["--input", &input.to_string_lossy(), "--output", &output.to_string_lossy()];
    let mut stage = Stage::open(3).await;
    // No node answers yet, so that it waits.
    let mut first = example(&stage, &arguments).spawn().expect("python3 runs");
    let listed = "/v1/jobs?limit=100";
    let accepted = async |stage: &Stage| {
        let list = stage.client.call("GET", listed, None).await.json;
        list["data"].as_array().map_or(0, Vec::len)
    };
    for _ in 0..600 {
        if accepted(&stage).await == JOBS && folder.path().join("results.ndjson.state").exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    first.kill().expect("it runs");
    first.wait().expect("it ends");
    // As if it had been killed between a page's lines and its cursor.
    let mut file = std::fs::OpenOptions::new().append(true).open(&output).expect("an output");
    std::io::Write::write_all(&mut file, b"{\"id\": \"half a li").expect("written");
    stage.run(3).await;
    let told = told_by(example(&stage, &arguments)).await;
    assert_eq!((&told["jobs"], &told["statuses"]), (&json!(JOBS), &json!({ "succeeded": JOBS })));
    assert_eq!((rows(&output).len(), accepted(&stage).await), (JOBS, JOBS), "each once");
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
