//! Streams: what a client sees while an answer is written, and that it is the answer.

use std::sync::Arc;
use std::time::Duration;

use infera_engine_onnx::config::EngineKind;
use infera_gateway::Gateway;
use infera_types::frames::TokensFrame;
use infera_types::shutdown::Shutdown;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::altered::{FramingBroker, LyingBroker, swapped_token};
use crate::client::{Client, question};
use crate::stage::{Stage, eventually, text};

const QUESTIONS: [&str; 4] =
    ["What is 47 + 38?", "What is the capital of France?", "What is the opposite of hot?", "Say hello."];

/// What a stream came to.
struct Streamed {
    events: Vec<Value>,
    text: String,
    is_done: bool,
}

async fn streamed(stage: &Stage, body: &Value) -> Streamed {
    let mut body = body.clone();
    body["stream"] = true.into();
    let (status, lines) = stage.client.events(&body).await;
    assert_eq!(status, 200, "{lines:?}");
    let is_done = lines.last().is_some_and(|line| line == "[DONE]");
    let events: Vec<Value> = lines
        .iter()
        .filter(|line| *line != "[DONE]")
        .map(|line| serde_json::from_str(line).expect("an event is JSON"))
        .collect();
    let deltas = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    Streamed { text: deltas.collect(), events, is_done }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_the_answer_however_it_is_released() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    for (index, question_text) in QUESTIONS.into_iter().enumerate() {
        let mut body = question(question_text);
        body["temperature"] = (0.4 * (index % 2) as f64).into();
        body["seed"] = index.into();
        let whole = stage.client.chat(&body).await;
        assert_eq!(whole.status, 200, "{}", whole.json);
        for release in ["agreed", "first", "verified"] {
            body["verification"] = json!({ "release": release });
            body["stream_options"] = json!({ "include_usage": true });
            let streamed = streamed(&stage, &body).await;
            assert_eq!(streamed.text, text(&whole.json), "{release}: {question_text}");
            assert!(streamed.is_done, "{:?}", streamed.events);
            let [.., finish, usage] = &streamed.events[..] else { panic!("{:?}", streamed.events) };
            assert_eq!(finish["choices"][0]["finish_reason"], whole.json["choices"][0]["finish_reason"]);
            assert_eq!(finish["verification"]["status"], "verified", "{finish}");
            assert_eq!(usage["usage"]["completion_tokens"], whole.json["usage"]["completion_tokens"]);
            assert_eq!(streamed.events[0]["choices"][0]["delta"]["role"], "assistant");
            let ids: std::collections::BTreeSet<&str> =
                streamed.events.iter().filter_map(|event| event["id"].as_str()).collect();
            assert_eq!(ids.len(), 1, "{:?}", streamed.events);
        }
    }
    stage.close().await;
}

/// Has every engine take a tenth of a second for each of 16 tokens, so that a stream can be looked at while it is written.
fn slowly(config: &mut infera::config::Config) {
    config.engine.kind = EngineKind::Stub;
    config.engine.stub.decode_us = 100_000;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_shown_while_the_answer_is_written() {
    let mut stage = Stage::open_with(3, slowly).await;
    stage.run(3).await;
    for release in ["agreed", "first"] {
        let mut body = question("What is 47 + 38?");
        body["stream"] = true.into();
        body["verification"] = json!({ "release": release });
        body["metadata"] = json!({ "release": release });
        let _streaming = stage.client.read_events(&body, 3).await;
        let jobs = stage.client.call("GET", "/v1/jobs?limit=10", None).await.json;
        let job =
            jobs["data"].as_array().expect("jobs").iter().find(|job| job["metadata"]["release"] == release);
        assert_eq!(job.map(|job| &job["status"]), Some(&json!("running")), "{release}: {jobs}");
    }
    stage.close().await;
}

/// Starts another gateway beside a network that doesn't run yet, and returns its client.
async fn another_gateway(stage: &Stage, shutdown: &Shutdown) -> Client {
    let seams = &stage.network.as_ref().expect("a network that doesn't run yet").seams;
    let gateway =
        Gateway::of_one_process(stage.config.gateway.clone(), seams.of_gateway(), seams.ledger.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(gateway.run(listener, shutdown.clone()));
    Client { address, ..stage.client.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_followed_at_another_gateway_while_it_is_written() {
    let mut stage = Stage::open_with(3, slowly).await;
    let shutdown = Shutdown::new();
    let there = another_gateway(&stage, &shutdown).await;
    stage.run(3).await;
    let mut body = question("What is 47 + 38?");
    body["stream"] = true.into();
    let _streaming = stage.client.read_events(&body, 3).await;
    let jobs = stage.client.call("GET", "/v1/jobs?limit=1", None).await.json;
    let job = jobs["data"][0]["id"].as_str().expect("a job").to_owned();
    let events = there.job_events(&job, "").await;
    let whole = stage.client.job(&job).await;
    assert_eq!(whole["status"], "succeeded");
    let texts = |events: &[(String, String, Value)]| -> Vec<String> {
        events.iter().filter_map(|(_, _, data)| data["text"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(texts(&events).concat(), text(&whole["result"]));
    assert!(texts(&events).len() > 2, "it was told while it was written: {events:?}");
    let kinds: Vec<&str> = events.iter().map(|(_, kind, _)| &**kind).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("status", "end"), "{kinds:?}");
    let middle = events.len() / 2;
    let later = stage.client.job_events(&job, &events[middle].0).await;
    assert_eq!(texts(&later).concat(), texts(&events[middle + 1..]).concat());
    shutdown.cancel();
    stage.close().await;
}

/// Adds a node whose frames tell other tokens than its replicas.
async fn add_framer(stage: &mut Stage, name: &str) {
    let engine = stage.engine("model");
    stage
        .add(name, engine, |mut node| {
            let lie = Arc::new(|frame: &mut TokensFrame| {
                frame.answers.iter_mut().flat_map(|answer| &mut answer.tokens).for_each(|token| *token ^= 1);
            });
            node.broker = Arc::new(FramingBroker { honest: node.broker, lie });
            node
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_liar_frames_is_never_shown_and_counts_against_it() {
    let mut stage = Stage::open_with(2, slowly).await;
    add_framer(&mut stage, "framer").await;
    stage.run(3).await;
    let mut body = question(QUESTIONS[0]);
    let whole = stage.client.chat(&body).await;
    let streamed = streamed(&stage, &body).await;
    assert_eq!(streamed.text, text(&whole.json));
    assert!(streamed.is_done);
    // Its replica is no answer to a job of which it framed another, so that three can't agree.
    body["verification"] = json!({ "quorum": 3 });
    body["stream"] = true.into();
    let (_, lines) = stage.client.events(&body).await;
    assert!(lines.last().is_some_and(|line| line.contains("\"error\"")), "{lines:?}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_frames_of_a_liar_do_not_make_its_answer() {
    let mut stage = Stage::open(2).await;
    let engine = stage.engine("model");
    let chat = Arc::clone(&stage.chat);
    stage
        .add("turncoat", engine, |mut node| {
            let lie = swapped_token(1, 1);
            node.broker = Arc::new(LyingBroker { honest: node.broker, chat, lie, delay: Duration::ZERO });
            node
        })
        .await;
    stage.run(3).await;
    for question_text in QUESTIONS {
        let body = question(question_text);
        let whole = stage.client.chat(&body).await;
        let streamed = streamed(&stage, &body).await;
        assert_eq!(streamed.text, text(&whole.json), "{question_text}");
        assert!(streamed.is_done);
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_keep_their_status() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let mut body = question("What is 2 + 2?");
    body["stream"] = true.into();
    body["model"] = "no-such-model".into();
    let reply = stage.client.chat(&body).await;
    assert_eq!(
        (reply.status, &reply.json["error"]["code"]),
        (404, &json!("model_not_found")),
        "{}",
        reply.json
    );
    body["model"] = "infera-tiny".into();
    body["verification"] = json!({ "replicas": 1, "release": "agreed" });
    let reply = stage.client.chat(&body).await;
    assert_eq!(
        (reply.status, &reply.json["error"]["param"]),
        (400, &json!("verification.release")),
        "{}",
        reply.json
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_ends_the_job() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let mut body = question("Count from one to a hundred.");
    body["stream"] = true.into();
    body["max_tokens"] = 400.into();
    body["metadata"] = json!({ "who": "hangs up" });
    stage.client.hang_up_after(&body, 1).await;
    eventually("the job ends", async || {
        let jobs = stage.client.call("GET", "/v1/jobs?limit=10", None).await.json;
        let job = jobs["data"].as_array()?.iter().find(|job| job["metadata"]["who"] == "hangs up")?;
        ["cancelled", "succeeded"].contains(&job["status"].as_str()?).then_some(())
    })
    .await;
    stage.close().await;
}
