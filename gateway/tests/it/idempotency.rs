//! `Idempotency-Key`: one key makes one job, however often and however quickly it is sent again.

use std::collections::BTreeSet;

use futures::future::join_all;
use infera_broker::{Broker as _, topology};
use infera_gateway::Config;
use infera_ledger::JobReader;
use infera_types::ids::{ModelName, VerifierId};
use infera_types::job::{End, FailureReason};
use infera_types::messages::{CapacitySummary, ModelCapacity, Version, Wire as _};
use infera_types::time::Timestamp;
use serde_json::json;

use crate::support::rig::{MODEL, Play, Rig, chat, job, new_key, unlimited};

const KEY: (&str, &str) = ("Idempotency-Key", "\"8e03978e\"");

#[tokio::test]
async fn a_finished_answer_is_replayed() {
    let rig = Rig::start(unlimited()).await;
    let first = rig.post("/v1/chat/completions", &chat(), &[KEY]).await;
    let second = rig.post("/v1/chat/completions", &chat(), &[("Idempotency-Key", "8e03978e")]).await;
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.json(), second.json());
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
}

#[tokio::test]
async fn a_finished_answer_is_replayed_without_nodes() {
    let rig = Rig::start_with(Config { capacity_ttl_ms: 1_500, ..unlimited() }, 0).await;
    let models = vec![ModelCapacity {
        model: ModelName::new(MODEL),
        nodes: 3,
        owners: 3,
        free_slots: 8,
        features: None,
    }];
    let summary = CapacitySummary { verifier: VerifierId::fresh(), models, speaks: Version::NEWEST };
    let first = loop {
        rig.broker.publish(&topology::capacity(), summary.to_message("capacity")).await;
        let reply = rig.post("/v1/chat/completions", &chat(), &[KEY]).await;
        if reply.status == 200 {
            break reply;
        }
        assert_eq!(reply.status, 503, "the summary has not come yet");
    };
    // From here on, no summary says that there are nodes.
    while rig.post("/v1/chat/completions", &chat(), &[]).await.status == 200 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let second = rig.post("/v1/chat/completions", &chat(), &[KEY]).await;
    assert_eq!((second.status, second.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(first.json(), second.json());
    let mut other = chat();
    other["max_tokens"] = json!(17);
    assert_eq!(
        rig.post("/v1/chat/completions", &other, &[KEY]).await.json()["error"]["code"],
        "idempotency_key_reused"
    );
    let fresh = rig.post("/v1/chat/completions", &chat(), &[("Idempotency-Key", "another")]).await;
    assert_eq!(fresh.status, 503);
}

/// A group that is gone makes no new jobs, and hides no earlier one.
#[tokio::test]
async fn an_earlier_job_is_found_without_its_group() {
    let rig = Rig::start(unlimited()).await;
    let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
    let made = rig.send("POST", "/v1/node-groups", &headers, br#"{"name": "lab"}"#).await.json();
    let group = made["id"].as_str().expect("an id");
    let faces = [("/v1/chat/completions", chat()), ("/submit_job", job()), ("/v1/jobs", chat())];
    let send = async |path: &str, body: &serde_json::Value, key: &str| {
        let mut body = body.clone();
        body["verification"] = json!({ "nodes": "group:lab" });
        rig.post(path, &body, &[("Idempotency-Key", key)]).await
    };
    let id = |reply: &crate::support::client::Reply| {
        let object = reply.json();
        object.get("job_id").or(object.get("id")).cloned()
    };
    let mut firsts = Vec::new();
    for (path, body) in &faces {
        let first = send(path, body, path).await;
        assert!(first.status < 300, "{path}: {}", first.json());
        firsts.push(id(&first));
    }
    let mut job = chat();
    job["verification"] = json!({ "nodes": "group:lab" });
    let several = json!({ "jobs": [job, chat()] });
    let batch = async |key: &str| rig.post("/v1/jobs", &several, &[("Idempotency-Key", key)]).await;
    let ids = |reply: &crate::support::client::Reply| {
        let jobs = reply.json()["data"].as_array().cloned().unwrap_or_default();
        jobs.iter().map(|job| (job["id"].clone(), job["replayed"].clone())).collect::<Vec<_>>()
    };
    let first_batch = ids(&batch("batch").await);
    assert_eq!(first_batch.len(), 2);
    let path = format!("/v1/node-groups/{group}");
    assert_eq!(rig.send("DELETE", &path, &headers[..1], b"").await.status, 200);
    for ((path, body), first) in faces.iter().zip(firsts) {
        let again = send(path, body, path).await;
        assert!(again.status < 300, "{path}: {}", again.json());
        assert_eq!((id(&again), again.header("idempotent-replayed")), (first, Some("true")), "{path}");
        assert_eq!(send(path, body, "another").await.status, 404, "{path}");
        let mut other = body.clone();
        other["max_tokens"] = json!(17);
        assert!((400..500).contains(&send(path, &other, path).await.status), "{path}: another request");
    }
    let again: Vec<_> = first_batch.into_iter().map(|(id, _)| (id, json!(true))).collect();
    assert_eq!(ids(&batch("batch").await), again, "jobs together");
    assert_eq!(batch("another").await.status, 404);
}

#[tokio::test]
async fn while_it_runs_it_is_in_progress() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let mut body = chat();
    body["request_timeout_time"] = json!(2);
    let (first, second) = tokio::join!(rig.post("/v1/chat/completions", &body, &[KEY]), async {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        rig.post("/v1/chat/completions", &body, &[KEY]).await
    });
    assert_eq!((first.status, second.status), (504, 409));
    assert_eq!(second.json()["error"]["code"], "idempotency_in_progress");
    assert!(second.wait_ms().is_some_and(|wait| (1_000..=1_500).contains(&wait)), "{:?}", second.headers);
    assert_eq!(first.header("x-job-id"), second.header("x-job-id"));
}

#[tokio::test]
async fn a_submission_is_one_job_fifty_times() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let body = job();
    let all = join_all((0..50).map(|_| rig.post("/submit_job", &body, &[KEY]))).await;
    let ids: BTreeSet<String> = all.iter().map(|reply| reply.json()["job_id"].to_string()).collect();
    assert!(all.iter().all(|reply| reply.status == 200));
    assert_eq!(ids.len(), 1, "{ids:?}");
    let new = all.iter().filter(|reply| reply.header("idempotent-replayed").is_none()).count();
    assert_eq!(new, 1);
    assert_eq!(rig.ledger.statistics(Timestamp::now()).await.expect("a ledger").accepted, 1);
}

#[tokio::test]
async fn another_body_is_refused_and_another_account_has_its_own() {
    let rig = Rig::start(unlimited()).await;
    let first = rig.post("/submit_job", &job(), &[KEY]).await;
    let mut other = job();
    other["max_output"] = json!(17);
    let refused = rig.post("/submit_job", &other, &[KEY]).await;
    assert_eq!((refused.status, first.status), (422, 200));
    let (_, key) = new_key(&rig.ledger, "eve@example.com").await;
    let headers = [("api_key", key.as_str()), ("Content-Type", "application/json"), KEY];
    let theirs = rig.send("POST", "/submit_job", &headers, job().to_string().as_bytes()).await;
    assert_eq!(theirs.status, 200);
    assert_ne!(theirs.json()["job_id"], first.json()["job_id"]);
}

#[tokio::test]
async fn keys_out_of_form_are_refused() {
    let rig = Rig::start(unlimited()).await;
    let long = "k".repeat(256);
    for headers in [
        vec![("Idempotency-Key", "")],
        vec![("Idempotency-Key", long.as_str())],
        vec![("Idempotency-Key", "é")],
        vec![("Idempotency-Key", "a"), ("Idempotency-Key", "a")],
    ] {
        assert_eq!(rig.post("/submit_job", &job(), &headers).await.status, 400, "{headers:?}");
    }
}

/// How the verifier's part ends a job.
fn failed(reason: FailureReason) -> Play {
    Play::End(End::Failed { reason, message: "One sentence.".to_owned() })
}

#[tokio::test]
async fn an_end_that_says_nothing_about_the_request_gives_its_key_back() {
    let rig = Rig::start(unlimited()).await;
    for (path, body) in [("/v1/chat/completions", chat()), ("/chat/completions", chat())] {
        for (number, play) in [
            failed(FailureReason::InsufficientNodes),
            failed(FailureReason::NoConsensus),
            Play::End(End::Expired),
        ]
        .into_iter()
        .enumerate()
        {
            let key = number.to_string();
            let key = ("Idempotency-Key", key.as_str());
            rig.play(play.clone());
            let first = rig.post(path, &body, &[key]).await;
            assert!(first.status >= 500, "{path} {play:?}: {}", first.json());
            assert_eq!(first.header("idempotent-replayed"), None);
            rig.play(Play::Answer);
            let second = rig.post(path, &body, &[key]).await;
            assert_eq!((second.status, second.header("idempotent-replayed")), (200, None), "{path} {play:?}");
            assert_ne!(first.header("x-job-id"), second.header("x-job-id"));
            let third = rig.post(path, &body, &[key]).await;
            assert_eq!((third.status, third.header("idempotent-replayed")), (200, Some("true")));
            assert_eq!(second.header("x-job-id"), third.header("x-job-id"));
        }
    }
}

#[tokio::test]
async fn an_end_that_would_come_again_is_replayed_as_final() {
    let rig = Rig::start(unlimited()).await;
    for path in ["/v1/chat/completions", "/chat/completions"] {
        for (reason, status) in [
            (FailureReason::ContextLength, 400),
            (FailureReason::InvalidMessages, 400),
            (FailureReason::Poison, 500),
        ] {
            let key = ("Idempotency-Key", reason.word());
            rig.play(failed(reason));
            let first = rig.post(path, &chat(), &[key]).await;
            rig.play(Play::Answer);
            let again = rig.post(path, &chat(), &[key]).await;
            assert_eq!((first.status, again.status), (status, status), "{path} {reason:?}");
            assert_eq!(first.json(), again.json());
            assert_eq!(first.header("idempotent-replayed"), None);
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            assert_eq!(again.header("x-should-retry"), Some("false"));
            assert_eq!(again.header("retry-after"), None);
        }
    }
}

#[tokio::test]
async fn a_submission_sent_again_says_how_its_job_stands() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let submit = async |key: &str| rig.post("/submit_job", &job(), &[("Idempotency-Key", key)]).await;
    let status = async |key: &str| {
        let reply = submit(key).await;
        assert_eq!((reply.status, reply.header("idempotent-replayed")), (200, Some("true")));
        reply.json()["status"].as_str().expect("a word").to_owned()
    };
    let first = submit("cancelled").await;
    assert_eq!(
        (first.json()["status"].as_str(), first.header("idempotent-replayed")),
        (Some("queued"), None)
    );
    assert_eq!(status("cancelled").await, "queued");
    let id = first.json()["job_id"].as_str().expect("an id").to_owned();
    let headers = [("api_key", rig.key.as_str())];
    assert_eq!(rig.send("DELETE", &format!("/v1/jobs/{id}"), &headers, b"").await.status, 200);
    assert_eq!(status("cancelled").await, "cancelled");
    for (key, play, expected) in [
        ("answered", Play::Answer, "succeeded"),
        ("at fault", failed(FailureReason::ContextLength), "failed"),
    ] {
        rig.play(play);
        let id = submit(key).await.json()["job_id"].as_str().expect("an id").to_owned();
        rig.get_until(&format!("/v1/jobs/{id}"), |job| job["status"] == expected).await;
        assert_eq!(status(key).await, expected);
    }
}
