//! Bodies that are meant to do harm are refused quickly, in the shape of the face, and nothing is accepted.

use std::time::{Duration, Instant};

use infera_ledger::JobReader;
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use crate::support::rig::{MODEL, Play, Rig, chat, job, unlimited};

/// Far more time than a refusal takes, and far less than one takes that grows with the square of its input.
const QUICKLY: Duration = Duration::from_secs(5);

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

#[tokio::test]
async fn hostile_json_is_refused_quickly() {
    let rig = Rig::start(unlimited()).await;
    let message = |content: &str| {
        format!(
            "{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"{content}\"}}],\"max_tokens\":5,\"temperature\":0}}"
        )
    };
    let table: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("deep lists", vec![b'['; 10_000], &[400]),
        ("deep objects", b"{\"a\":".repeat(10_000), &[400]),
        (
            "overflow",
            br#"{"model":"m","messages":[],"max_tokens":5,"temperature":1e400}"#.to_vec(),
            &[400, 422],
        ),
        ("NaN", br#"{"model":"m","messages":[],"max_tokens":NaN,"temperature":0}"#.to_vec(), &[400, 422]),
        ("half a pair", message("\\ud800").into_bytes(), &[400, 422]),
        ("invalid UTF-8", b"{\"model\":\"\xff\"}".to_vec(), &[400]),
        ("UTF-16", b"\xff\xfe{\x00}\x00".to_vec(), &[400]),
        ("trailing garbage", [message("x").as_bytes(), b"garbage"].concat(), &[400, 422]),
        ("empty", Vec::new(), &[400, 422]),
        ("very large", vec![b'a'; 20 * 1024 * 1024], &[413]),
        ("many items", format!("[{}0]", "0,".repeat(200_000)).into_bytes(), &[400, 422]),
        (
            "many wrong messages",
            format!("{{\"messages\":[{}0]}}", "0,".repeat(200_000)).into_bytes(),
            &[400, 422],
        ),
        (
            "many keys",
            format!("{{{}\"z\":0}}", (0..40_000).map(|n| format!("\"{n}\":0,")).collect::<String>())
                .into_bytes(),
            &[400, 422],
        ),
    ];
    for (name, body, statuses) in table {
        for path in ["/chat/completions", "/v1/chat/completions"] {
            let begun = Instant::now();
            let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
            let reply = rig.send("POST", path, &headers, &body).await;
            assert!(statuses.contains(&reply.status), "{name} on {path}: {}", reply.status);
            assert!(reply.body.len() < 80 * 1024, "{name}: a reply of {} bytes", reply.body.len());
            assert!(begun.elapsed() < QUICKLY, "{name}: {:?}", begun.elapsed());
            let key = if path.starts_with("/v1") { "error" } else { "detail" };
            assert!(!reply.json()[key].is_null(), "{name} on {path}");
        }
    }
    let statistics = rig.ledger.statistics(Timestamp::now()).await.expect("a ledger");
    assert_eq!(statistics.accepted, 0);
}

#[tokio::test]
async fn odd_text_is_taken_as_it_is() {
    let rig = Rig::start(unlimited()).await;
    for content in
        ["", "\u{0}", "\u{1}\u{7f}", "🙂‍↔️", "\u{202e}abc", &"a".repeat(100_000), &"e\u{301}".repeat(20_000)]
    {
        let body = with(chat(), "messages", json!([{ "role": "user", "content": content }]));
        let reply = rig.post("/chat/completions", &body, &[]).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
    }
}

#[tokio::test]
async fn our_own_limits_speak_fastapis_language() {
    let rig = Rig::start(unlimited()).await;
    let message = |role: &str| json!([{ "role": "user", "content": "x" }, { "role": role, "content": "x" }]);
    let table = [
        ("max_output", json!(0), json!(["body", "max_output"]), "greater_than_equal"),
        ("max_output", json!(-5), json!(["body", "max_output"]), "greater_than_equal"),
        ("max_output", json!(4_294_967_296_u64), json!(["body", "max_output"]), "less_than_equal"),
        ("max_output", json!(u64::MAX), json!(["body", "max_output"]), "less_than_equal"),
        ("temperature", json!(-0.1), json!(["body", "temperature"]), "greater_than_equal"),
        ("temperature", json!(1e308), json!(["body", "temperature"]), "less_than_equal"),
        ("temperature", json!("nan"), json!(["body", "temperature"]), "finite_number"),
        ("messages", json!([]), json!(["body", "messages"]), "too_short"),
        ("messages", message("tool"), json!(["body", "messages", 1, "role"]), "literal_error"),
        ("seed", json!("x"), json!(["body", "seed"]), "int_parsing"),
        ("verification", json!(3), json!(["body", "verification"]), "dict_type"),
        (
            "verification",
            json!({ "referee": true }),
            json!(["body", "verification", "referee"]),
            "extra_forbidden",
        ),
        ("verification", json!({ "quorum": 1 }), json!(["body", "verification", "quorum"]), "literal_error"),
        ("verification", json!({ "quorum": 4 }), json!(["body", "verification", "quorum"]), "literal_error"),
        (
            "verification",
            json!({ "quorum": "2" }),
            json!(["body", "verification", "quorum"]),
            "literal_error",
        ),
        (
            "verification",
            json!({ "replicas": 2 }),
            json!(["body", "verification", "replicas"]),
            "literal_error",
        ),
        (
            "verification",
            json!({ "replicas": 1, "quorum": 2 }),
            json!(["body", "verification", "quorum"]),
            "literal_error",
        ),
    ];
    for (field, value, location, kind) in table {
        let reply = rig.post("/submit_job", &with(job(), field, value.clone()), &[]).await;
        let first = &reply.json()["detail"][0];
        assert_eq!(
            (reply.status, &first["loc"], &first["type"]),
            (422, &location, &json!(kind)),
            "{field} {value}"
        );
        assert!(first["msg"].is_string());
    }
    for value in [
        json!(null),
        json!({}),
        json!({ "quorum": 3 }),
        json!({ "replicas": 1 }),
        json!({ "quorum": 2, "replicas": 3 }),
    ] {
        let reply = rig.post("/submit_job", &with(job(), "verification", value.clone()), &[]).await;
        assert_eq!(reply.status, 200, "{value}");
    }
}

#[tokio::test]
async fn what_openai_knows_and_we_do_not_is_named() {
    let rig = Rig::start(unlimited()).await;
    let table = [
        ("audio", json!({ "voice": "alloy" })),
        ("tool_choice", json!("required")),
        ("tools", json!([{ "type": "function" }])),
        ("response_format", json!({ "type": "json_object" })),
    ];
    for (field, value) in table {
        let reply = rig.post("/v1/chat/completions", &with(chat(), field, value), &[]).await;
        let error = &reply.json()["error"];
        assert_eq!(
            (reply.status, &error["param"], &error["code"]),
            (400, &json!(field), &json!("invalid_value"))
        );
        assert_eq!(error["type"], "invalid_request_error");
    }
    let reply = rig.post("/v1/chat/completions", &json!({ "model": MODEL }), &[]).await;
    let error = &reply.json()["error"];
    assert_eq!(
        (reply.status, &error["param"], &error["code"]),
        (400, &json!("messages"), &json!("missing_field"))
    );
    let image = json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }]);
    let reply = rig.post("/v1/chat/completions", &with(chat(), "messages", image), &[]).await;
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("messages[0].content[0]")));
}

#[tokio::test]
async fn unknown_paths_methods_and_models() {
    let rig = Rig::start(unlimited()).await;
    for path in ["/nothing", "/submit_job/", "//submit_job", "/embeddings"] {
        let reply = rig.get(path).await;
        assert_eq!((reply.status, &reply.json()["code"]), (404, &json!("route_not_found")), "{path}");
        assert!(reply.json()["detail"].as_str().is_some_and(|text| text.starts_with("Not Found")), "{path}");
    }
    let reply = rig.get("/submit_job").await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    assert_eq!(reply.json(), json!({ "detail": "Method Not Allowed", "code": "method_not_allowed" }));
    for path in ["/chat/completions", "/v1/chat/completions"] {
        let reply = rig.post(path, &with(chat(), "model", json!("no\u{0}such")), &[]).await;
        assert_eq!(reply.status, 404, "{path}");
    }
    let reply = rig.post("/v1/chat/completions", &with(chat(), "model", json!("none")), &[]).await;
    assert_eq!(reply.json()["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn fields_that_are_ours_to_set_are_ignored() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let mut body = job();
    for field in ["owner", "account", "status", "points", "price", "node_id", "epoch", "job_id"] {
        body[field] = json!("job_00000000000000000000000000000001");
    }
    let reply = rig.post("/submit_job", &body, &[]).await;
    assert_eq!(reply.status, 200);
    assert_ne!(reply.json()["job_id"], "job_00000000000000000000000000000001");
    let path = format!("/v1/jobs/{}", reply.json()["job_id"].as_str().unwrap_or_default());
    assert_eq!(rig.get(&path).await.json()["status"], "queued");
}

/// A wrong conversation is told where it is wrong and what is accepted there.
#[tokio::test]
async fn a_wrong_conversation_names_the_place_and_what_is_accepted() {
    let rig = Rig::start(unlimited()).await;
    let user = json!({ "role": "user", "content": "x" });
    let (roles, content) = ("'system', 'developer', 'user' or 'assistant'", "a text, or a list of parts");
    let parts =
        |part: Value| json!([user, { "role": "user", "content": [{ "type": "text", "text": "x" }, part] }]);
    for (messages, place, words, accepted) in [
        (json!(null), "messages", "valid list", "a list of one message or more"),
        (json!("Hello"), "messages", "valid list", "each an object with 'role' and 'content'"),
        (json!([]), "messages", "at least 1 item", "a list of one message or more"),
        (
            json!([user, "Hello"]),
            "messages[1]",
            "valid dictionary",
            "each an object with 'role' and 'content'",
        ),
        (json!([user, { "content": "x" }]), "messages[1].role", "Field required", roles),
        (json!([user, { "role": null, "content": "x" }]), "messages[1].role", "valid string", roles),
        (json!([{ "role": "bot", "content": "x" }]), "messages[0].role", "Input should be 'system'", roles),
        (
            json!([user, { "role": "tool", "content": "x", "tool_call_id": "1" }]),
            "messages[1].role",
            "Messages of the role 'tool' are not supported",
            roles,
        ),
        (json!([user, { "role": "user" }]), "messages[1].content", "Field required", content),
        (json!([{ "role": "user", "content": null }]), "messages[0].content", "valid string", content),
        (json!([{ "role": "user", "content": 5 }]), "messages[0].content", "valid string", content),
        (
            parts(json!({ "type": "image_url", "image_url": { "url": "data:" } })),
            "messages[1].content[1]",
            "Parts of type 'image_url' are not supported",
            content,
        ),
        (parts(json!({ "text": "x" })), "messages[1].content[1]", "should have a 'type'", content),
        (parts(json!("x")), "messages[1].content[1]", "should be an object", content),
        (parts(json!({ "type": "text" })), "messages[1].content[1].text", "Field required", content),
        (
            json!([user, { "role": "assistant", "content": null, "tool_calls": [{ "id": "1" }] }]),
            "messages[1].tool_calls",
            "'tool_calls' with this value is not supported",
            "",
        ),
    ] {
        let body = with(chat(), "messages", messages.clone());
        for (path, place) in [("/v1/chat/completions", place.to_owned()), ("/v1/jobs", place.to_owned())] {
            let reply = rig.post(path, &body, &[]).await;
            let error = reply.json()["error"].clone();
            assert_eq!((reply.status, &error["param"]), (400, &json!(place)), "{error}");
            let said = error["message"].as_str().expect("a message");
            assert!(said.starts_with(&format!("{place}: ")), "{said}");
            let tells = accepted.is_empty()
                || said.contains(&format!("accepted is {accepted}"))
                || said.contains(accepted);
            assert!(said.contains(words) && tells, "{messages}: {said}");
        }
    }
}
