//! The seed's routes answer bad bodies as a real FastAPI application does, with the same status and the same JSON.
//! The application (`reference/app.py`) runs beside the gateway, and both get the same bytes. In the same Python
//! environment, OpenAI's official client talks to the `/v1` face, whose replies are checked against a schema.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(dead_code, reason = "the support that all tests share has more than each needs")]

mod support;

#[path = "fastapi/bodies.rs"]
mod bodies;
#[path = "fastapi/fragments.rs"]
mod fragments;
#[path = "fastapi/limits.rs"]
mod limits;
#[path = "fastapi/nodes.rs"]
mod nodes;
#[path = "fastapi/openai.rs"]
mod openai;
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

async fn ask(address: std::net::SocketAddr, path: &str, case: &Case, key: &str) -> Reply {
    let mut headers = vec![("api_key", key)];
    headers.extend(case.content_type.map(|value| ("Content-Type", value)));
    client::send(address, "POST", path, &headers, &case.body).await.expect("a reply")
}

fn shown(case: &Case) -> String {
    let body: String = String::from_utf8_lossy(&case.body).chars().take(200).collect();
    format!("{} {:?} {body}", case.path, case.content_type)
}

/// Compares the replies to a body with another content type. FastAPI says only that the body is no object, and ours
/// names the header. So both messages are checked here and then removed before the comparison.
fn without_sentences_about_the_header(case: &Case, ours: &mut Value, theirs: &mut Value) {
    if case.content_type == bodies::JSON || case.body.is_empty() {
        return;
    }
    let sentence = ours["detail"][0]["msg"].take();
    let sentence = sentence.as_str().expect("a sentence");
    let named = case.content_type.unwrap_or("is missing");
    assert!(sentence.starts_with("The header Content-Type") && sentence.contains(named), "{sentence}");
    theirs["detail"][0]["msg"].take();
}

/// Sends each body to the reference, at its path behind `prefix`, and to the gateway. Returns the number of bodies.
async fn compare(cases: Vec<Case>, prefix: &str) -> usize {
    let reference = python::Reference::start();
    let rig = Rig::start(unlimited()).await;
    let (mut compared, mut differences) = (0, Vec::new());
    for case in cases {
        let theirs = ask(reference.address, &format!("{prefix}{}", case.path), &case, &rig.key).await;
        assert!(
            theirs.status == 422 || theirs.status == 400,
            "the case is no bad body: {} {theirs:?}",
            shown(&case)
        );
        let ours = ask(rig.address, case.path, &case, &rig.key).await;
        compared += 1;
        let (status, expected) = (ours.status, theirs.status);
        let (mut ours, mut theirs) = (ours.json(), theirs.json());
        without_sentences_about_the_header(&case, &mut ours, &mut theirs);
        if (status, &ours) != (expected, &theirs) {
            differences.push(format!("{}\n  ours   {ours}\n  theirs {theirs}", shown(&case)));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    compared
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_bodies_are_answered_as_fastapi_answers_them() {
    let compared = compare([bodies::bad(), nodes::bad()].concat(), "").await;
    println!("{compared} bad bodies compared");
    assert!(compared >= 200, "only {compared} cases");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_beyond_a_limit_is_answered_as_fastapi_answers_it() {
    let compared = compare([bodies::beyond_limits(), nodes::beyond_limits()].concat(), "/limited").await;
    println!("{compared} bodies beyond limits compared");
    assert!(compared >= 60, "only {compared} cases");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_queries_are_answered_as_fastapi_answers_them() {
    let reference = python::Reference::start();
    let rig = Rig::start(unlimited()).await;
    for query in nodes::BAD_QUERIES {
        let path = format!("/node_model_mapping{query}");
        let theirs = client::send(reference.address, "GET", &path, &[], b"").await.expect("a reply");
        let ours = client::send(rig.address, "GET", &path, &[], b"").await.expect("a reply");
        assert_eq!((ours.status, ours.json()), (422, theirs.json()), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seeds_fragments_accept_our_answers_and_our_validation() {
    let exchanges = fragments::exchanges().await;
    let count = |status: u64| exchanges.iter().filter(|exchange| exchange["status"] == status).count();
    println!("{} exchanges: {} answered, {} refused", exchanges.len(), count(200), count(422));
    assert!(count(200) >= 20 && count(422) >= 100);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("exchanges.json");
    std::fs::write(&file, Value::from(exchanges).to_string()).expect("a written file");
    let document = fragments::document();
    let said = python::run("check_openapi.py", &[&document.to_string_lossy(), &file.to_string_lossy()]);
    let misfits: Vec<String> = serde_json::from_str(&said).expect("the script prints a list of sentences");
    assert!(misfits.is_empty(), "{} misfits:\n{}", misfits.len(), misfits.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_bodies_are_taken_as_fastapi_takes_them() {
    let reference = python::Reference::start();
    let rig = Rig::start(unlimited()).await;
    let mut compared = 0;
    for case in bodies::good() {
        let theirs = ask(reference.address, case.path, &case, &rig.key).await;
        assert_eq!(theirs.status, 200, "the case is no good body: {}", shown(&case));
        let ours = ask(rig.address, case.path, &case, &rig.key).await;
        assert_eq!(ours.status, 200, "{} {}", shown(&case), ours.json());
        compared += 1;
    }
    println!("{compared} good bodies compared");
    assert!(compared >= 20, "only {compared} cases");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_own_client_understands_us() {
    let rig = Rig::start(unlimited()).await;
    rig.play(support::rig::Play::End(support::told::told()));
    let base = format!("http://{}/v1", rig.address);
    let said = python::run("openai_client.py", &[&base, &rig.key, support::rig::MODEL]);
    let said: Value = serde_json::from_str(&said).expect("the script prints one JSON object");
    assert_eq!(said["content"], "Paris.");
    assert_eq!(said["finish_reason"], "stop");
    assert_eq!(said["total_tokens"], 15);
    assert_eq!(said["verification"]["status"], "verified");
    assert!(said["fingerprint"].as_str().is_some_and(|text| text.starts_with("fp_")), "{said}");
    assert_eq!(said["models"], json!([support::rig::MODEL]));
    assert_eq!(said["model"], support::rig::MODEL);
    assert_eq!(said["unknown_model_retrieved"], json!(["model_not_found", "model"]));
    assert_eq!(said["unknown_model"], json!(["NotFoundError", "model_not_found", "model"]));
    let choice = |index: u32| json!([index, "Paris.", "stop"]);
    assert_eq!(said["several"]["choices"], json!([choice(0), choice(1), choice(2)]));
    assert_eq!(said["several"]["usage"], json!([12, 9]));
    assert_eq!(said["several"]["logprobs"], json!([["\u{fffd}", -1.0, 2], [" Par", 0.0, 2], ["", -5.0, 2]]));
    assert_eq!(said["several"]["bytes"], json!(b" Par"));
    assert_eq!(said["too_many"], json!(["BadRequestError", "invalid_value", "n"]));
    assert_eq!(said["contradiction"], json!(["BadRequestError", "invalid_value", "top_logprobs"]));
    assert_eq!(said["streaming"], json!([["", "Paris."], "stop", 15]));
    assert_eq!(said["wrong_key"], json!(["AuthenticationError", "invalid_api_key", null]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_of_v1_fit_what_openai_documents() {
    let replies = openai::replies().await;
    let count = |shape: &str| replies.iter().filter(|reply| reply["shape"] == shape).count();
    let (good, bad) = (count("chat_completion"), count("error"));
    println!("{good} completions and {bad} errors among {} replies", replies.len());
    assert!(good >= 100 && bad >= 300 && count("model") >= 2 && count("model_list") >= 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("replies.json");
    std::fs::write(&file, Value::from(replies).to_string()).expect("a written file");
    let schema = python::reference_folder().join("openai.schema.json");
    let said = python::run("check_schema.py", &[&schema.to_string_lossy(), &file.to_string_lossy()]);
    let misfits: Vec<String> = serde_json::from_str(&said).expect("the script prints a list of sentences");
    assert!(misfits.is_empty(), "{} misfits:\n{}", misfits.len(), misfits.join("\n"));
}
