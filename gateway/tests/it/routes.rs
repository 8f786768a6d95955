//! Each route, used as intended.

use infera_broker::{Broker as _, topology};
use infera_ledger::Standing;
use infera_types::ids::{ModelName, VerifierId};
use infera_types::job::{Answer, End, FailureReason, VerificationStatus};
use infera_types::messages::{CapacitySummary, ModelCapacity, Version, Wire as _};
use infera_types::time::Timestamp;
use serde_json::json;

use crate::support::rig::{MODEL, Play, Rig, answered, chat, job, list_model, new_key, unlimited};

#[tokio::test]
async fn a_chat_is_answered_on_both_faces() {
    let rig = Rig::start(unlimited()).await;
    for path in ["/chat/completions", "/v1/chat/completions"] {
        let reply = rig.post(path, &chat(), &[("x-client-request-id", "mine")]).await;
        let body = reply.json();
        assert_eq!(reply.status, 200, "{body}");
        assert_eq!(body["object"], "chat.completion");
        assert_eq!(body["choices"][0]["message"]["content"], "Paris.");
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        assert_eq!(body["usage"]["total_tokens"], 15);
        assert_eq!(body["usage"]["prompt_tokens_details"]["cached_tokens"], 5);
        assert_eq!(body["model"], MODEL);
        let verification = json!({
            "status": "verified",
            "replicas": { "asked": 3, "answered": 3, "agreed": 3 },
            "rung": "identical",
            "numbers": "inside",
            "thresholds": "test",
        });
        assert_eq!(body["verification"], verification);
        assert_eq!(reply.header("x-job-id"), body["job_id"].as_str());
        assert!(reply.header("x-request-id").is_some_and(|id| id.starts_with("req_")));
        assert_eq!(reply.header("x-client-request-id"), Some("mine"));
    }
}

#[tokio::test]
async fn openais_optional_fields_may_be_left_out() {
    let rig = Rig::start(unlimited()).await;
    let least = json!({ "model": MODEL, "messages": [{ "role": "developer", "content": "x" }] });
    assert_eq!(rig.post("/v1/chat/completions", &least, &[]).await.status, 200);
    let neutral = json!({
        "model": MODEL, "messages": [{ "role": "user", "content": [{ "type": "text", "text": "x" }] }], "n": 1,
        "stream": false, "top_p": 1, "stop": null, "tools": [], "response_format": { "type": "text" }, "seed": 7,
        "max_completion_tokens": 4, "user": "u", "metadata": {}, "nobody_knows": true,
    });
    assert_eq!(rig.post("/v1/chat/completions", &neutral, &[]).await.status, 200);
}

#[tokio::test]
async fn a_submitted_job_is_followed_to_its_end() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let reply = rig.post("/submit_job", &job(), &[]).await;
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("queued")));
    let id = reply.json()["job_id"].as_str().expect("an id").to_owned();
    assert_eq!(reply.header("x-job-id"), Some(id.as_str()));
    let path = format!("/v1/jobs/{id}");
    let waiting = rig.get(&path).await.json();
    assert_eq!(
        (&waiting["id"], &waiting["object"], &waiting["status"]),
        (&json!(id), &json!("job"), &json!("queued"))
    );

    rig.play(Play::Answer);
    let reply = rig.post("/submit_job", &job(), &[]).await.json();
    let path = format!("/v1/jobs/{}", reply["job_id"].as_str().expect("an id"));
    let ended = rig.get_until(&path, |job| job["status"] == "succeeded").await.json();
    assert_eq!(ended["result"]["choices"][0]["message"]["content"], "Paris.");
    assert_eq!(ended["verification"]["status"], "verified");
    assert_eq!(ended["model"], MODEL);
}

#[tokio::test]
async fn a_dispute_shows_in_the_job() {
    let rig = Rig::start(unlimited()).await;
    let id = rig.post("/chat/completions", &chat(), &[]).await.json()["job_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    rig.ledger
        .dispute(id.parse().expect("an id"), "late conflict", Timestamp::now())
        .await
        .expect("a ledger");
    let job = rig.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(job["verification"]["status"], json!(VerificationStatus::Disputed));
    assert_eq!(job["result"]["verification"]["status"], json!(VerificationStatus::Disputed));
}

#[tokio::test]
async fn cancelling_is_idempotent_and_an_end_stays() {
    let rig = Rig::start(unlimited()).await;
    let done = rig.post("/chat/completions", &chat(), &[]).await.json();
    rig.play(Play::Leave);
    let waiting = rig.post("/submit_job", &job(), &[]).await.json();
    for (job, status) in [(&waiting, "cancelled"), (&done, "succeeded")] {
        let path = format!("/v1/jobs/{}", job["job_id"].as_str().expect("an id"));
        for _ in 0..2 {
            let reply = rig.send("DELETE", &path, &[("api_key", &rig.key)], b"").await;
            assert_eq!((reply.status, &reply.json()["status"]), (200, &json!(status)));
        }
        assert_eq!(rig.get(&path).await.json()["status"], status);
    }
    let job = rig.get(&format!("/v1/jobs/{}", waiting["job_id"].as_str().expect("an id"))).await.json();
    assert_eq!(job["error"]["code"], "cancelled");
}

#[tokio::test]
async fn jobs_of_other_accounts_are_not_there() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let mine =
        rig.post("/submit_job", &job(), &[]).await.json()["job_id"].as_str().expect("an id").to_owned();
    let (_, other) = new_key(&rig.ledger, "eve@example.com").await;
    let unguessed = "job_00000000000000000000000000000000";
    for id in [mine.as_str(), unguessed, "job_", "x", "%2e%2e", "job_'--"] {
        for method in ["GET", "DELETE"] {
            let reply = rig.send(method, &format!("/v1/jobs/{id}"), &[("api_key", &other)], b"").await;
            assert_eq!(
                (reply.status, &reply.json()["error"]["code"]),
                (404, &json!("not_found")),
                "{method} {id}"
            );
        }
    }
    assert_eq!(rig.get(&format!("/v1/jobs/{mine}")).await.json()["status"], "queued");
}

#[tokio::test]
async fn failures_have_a_status_a_code_and_the_job() {
    let rig = Rig::start(unlimited()).await;
    for (reason, status, code) in [
        (FailureReason::NoConsensus, 502, "no_consensus"),
        (FailureReason::TooManyMisses, 502, "too_many_misses"),
        (FailureReason::ContextLength, 400, "context_length_exceeded"),
        (FailureReason::InvalidMessages, 400, "invalid_messages"),
        (FailureReason::InsufficientNodes, 503, "insufficient_nodes"),
        (FailureReason::Poison, 500, "poison"),
    ] {
        rig.play(Play::End(End::Failed { reason, message: "One sentence.".to_owned() }));
        let openai = rig.post("/v1/chat/completions", &chat(), &[]).await;
        assert_eq!((openai.status, &openai.json()["error"]["code"]), (status, &json!(code)));
        assert_eq!(openai.json()["error"]["message"], "One sentence.");
        let param = if status == 400 { json!("messages") } else { json!(null) };
        assert_eq!(openai.json()["error"]["param"], param);
        assert_eq!(openai.header("x-job-id"), openai.json()["job_id"].as_str());
        let seed = rig.post("/chat/completions", &chat(), &[]).await;
        let expected = json!({ "detail": "One sentence.", "code": code, "job_id": seed.header("x-job-id") });
        assert_eq!((seed.status, seed.json()), (status, expected));
        let shown =
            rig.get(&format!("/v1/jobs/{}", seed.header("x-job-id").unwrap_or_default())).await.json();
        assert_eq!((&shown["status"], &shown["error"]["code"]), (&json!("failed"), &json!(code)));
    }
}

#[tokio::test]
async fn models_statistics_and_ping() {
    let rig = Rig::start(unlimited()).await;
    rig.post("/chat/completions", &chat(), &[]).await;
    let models = rig.get("/v1/models").await.json();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!(MODEL)));
    assert_eq!(models["data"][0]["nodes"], 3);
    assert_eq!(rig.get(&format!("/v1/models/{MODEL}")).await.json(), models["data"][0]);
    let statistics = rig.get("/network_stats").await.json();
    assert_eq!((&statistics["accepted"], &statistics["succeeded"]), (&json!(1), &json!(1)));
    for path in ["/worker/ping", "/healthz", "/readyz"] {
        assert_eq!(rig.send("GET", path, &[], b"").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_model_is_found_by_its_name_however_that_is_spelt_in_a_path() {
    let rig = Rig::start(unlimited()).await;
    list_model(&rig.ledger, "org/mo del é").await;
    // A second verifier offers the model; a model that no verifier offers isn't listed.
    let offered = ["org/mo del é", MODEL].map(ModelName::new);
    let models = offered
        .map(|model| ModelCapacity { model, nodes: 3, owners: 3, free_slots: 8, features: None })
        .into_iter()
        .collect();
    let summary = CapacitySummary { verifier: VerifierId::fresh(), models, speaks: Version::NEWEST };
    rig.broker.publish(&topology::capacity(), summary.to_message("capacity")).await;
    rig.get_until("/v1/models", |models| models["data"].as_array().is_some_and(|data| data.len() == 2)).await;
    for path in ["org%2Fmo%20del%20%C3%A9", "org%2fmo%20del%20%c3%a9", "org/mo%20del%20%C3%A9"] {
        let reply = rig.get(&format!("/v1/models/{path}")).await;
        assert_eq!((reply.status, &reply.json()["id"]), (200, &json!("org/mo del é")), "{path}");
        assert_eq!(reply.json()["object"], "model");
    }
    for path in ["none", "org%2Fnone", "org/none", "%", "%ff", "test-model/", "test-model%00", "TEST-MODEL"] {
        let reply = rig.get(&format!("/v1/models/{path}")).await;
        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["code"]), (404, &json!("model_not_found")), "{path}");
        assert_eq!((&error["param"], &error["type"]), (&json!("model"), &json!("invalid_request_error")));
    }
    let reply = rig.send("DELETE", "/v1/models/test-model", &[("api_key", &rig.key)], b"").await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn an_answer_has_its_models_fingerprint_or_none() {
    let rig = Rig::start(unlimited()).await;
    // The digest of the rig's model.
    let expected = json!(format!("fp_{}", &infera_types::ids::Digest::of(b"model").to_string()[..16]));
    let answer = rig.post("/v1/chat/completions", &chat(), &[]).await.json();
    assert_eq!(answer["system_fingerprint"], expected);
    let path = format!("/v1/jobs/{}", answer["job_id"].as_str().expect("an id"));
    assert_eq!(rig.get(&path).await.json()["result"]["system_fingerprint"], expected);
    // Answers from before the digest was stored have none, which is not the same as null.
    let End::Succeeded { answer, verification } = answered() else { panic!("the rig answers") };
    rig.play(Play::End(End::Succeeded { answer: Answer { model: None, ..answer }, verification }));
    let answer = rig.post("/v1/chat/completions", &chat(), &[]).await.json();
    assert_eq!((&answer["object"], answer.get("system_fingerprint")), (&json!("chat.completion"), None));
}

#[tokio::test]
async fn signing_up_gives_a_key_once() {
    let rig = Rig::start(unlimited()).await;
    let body = json!({ "email": "Grace@Example.com" }).to_string();
    let headers = [("Content-Type", "application/json")];
    let reply = rig.send("POST", "/signup_user", &headers, body.as_bytes()).await.json();
    let key = reply["api_key"].as_str().expect("a key").to_owned();
    assert_eq!(rig.send("GET", "/v1/models", &[("api_key", &key)], b"").await.status, 200);
    let again = rig.send("POST", "/signup_user", &headers, body.to_lowercase().as_bytes()).await;
    assert!(again.header("server-timing").is_none(), "the time would tell whether the address was known");
    let again = again.json();
    let other = again["api_key"].as_str().expect("another key");
    assert_ne!(other, key);
    let account = async |key: &str| {
        let reply = rig.send("GET", "/v1/account", &[("api_key", key)], b"").await;
        assert_eq!(reply.status, 200, "{}", reply.json());
        reply.json()
    };
    let (first, second) = (account(&key).await, account(other).await);
    assert_ne!(first["id"], second["id"], "an account is taken over by no one who knows its address");
    assert_eq!((&again["account"], &again["status"]), (&second["id"], &reply["status"]));
    assert_eq!(
        (&second["proven"], &second["mail"], &second["events"]),
        (&json!(false), &json!(false), &json!([]))
    );
}
