//! What the gateway says of itself: its OpenAPI document, which must be true of what it takes and answers, its pages,
//! and what it answers where there is nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use infera_gateway::Config;
use infera_types::ids::Digest;
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::rig::{MODEL, Play, Rig, unlimited};

/// The model that the document's examples name.
const EXAMPLES_MODEL: &str = "infera-tiny";

async fn document(rig: &Rig) -> Value {
    let reply = rig.send("GET", "/openapi.json", &[], b"").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    reply.json()
}

/// An operation that takes a body.
struct WithBody {
    method: String,
    path: String,
    /// The schema; of several, that of the example.
    schema: Value,
    /// An example with a model that the rig has.
    example: Value,
}

impl WithBody {
    /// Sends a body to the operation, whose path has this id.
    async fn send(&self, rig: &Rig, id: &str, body: &Value) -> Reply {
        let key = format!("Bearer {}", rig.key);
        let path = self.path.replace("{id}", id);
        let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
        rig.send(&self.method.to_ascii_uppercase(), &path, &headers, body.to_string().as_bytes()).await
    }
}

/// Returns the operations that take a body.
fn bodies(document: &Value) -> Vec<WithBody> {
    let mut bodies = Vec::new();
    for (path, verbs) in document["paths"].as_object().expect("paths") {
        for (method, operation) in verbs.as_object().expect("verbs") {
            let content = &operation["requestBody"]["content"]["application/json"];
            if content.is_object() {
                let (whole, mut example) = (&content["schema"], content["example"].clone());
                if example["model"] == EXAMPLES_MODEL {
                    example["model"] = json!(MODEL);
                }
                let schema = whole.get("anyOf").map_or(whole, |all| &all[0]).clone();
                bodies.push(WithBody { method: method.clone(), path: path.clone(), schema, example });
            }
        }
    }
    bodies
}

/// Makes a key and returns its id.
async fn fresh_key(rig: &Rig) -> String {
    let made = rig.post("/v1/keys", &json!({}), &[]).await.json();
    made["id"].as_str().expect("an id").to_owned()
}

/// Asserts that a status is in the document, and that the reply has the header that all replies have.
fn check_status(document: &Value, method: &str, path: &str, reply: &Reply) {
    let replies = &document["paths"][path][method]["responses"];
    assert!(
        replies[reply.status.to_string()].is_object(),
        "{method} {path}: {} isn't described",
        reply.status
    );
    assert!(reply.header("x-request-id").is_some(), "{method} {path}");
}

#[tokio::test]
async fn examples_are_taken() {
    let rig = Rig::start(unlimited()).await;
    let document = document(&rig).await;
    assert_eq!(document["openapi"], "3.1.0");
    let bodies = bodies(&document);
    assert!(bodies.len() >= 16, "{}", bodies.len());
    for with_body in bodies {
        let WithBody { method, path, example, .. } = &with_body;
        let reply = with_body.send(&rig, &fresh_key(&rig).await, example).await;
        match path.as_str() {
            // This gateway lets in no nodes from outside, so the account has none.
            "/register_node_secret" | "/check_node_secret" => assert_eq!(reply.status, 503),
            "/worker/update_result" => assert_eq!(reply.status, 409),
            "/daily_points" | "/node_jobs_stats" => assert_eq!(reply.status, 404),
            // There is no group of that id.
            _ if path.starts_with("/v1/node-groups/") => assert_eq!(reply.status, 404),
            _ if path.starts_with("/worker/") => assert_eq!(reply.status, 404),
            "/v1/account/data" => assert!(matches!(reply.status, 200 | 202), "{}", reply.json()),
            // This network sends no mail.
            _ if path.starts_with("/v1/account/") => assert_eq!(reply.status, 403, "{path}"),
            _ => assert!(matches!(reply.status, 200 | 202), "{method} {path}: {}", reply.json()),
        }
        check_status(&document, method, path, &reply);
    }
}

/// Sends each body with one field at its bounds and just beyond, for every bound in the document.
#[tokio::test]
async fn bounds_in_the_document_are_those_that_are_checked() {
    let config = Config { max_tokens_max: 100, max_tokens_default: 50, ..unlimited() };
    let rig = Rig::start(config).await;
    rig.play(Play::Answer);
    let document = document(&rig).await;
    let mut tried = 0;
    for with_body in bodies(&document) {
        let WithBody { method, path, schema, example } = &with_body;
        if path.ends_with("_node_secret") {
            continue;
        }
        let id = fresh_key(&rig).await;
        for (field, of_field) in schema["properties"].as_object().expect("properties") {
            for (value, is_fine) in at_and_beyond(of_field) {
                let mut body = example.clone();
                // What two fields say together no single bound can tell.
                match field.as_str() {
                    "min_tokens" => body["max_tokens"] = json!(100),
                    "top_logprobs" => body["logprobs"] = json!(true),
                    _ => {}
                }
                if field == "min_tokens" && body["max_output"].is_number() {
                    body["max_output"] = json!(100);
                }
                if field == "min_tokens" && body["max_completion_tokens"].is_number() {
                    body["max_completion_tokens"] = json!(100);
                }
                body[field] = value;
                let reply = with_body.send(&rig, &id, &body).await;
                // Nodes that aren't there, and tiers that the key may not have, are refused for what they are.
                let is_taken = !matches!(reply.status, 400 | 422);
                assert_eq!(is_taken, is_fine, "{path}: {field} = {}: {}", body[field], reply.json());
                check_status(&document, method, path, &reply);
                tried += 1;
            }
            let is_required =
                schema["required"].as_array().is_some_and(|names| names.contains(&json!(field)));
            let mut body = example.clone();
            body.as_object_mut().expect("an object").shift_remove(field);
            let reply = with_body.send(&rig, &id, &body).await;
            let is_refused = matches!(reply.status, 400 | 422);
            assert_eq!(is_refused, is_required, "{path} without {field}: {}", reply.json());
            tried += 1;
        }
    }
    println!("{tried} bodies at and beyond bounds");
    assert!(tried > 250, "{tried}");
}

/// Returns values of a field at each of its bounds, which are fine, and just beyond them, which aren't.
fn at_and_beyond(of_field: &Value) -> Vec<(Value, bool)> {
    let mut cases = Vec::new();
    // Half a step beyond a number is beyond, and an integer's next neighbour is.
    let is_integer = of_field["type"].to_string().contains("integer");
    for (bound, outward) in [("minimum", -1.0), ("maximum", 1.0)] {
        let Some(at) = of_field[bound].as_f64() else { continue };
        // Beyond 64 bits no JSON number of this library's stands for the neighbour.
        if at.abs() < 1e15 {
            let beyond = at + outward * if is_integer { 1.0 } else { 0.001 };
            let number = |value: f64| {
                #[expect(clippy::cast_possible_truncation, reason = "whole and small")]
                if is_integer { json!(value as i64) } else { json!(value) }
            };
            cases.extend([(number(at), true), (number(beyond), false)]);
        }
    }
    if let Some(values) = of_field["enum"].as_array() {
        cases.extend(values.iter().map(|value| (value.clone(), true)));
        cases.push((json!({ "of_no": "kind" }), false));
    }
    let count = |bound: &str| of_field[bound].as_u64().and_then(|count| usize::try_from(count).ok());
    let item = of_field["items"]["enum"].get(0).cloned().unwrap_or(json!("x"));
    if of_field["items"]["type"] == "string" {
        cases.extend(count("maxItems").into_iter().flat_map(|most| {
            [(json!(vec![item.clone(); most]), true), (json!(vec![item.clone(); most + 1]), false)]
        }));
    }
    if of_field["minItems"] == 1 {
        cases.push((json!([]), false));
    }
    if let Some(most) = count("maxLength") {
        cases.extend([(json!("x".repeat(most)), true), (json!("x".repeat(most + 1)), false)]);
    }
    if count("minLength").is_some_and(|least| least > 0) {
        cases.push((json!(""), false));
    }
    cases
}

/// Only the routes that the document says need a key refuse a request without one.
#[tokio::test]
async fn access_in_the_document_is_what_is_checked() {
    let rig = Rig::start(unlimited()).await;
    let document = document(&rig).await;
    for (path, verbs) in document["paths"].as_object().expect("paths") {
        for (method, operation) in verbs.as_object().expect("verbs") {
            let needs_key = !operation["security"].as_array().expect("a list").is_empty();
            let asked =
                path.replace("{id}", "job_00000000000000000000000000000000").replace("{model}", MODEL);
            let reply = rig.send(&method.to_ascii_uppercase(), &asked, &[], b"").await;
            assert_eq!(reply.status == 401, needs_key, "{method} {path}: {}", reply.status);
            check_status(&document, method, path, &reply);
            if reply.status != 200 {
                let json = reply.json();
                let code = if path.starts_with("/v1") { &json["error"]["code"] } else { &json["code"] };
                let in_head = reply.header("x-error-code");
                assert!(in_head.is_some(), "{method} {path}");
                // FastAPI's list of mistakes has no code.
                assert!(json["detail"].is_array() || code.as_str() == in_head, "{method} {path}: {json}");
            }
        }
    }
}

#[tokio::test]
async fn what_openai_has_and_we_lack_is_told_with_what_there_is() {
    let rig = Rig::start(unlimited()).await;
    for (method, path, code) in [
        ("POST", "/v1/responses", "endpoint_not_supported"),
        ("POST", "/v1/embeddings", "endpoint_not_supported"),
        ("POST", "/v1/completions", "endpoint_not_supported"),
        ("GET", "/v1/files", "endpoint_not_supported"),
        ("DELETE", "/v1/files/file-1", "endpoint_not_supported"),
        ("POST", "/v1/images/generations", "endpoint_not_supported"),
        ("POST", "/v1/audio/speech", "endpoint_not_supported"),
        ("POST", "/v1/batches", "endpoint_not_supported"),
        ("POST", "/v1/assistants", "endpoint_not_supported"),
        ("POST", "/v1/moderations", "endpoint_not_supported"),
        ("POST", "/v1/fine_tuning/jobs", "endpoint_not_supported"),
        ("GET", "/v1/nothing", "route_not_found"),
        ("GET", "/v1", "route_not_found"),
        ("GET", "/v1/chat/completions/chatcmpl-1", "route_not_found"),
    ] {
        let reply = rig.send(method, path, &[("api_key", &rig.key)], b"").await;
        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["code"]), (404, &json!(code)), "{path}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains("Chat completions") && message.len() < 250, "{message}");
    }
}

/// Returns the page and the policy under which a browser shows it.
async fn page(rig: &Rig, path: &str, accept: &str) -> (String, String) {
    let reply = rig.send("GET", path, &[("Accept", accept)], b"").await;
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("text/html; charset=utf-8")),
        "{path}"
    );
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    let policy = reply.header("content-security-policy").expect("a policy").to_owned();
    (String::from_utf8(reply.body).expect("text"), policy)
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_and_run_their_own_script_alone() {
    let rig = Rig::start(unlimited()).await;
    for path in ["/", "/docs"] {
        let (page, policy) = page(&rig, path, "text/html,application/xhtml+xml,*/*;q=0.8").await;
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        for (tag, directive) in [("style", "style-src"), ("script", "script-src")] {
            for inline in page.split(&format!("<{tag}>")).skip(1) {
                let inline = inline.split(&format!("</{tag}>")).next().unwrap_or_default();
                let hash = STANDARD.encode(Digest::of(inline.as_bytes()).as_bytes());
                assert!(policy.contains(&format!("{directive} 'sha256-{hash}'")), "{path}: {tag}: {policy}");
            }
        }
        for external in ["http://", "https://", "src=", "url(", "@import", "innerHTML", "eval("] {
            assert!(!page.contains(external), "{path} has {external}");
        }
    }
    assert!(page(&rig, "/docs", "*/*").await.0.contains("<script>"));
}

#[tokio::test]
async fn the_root_tells_browsers_and_programs_where_they_are() {
    let rig = Rig::start(unlimited()).await;
    let (page, _) = page(&rig, "/", "text/html").await;
    for accept in ["application/json", "*/*", "", "application/json, text/plain"] {
        let reply = rig.send("GET", "/", &[("Accept", accept)], b"").await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{accept}");
        assert_eq!(reply.header("vary"), Some("accept"));
        let json = reply.json();
        for (member, told) in [("base_url", "/v1"), ("docs", "/docs"), ("openapi", "/openapi.json")] {
            assert_eq!(json[member], told, "{accept}");
            assert!(page.contains(told), "{told}");
        }
    }
}

/// Where the document says that a body has no other members, others are refused by name; elsewhere they are ignored, as FastAPI and
/// OpenAI do it.
#[tokio::test]
async fn other_members_are_refused_where_the_document_says_so() {
    let rig = Rig::start(unlimited()).await;
    let document = document(&rig).await;
    let mut closed = Vec::new();
    for with_body in bodies(&document) {
        let WithBody { method, path, schema, example } = &with_body;
        let mut body = example.clone();
        body["surplus_member"] = json!(1);
        let id = fresh_key(&rig).await;
        let reply = with_body.send(&rig, &id, &body).await;
        let is_named = reply.json()["error"]["param"] == "surplus_member";
        let is_closed = schema["additionalProperties"] == json!(false);
        assert_eq!(is_named, is_closed, "{method} {path}: {}", reply.json());
        if is_closed {
            assert_eq!((reply.status, reply.header("x-error-code")), (400, Some("invalid_value")), "{path}");
            closed.push(path.clone());
        }
        check_status(&document, method, path, &reply);
    }
    let own: Vec<&str> =
        closed.iter().map(String::as_str).filter(|path| !path.starts_with("/v1/account")).collect();
    for path in [
        "/v1/keys",
        "/v1/keys/{id}",
        "/v1/keys/{id}/rotate",
        "/v1/keys/{id}/nodes",
        "/v1/jobs",
        "/v1/jobs/cancel",
    ] {
        assert!(own.contains(&path), "{path}: {own:?}");
    }
    assert!(own.iter().filter(|path| path.starts_with("/v1/node-groups")).count() >= 5, "{own:?}");
}
