//! Exchanges that are held against the seed's own OpenAPI fragments (`seed.openapi.json`): for each of their routes a
//! good request, and every request in which one field is missing or of another type.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::client::{self, Reply};
use super::python::reference_folder;
use crate::support::rig::{MODEL, Rig, chat, job, unlimited};

/// A node's secret that is long enough.
const SECRET: &str = "0123456789abcdef";

/// What replaces a field's value. Texts of digits, and booleans for numbers, are left out: pydantic takes them for
/// numbers, and a schema doesn't.
const REPLACEMENTS: [&str; 5] = ["null", "5", "\"x\"", "[]", "{}"];

/// The values that the fragments take and a limit of ours doesn't.
const BEYOND: [(&str, &str); 3] = [("messages", "[]"), ("secret", "\"x\""), ("temperature", "5")];

/// Returns the file with the fragments.
pub(crate) fn document() -> PathBuf {
    reference_folder().join("seed.openapi.json")
}

/// A good body for each route that takes one, in an order in which all succeed.
fn good() -> Vec<(&'static str, Value)> {
    let secret = json!({ "node_id": "a/b", "secret": SECRET });
    let node = json!({ "node_url": "a/b", "node_version": "1.0" });
    let mut chat = chat();
    chat["request_timeout_time"] = json!(60);
    vec![
        ("/signup_user", json!({ "email": "new@example.com" })),
        ("/register_node_secret", secret.clone()),
        ("/check_node_secret", secret),
        ("/worker/update_models", json!({ "node_url": "a/b", "models": [MODEL, "another"] })),
        ("/worker/deregister_node", node.clone()),
        ("/worker/register_node", node.clone()),
        ("/node_jobs_stats", node),
        ("/daily_points", json!({ "node_name": "a/b", "last_days": 3 })),
        (
            "/worker/update_result",
            json!({ "job_id": "j", "api_key": "k", "model_name": MODEL, "result": { "a": 1 }, "status": "s" }),
        ),
        ("/chat/completions", chat),
        ("/submit_job", job()),
    ]
}

/// Returns every body that differs from a good one in one field, and whether a limit of ours refuses it.
fn changed(good: &Value) -> Vec<(Value, bool)> {
    let mut bodies = Vec::new();
    for name in good.as_object().expect("an object").keys() {
        let mut without = good.clone();
        without.as_object_mut().expect("an object").remove(name);
        bodies.push((without, false));
        for replacement in REPLACEMENTS {
            let mut body = good.clone();
            body[name] = serde_json::from_str(replacement).expect("JSON");
            bodies.push((body, BEYOND.contains(&(name.as_str(), replacement))));
        }
    }
    bodies
}

struct Exchanges(Vec<Value>);

impl Exchanges {
    fn add(&mut self, method: &str, path: &str, sent: (&Value, Value, bool), reply: &Reply) {
        let (request, query, beyond) = sent;
        self.0.push(json!({
            "method": method,
            "path": path,
            "request": request,
            "query": query,
            "beyond": beyond,
            "status": reply.status,
            "response": reply.json(),
        }));
    }
}

/// Returns every exchange, with what was sent and what came back.
pub(crate) async fn exchanges() -> Vec<Value> {
    let rig = Rig::start_of_one_process(unlimited()).await;
    let mut exchanges = Exchanges(Vec::new());
    for (path, good) in good() {
        let bodies = [(good.clone(), false)].into_iter().chain(changed(&good));
        for (body, beyond) in bodies.chain([(json!([]), false), (json!({}), false)]) {
            let reply = rig.post(path, &body, &[]).await;
            exchanges.add("post", path, (&body, json!({}), beyond), &reply);
        }
        // The fragments never list 401.
        let headers = [("Content-Type", "application/json")];
        let reply = rig.send("POST", path, &headers, good.to_string().as_bytes()).await;
        exchanges.add("post", path, (&good, json!({}), false), &reply);
    }
    let none = Value::Null;
    for path in ["/network_stats", "/worker/ping"] {
        exchanges.add("get", path, (&none, json!({}), false), &rig.get(path).await);
    }
    for name in ["a%2Fb", "nothing"] {
        let reply = rig.get(&format!("/node_points/{name}")).await;
        exchanges.add("get", "/node_points/{node_id}", (&none, json!({}), false), &reply);
    }
    for (text, beyond) in
        [("24", false), ("x", false), ("1.5", false), ("", false), ("0", true), ("9999", true)]
    {
        let path = format!("/node_model_mapping?time_frame={text}");
        let reply = client::send(rig.address, "GET", &path, &[], b"").await.expect("a reply");
        exchanges.add("get", "/node_model_mapping", (&none, json!({ "time_frame": text }), beyond), &reply);
    }
    exchanges.0
}
