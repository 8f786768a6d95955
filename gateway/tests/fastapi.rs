//! The seed's routes answer bad bodies as a real FastAPI application does: the same status and the same JSON. The
//! application (`reference/app.py`) runs beside the gateway and both get the same bytes. In the same Python
//! environment OpenAI's official client talks to the `/v1` face.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(dead_code, reason = "the support that all tests share has more than each needs")]

mod support;

#[path = "fastapi/bodies.rs"]
mod bodies;
#[path = "fastapi/python.rs"]
mod python;
#[path = "fastapi/values.rs"]
mod values;

use serde_json::{Value, json};
use support::client::{self, Reply};
use support::rig::{Rig, unlimited};

/// One comparison: a route, a content type and a body.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Case {
    path: &'static str,
    content_type: Option<&'static str>,
    body: Vec<u8>,
}

async fn ask(address: std::net::SocketAddr, case: &Case, key: &str) -> Reply {
    let mut headers = vec![("api_key", key)];
    headers.extend(case.content_type.map(|value| ("Content-Type", value)));
    client::send(address, "POST", case.path, &headers, &case.body).await.expect("a reply")
}

fn shown(case: &Case) -> String {
    let body: String = String::from_utf8_lossy(&case.body).chars().take(200).collect();
    format!("{} {:?} {body}", case.path, case.content_type)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_bodies_are_answered_as_fastapi_answers_them() {
    let reference = python::Reference::start();
    let rig = Rig::start(unlimited()).await;
    let (mut compared, mut differences) = (0, Vec::new());
    for case in bodies::bad() {
        let theirs = ask(reference.address, &case, &rig.key).await;
        assert!(
            theirs.status == 422 || theirs.status == 400,
            "the case is no bad body: {} {theirs:?}",
            shown(&case)
        );
        let ours = ask(rig.address, &case, &rig.key).await;
        compared += 1;
        if (ours.status, ours.json()) != (theirs.status, theirs.json()) {
            let (ours, theirs) = (ours.json(), theirs.json());
            differences.push(format!("{}\n  ours   {ours}\n  theirs {theirs}", shown(&case)));
        }
    }
    println!("{compared} bad bodies compared, {} differ", differences.len());
    assert!(compared >= 200, "only {compared} cases");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_bodies_are_taken_as_fastapi_takes_them() {
    let reference = python::Reference::start();
    let rig = Rig::start(unlimited()).await;
    let mut compared = 0;
    for case in bodies::good() {
        let theirs = ask(reference.address, &case, &rig.key).await;
        assert_eq!(theirs.status, 200, "the case is no good body: {}", shown(&case));
        let ours = ask(rig.address, &case, &rig.key).await;
        assert_eq!(ours.status, 200, "{} {}", shown(&case), ours.json());
        compared += 1;
    }
    println!("{compared} good bodies compared");
    assert!(compared >= 20, "only {compared} cases");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_own_client_understands_us() {
    let rig = Rig::start(unlimited()).await;
    let base = format!("http://{}/v1", rig.address);
    let said = python::run("openai_client.py", &[&base, &rig.key, support::rig::MODEL]);
    let said: Value = serde_json::from_str(&said).expect("the script prints one JSON object");
    assert_eq!(said["content"], "Paris.");
    assert_eq!(said["finish_reason"], "stop");
    assert_eq!(said["total_tokens"], 15);
    assert_eq!(said["verification"]["status"], "verified");
    assert_eq!(said["models"], json!([support::rig::MODEL]));
    assert_eq!(said["unknown_model"], json!(["NotFoundError", "model_not_found", "model"]));
    assert_eq!(said["streaming"], json!(["BadRequestError", "invalid_value", "stream"]));
    assert_eq!(said["wrong_key"], json!(["AuthenticationError", "invalid_api_key", null]));
}
