//! Seeds are kept exactly or refused, because they tell one request from another, on all three routes that take a
//! conversation.

use infera_ledger::{JobOwner, Notice, Take};
use infera_types::ids::{JobId, VerifierId};
use infera_types::job::{JobRequest, Seed};
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use crate::support::rig::{MODEL, Play, Rig, unlimited};

const PATHS: [&str; 3] = ["/submit_job", "/chat/completions", "/v1/chat/completions"];

/// Returns a body that all three routes accept, with this JSON as its seed.
fn with_seed(seed: &str) -> String {
    format!(
        "{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}],\"max_output\":5,\"max_tokens\":5,\
         \"temperature\":1,\"request_timeout_time\":1,\"seed\":{seed}}}"
    )
}

/// Returns what was stored for a job that no verifier took.
pub(crate) async fn stored(rig: &Rig, job: &str) -> JobRequest {
    let job: JobId = job.parse().expect("an id");
    let notice = Notice::together(job, false);
    let taken = rig.ledger.take(&VerifierId::fresh(), &[notice], Timestamp::now()).await.expect("a ledger");
    let Some(Take::Taken(taken)) = taken.into_iter().next() else { panic!("{job} could not be taken") };
    serde_json::from_slice(&taken.request).expect("a request")
}

#[tokio::test]
async fn seeds_are_kept_apart_or_refused_by_name_and_range() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
    let ten_to_forty = format!("1{}", "0".repeat(40));
    for path in PATHS {
        for seed in [
            "18446744073709551616",
            "\"18446744073709551616\"",
            "-9223372036854775809",
            &ten_to_forty,
            "1e20",
            "-1e40",
        ] {
            let reply = rig.send("POST", path, &headers, with_seed(seed).as_bytes()).await;
            let said = reply.json();
            let bound = if seed.starts_with('-') { "-9223372036854775808" } else { "18446744073709551615" };
            if path.starts_with("/v1") {
                assert_eq!((reply.status, &said["error"]["param"]), (400, &json!("seed")), "{path} {seed}");
                assert!(said["error"]["message"].as_str().is_some_and(|text| text.contains(bound)), "{said}");
            } else {
                assert_eq!(
                    (reply.status, &said["detail"][0]["loc"]),
                    (422, &json!(["body", "seed"])),
                    "{path} {seed}"
                );
                assert!(said["detail"][0]["msg"].as_str().is_some_and(|text| text.contains(bound)), "{said}");
            }
        }
        // Two integers that read as the same float.
        for seed in ["9007199254740993.0", "9007199254740992.0", "1e19"] {
            let reply = rig.send("POST", path, &headers, with_seed(seed).as_bytes()).await;
            assert!([400, 422].contains(&reply.status), "{path} {seed}");
        }
    }
    for (seed, kept) in [
        ("9223372036854775807", Some(Seed::Signed(i64::MAX))),
        ("9223372036854775806", Some(Seed::Signed(i64::MAX - 1))),
        ("9223372036854775808", Some(Seed::Large(i64::MAX.cast_unsigned() + 1))),
        ("18446744073709551615", Some(Seed::Large(u64::MAX))),
        ("\"18446744073709551614\"", Some(Seed::Large(u64::MAX - 1))),
        ("-9223372036854775808", Some(Seed::Signed(i64::MIN))),
        ("9007199254740993", Some(Seed::Signed(9_007_199_254_740_993))),
        ("-0", Some(Seed::Signed(0))),
        ("1.0", Some(Seed::Signed(1))),
        ("\"7\"", Some(Seed::Signed(7))),
        ("null", None),
    ] {
        let reply = rig.send("POST", "/submit_job", &headers, with_seed(seed).as_bytes()).await;
        assert_eq!(reply.status, 200, "{seed}");
        let job = reply.header("x-job-id").expect("a job").to_owned();
        assert_eq!(stored(&rig, &job).await.seed, kept, "{seed}");
    }
}

#[tokio::test]
async fn an_assistant_may_have_said_nothing() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let conversation = |turn: Value| {
        let question = json!({ "role": "user", "content": "x" });
        json!({ "model": MODEL, "request_timeout_time": 1, "messages": [question, turn, question] })
    };
    for turn in [
        json!({ "role": "assistant", "content": null }),
        json!({ "role": "assistant" }),
        json!({ "role": "assistant", "content": null, "refusal": null, "tool_calls": [], "function_call": null }),
        json!({ "role": "assistant", "content": [] }),
        json!({ "role": "assistant", "content": "" }),
    ] {
        let reply = rig
            .post(
                "/v1/chat/completions",
                &conversation(turn.clone()),
                &[("Idempotency-Key", &turn.to_string())],
            )
            .await;
        assert_eq!(reply.status, 504, "{turn}: {}", reply.json());
        let request = stored(&rig, reply.header("x-job-id").expect("a job")).await;
        assert_eq!(
            (request.messages[1].role.as_str(), request.messages[1].content.as_str()),
            ("assistant", "")
        );
        assert_eq!(request.messages.len(), 3);
    }
    for (turn, param, code) in [
        (json!({ "role": "user", "content": null }), "messages[1].content", "invalid_value"),
        (json!({ "role": "user" }), "messages[1].content", "missing_field"),
        (json!({ "role": "system", "content": null }), "messages[1].content", "invalid_value"),
        (json!({ "role": "developer" }), "messages[1].content", "missing_field"),
        (
            json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": "1" }] }),
            "messages[1].tool_calls",
            "invalid_value",
        ),
        (json!({ "role": "assistant", "refusal": "I won't." }), "messages[1].refusal", "invalid_value"),
        (json!({ "role": "assistant", "audio": { "id": "1" } }), "messages[1].audio", "invalid_value"),
        (json!({ "role": "assistant", "content": 5 }), "messages[1].content", "invalid_value"),
    ] {
        let reply = rig.post("/v1/chat/completions", &conversation(turn.clone()), &[]).await;
        let error = &reply.json()["error"];
        assert_eq!(
            (reply.status, &error["param"], &error["code"]),
            (400, &json!(param), &json!(code)),
            "{turn}"
        );
    }
    // The content of a message on the network's own face is a text, as FastAPI has it.
    let mut body = crate::support::rig::chat();
    body["messages"][0] = json!({ "role": "assistant", "content": null });
    let reply = rig.post("/chat/completions", &body, &[]).await;
    assert_eq!((reply.status, &reply.json()["detail"][0]["type"]), (422, &json!("string_type")));
}
