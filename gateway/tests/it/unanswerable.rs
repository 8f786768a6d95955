//! Requests that the network could never answer are refused before anything is stored: those whose messages can't fit
//! into the model's context, and those for models that no verifier offers any more.

use infera_ledger::{CatalogueEntry, JobReader as _, NetworkBook as _};
use infera_types::ids::{Digest, ModelName};
use infera_types::job::{End, FailureReason};
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use crate::support::rig::{MODEL, Play, Rig, chat, job, list_model, unlimited};

/// Both routes of the own face and OpenAI's, each with a good body.
fn routes() -> [(&'static str, Value); 3] {
    [("/v1/chat/completions", chat()), ("/chat/completions", chat()), ("/submit_job", job())]
}

async fn accepted(rig: &Rig) -> u64 {
    rig.ledger.statistics(Timestamp::now()).await.expect("a ledger").accepted
}

/// Lists the rig's model in the catalogue, with this bound.
async fn bound(rig: &Rig, said_bytes_per_token: Option<u32>) {
    let entry = CatalogueEntry {
        name: ModelName::new(MODEL),
        digests: vec![Digest::of(b"model")],
        tokenizer: Digest::of(b"tokenizer"),
        context_max: 512,
        said_bytes_per_token,
        quantization: None,
        end_tokens: vec![0],
        reference_token_us: 1_000,
        bytes: None,
        created_ms: Timestamp::now(),
        removed_ms: None,
    };
    rig.ledger.list_model(&entry).await.expect("a listed model");
}

#[tokio::test]
async fn messages_that_can_not_fit_are_refused_before_they_are_stored() {
    let rig = Rig::start(infera_gateway::Config { catalogue_refresh_ms: 20, ..unlimited() }).await;
    let long = "7".repeat(500_000);
    let with = |mut body: Value, content: &str| {
        body["messages"] = json!([{ "role": "user", "content": content }]);
        body
    };
    // Nothing is known of the model's tokens yet.
    assert_eq!(rig.post("/submit_job", &with(job(), &long), &[]).await.status, 200);
    bound(&rig, Some(13)).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let before = accepted(&rig).await;
    // Of several jobs, those that can't fit are named.
    let several =
        json!({ "jobs": [chat(), with(chat(), &long[..20_000]), chat(), with(chat(), &long[..20_000])] });
    let reply = rig.post("/v1/jobs", &several, &[]).await;
    let errors = reply.json()["errors"]["data"].clone();
    assert_eq!((reply.status, errors.as_array().map(Vec::len)), (400, Some(2)), "{}", reply.json());
    assert_eq!(errors[1]["param"], "jobs[3].messages");
    assert_eq!(errors[1]["code"], "context_length_exceeded");
    for (path, body) in routes() {
        let reply = rig.post(path, &with(body.clone(), &long), &[("Idempotency-Key", "k")]).await;
        assert_eq!(reply.status, 400, "{path}: {}", reply.json());
        let json = reply.json();
        let (message, code) = match path {
            "/v1/chat/completions" => {
                assert_eq!(json["error"]["param"], "messages");
                assert_eq!(json["error"]["type"], "invalid_request_error");
                (json["error"]["message"].clone(), json["error"]["code"].clone())
            }
            _ => (json["detail"].clone(), json["code"].clone()),
        };
        assert_eq!(code, "context_length_exceeded", "{path}");
        let message = message.as_str().unwrap_or_default();
        // LiteLLM classifies the error by these words, and LangChain by the code.
        assert!(
            message.starts_with("This model's maximum context length is 512 tokens. However, "),
            "{message}"
        );
        assert!(message.contains("at least 38462 tokens"), "{message}");
        // 511 tokens of 13 bytes may fit; 512 leave no room for an answer.
        for (bytes, status) in [(511 * 13, 200), (511 * 13 + 1, 400)] {
            let reply = rig.post(path, &with(body.clone(), &"7".repeat(bytes)), &[]).await;
            assert_eq!(reply.status, status, "{path} {bytes}");
        }
        assert_eq!(
            rig.post(path, &with(body.clone(), &" ".repeat(100_000)), &[]).await.status,
            200,
            "{path}"
        );
    }
    assert_eq!(accepted(&rig).await, before + 6);
}

#[tokio::test]
async fn a_model_that_nobody_offers_any_more_is_refused_and_not_listed() {
    const GONE: &str = "gone-model";
    let rig = Rig::start(infera_gateway::Config { catalogue_refresh_ms: 20, ..unlimited() }).await;
    rig.play(Play::Leave);
    list_model(&rig.ledger, GONE).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    for (path, mut body) in routes() {
        body["model"] = json!(GONE);
        let reply = rig.post(path, &body, &[]).await;
        assert_eq!(reply.status, 404, "{path}");
        let said = reply.json();
        let said = said["error"]["message"].as_str().or(said["detail"].as_str()).unwrap_or_default();
        assert!(said.contains(GONE) && said.contains("not served here any more"), "{said}");
    }
    assert_eq!(accepted(&rig).await, 0);
    let models = rig.get("/v1/models").await.json();
    let names: Vec<_> = models["data"].as_array().expect("a list").iter().map(|one| &one["id"]).collect();
    assert_eq!(names, [&json!(MODEL)]);
    let ready = rig.send("GET", "/readyz", &[], b"").await.json();
    assert_eq!(ready["owners"], json!({ MODEL: 3 }));
}

/// A model that an operator removed is refused in words of its own while verifiers still have jobs of it, listed no more, and
/// accepted again once it is back. Of several jobs those for it are named.
#[tokio::test]
async fn a_removed_model_is_refused_and_not_listed_until_it_is_back() {
    let rig = Rig::start(infera_gateway::Config { catalogue_refresh_ms: 20, ..unlimited() }).await;
    let mut entries = rig.ledger.catalogue().await.expect("a ledger").into_iter();
    let entry = entries.find(|entry| entry.name.as_str() == MODEL).expect("the rig's model");
    let removed = CatalogueEntry { removed_ms: Some(Timestamp::now()), ..entry.clone() };
    let listed =
        |json: &Value| json["data"].as_array().is_some_and(|data| data.iter().any(|one| one["id"] == MODEL));
    rig.get_until("/v1/models", &listed).await;
    let kept = rig.post("/submit_job", &job(), &[("Idempotency-Key", "before")]).await.json();

    rig.ledger.list_model(&removed).await.expect("removed");
    rig.get_until("/v1/models", |json| !listed(json)).await;
    let before = accepted(&rig).await;
    for (path, body) in routes() {
        let reply = rig.post(path, &body, &[]).await;
        assert_eq!(reply.status, 404, "{path}");
        let said = reply.json();
        let text = said["error"]["message"].as_str().or(said["detail"].as_str()).unwrap_or_default();
        assert!(text.contains(MODEL) && text.contains("no longer served"), "{said}");
        let code = said["error"]["code"].as_str().or(said["code"].as_str());
        assert_eq!(code, Some("model_not_found"), "{said}");
    }
    let shown = rig.get(&format!("/v1/models/{MODEL}")).await;
    assert_eq!((shown.status, &shown.json()["error"]["param"]), (404, &json!("model")));
    let several = rig.post("/v1/jobs", &json!({ "jobs": [chat()] }), &[]).await.json();
    assert_eq!(several["errors"]["data"][0]["param"], "jobs[0].model", "{several}");
    assert_eq!(accepted(&rig).await, before, "none was accepted");
    // The same request as before has its job.
    let again = rig.post("/submit_job", &job(), &[("Idempotency-Key", "before")]).await;
    assert_eq!((again.status, &again.json()["job_id"]), (200, &kept["job_id"]));
    let ready = rig.send("GET", "/readyz", &[], b"").await.json();
    assert_eq!(ready["owners"].get(MODEL), None, "{ready}");

    rig.ledger.list_model(&entry).await.expect("back");
    rig.get_until("/v1/models", &listed).await;
    assert_eq!(rig.post("/submit_job", &job(), &[]).await.status, 200);
}

/// A job whose model was removed while it waited shows the code of a model that isn't there, and its key is free.
#[tokio::test]
async fn a_job_whose_model_went_while_it_waited_says_so() {
    let rig = Rig::start(unlimited()).await;
    let message = format!("The model '{MODEL}' is no longer served.");
    rig.play(Play::End(End::Failed { reason: FailureReason::ModelRemoved, message: message.clone() }));
    let key = [("Idempotency-Key", "k")];
    for (path, body) in [("/v1/chat/completions", chat()), ("/chat/completions", chat())] {
        let reply = rig.post(path, &body, &key).await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.json());
        assert!(reply.json().to_string().contains("model_not_found"), "{}", reply.json());
        assert!(reply.json().to_string().contains(&message), "{}", reply.json());
    }
    let accepted_of = accepted(&rig).await;
    assert_eq!(accepted_of, 2, "the key was free again");
}
