//! How long the text of jobs is kept: what requests and keys say, what is shown of it, and its erasure.

use std::time::Duration;

use infera_gateway::Config;
use infera_gateway::access::ApiKey;
use infera_ledger::{Erasing as _, ErasureOrders as _, ErasureStage, KeyBook as _, NewKey, Scopes};
use infera_types::ids::JobId;
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::rig::{Play, Rig, chat, new_key, unlimited};

/// Unstored jobs are erased as soon as they are looked at.
fn forgetful() -> Config {
    Config { unstored_ms: 0, ..unlimited() }
}

async fn ask(rig: &Rig, key: &str, method: &str, path: &str, body: &Value) -> Reply {
    let headers = [("api_key", key), ("Content-Type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    rig.send(method, path, &headers, body.as_bytes()).await
}

fn with(body: Value, member: &str, value: Value) -> Value {
    let mut body = body;
    body[member] = value;
    body
}

/// Plays the verifier that erases.
pub(crate) async fn erase(rig: &Rig) -> u32 {
    let now = Timestamp::now().after(Duration::from_secs(1));
    while rig.ledger.find_ordered(10, now).await.expect("a ledger") > 0 {}
    rig.ledger.erase_text(100, now).await.expect("a ledger")
}

fn code(reply: &Reply) -> (u16, Value) {
    (reply.status, reply.json()["error"]["code"].clone())
}

#[tokio::test]
async fn a_job_is_stored_unless_its_request_or_its_key_says_otherwise() {
    let rig = Rig::start(forgetful()).await;
    let quiet =
        ask(&rig, &rig.key, "POST", "/v1/keys", &json!({ "store": false, "retention_days": 7 })).await.json();
    assert_eq!((&quiet["store"], &quiet["retention_days"]), (&json!(false), &json!(7)));
    let (id, quiet) =
        (quiet["id"].as_str().expect("an id").to_owned(), quiet["key"].as_str().expect("a key").to_owned());
    for (key, said, is_stored) in [
        (&rig.key, Value::Null, true),
        (&rig.key, json!(true), true),
        (&rig.key, json!(false), false),
        (&quiet, Value::Null, false),
        (&quiet, json!(true), true),
    ] {
        for path in ["/v1/chat/completions", "/v1/jobs"] {
            let body = with(chat(), "store", said.clone());
            let reply = ask(&rig, key, "POST", path, &body).await;
            assert!(matches!(reply.status, 200 | 202), "{}", reply.json());
            assert_eq!(reply.json()["store"], json!(is_stored), "{path} {said}");
            let job = reply.json()["job_id"].as_str().expect("a job").to_owned();
            rig.get_until(&format!("/v1/jobs/{job}"), |json| json["status"] == "succeeded").await;
            erase(&rig).await;
            let shown = rig.get(&format!("/v1/jobs/{job}")).await;
            let expected = if is_stored { (200, Value::Null) } else { (410, json!("erased")) };
            assert_eq!(code(&shown), expected, "{path} {said}");
        }
    }
    let wrong =
        ask(&rig, &rig.key, "POST", "/v1/chat/completions", &with(chat(), "store", json!("no"))).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["param"]), (400, &json!("store")));

    // A rotated key's successor says the same; the key can be changed, within the operator's bound.
    let path = format!("/v1/keys/{id}");
    let rotated = ask(&rig, &rig.key, "POST", &format!("{path}/rotate"), &Value::Null).await.json();
    assert_eq!((&rotated["store"], &rotated["retention_days"]), (&json!(false), &json!(7)));
    let changed =
        ask(&rig, &rig.key, "PATCH", &path, &json!({ "store": true, "retention_days": null })).await.json();
    assert_eq!((&changed["store"], &changed["retention_days"]), (&json!(true), &Value::Null));
    for days in [json!(0), json!(366), json!("x")] {
        let refused = ask(&rig, &rig.key, "PATCH", &path, &json!({ "retention_days": days })).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["param"]),
            (400, &json!("retention_days")),
            "{days}"
        );
    }
    let refused = ask(&rig, &rig.key, "POST", "/v1/keys", &json!({ "store": 1 })).await;
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("store")));
}

/// The own face takes the same option.
#[tokio::test]
async fn the_own_face_takes_store_too() {
    let rig = Rig::start(forgetful()).await;
    for (path, length) in [("/chat/completions", "max_tokens"), ("/submit_job", "max_output")] {
        let mut body = with(chat(), "store", json!(false));
        body[length] = json!(8);
        body["temperature"] = json!(0);
        let reply = ask(&rig, &rig.key, "POST", path, &body).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
        let job = reply.json()["job_id"].as_str().expect("a job").to_owned();
        rig.get_until(&format!("/v1/jobs/{job}"), |json| json["status"] == "succeeded").await;
        erase(&rig).await;
        assert_eq!(code(&rig.get(&format!("/v1/jobs/{job}")).await), (410, json!("erased")), "{path}");
        body["store"] = json!("no");
        let wrong = ask(&rig, &rig.key, "POST", path, &body).await;
        assert_eq!((wrong.status, &wrong.json()["detail"][0]["type"]), (422, &json!("bool_type")), "{path}");
    }
}

/// An asynchronous job that is not stored can be collected until its time is over.
#[tokio::test]
async fn an_unstored_jobs_end_can_be_collected_for_a_while() {
    let rig = Rig::start(unlimited()).await;
    let submitted = rig.post("/v1/jobs", &with(chat(), "store", json!(false)), &[]).await.json();
    let path = format!("/v1/jobs/{}", submitted["job_id"].as_str().expect("a job"));
    let ended = rig.get_until(&path, |json| json["status"] == "succeeded").await.json();
    assert_eq!(erase(&rig).await, 0, "ten minutes aren't over");
    let erasure = rig.get(&format!("{path}/data")).await.json();
    assert_eq!(erasure["status"], "scheduled");
    let due = erasure["due"].as_u64().expect("a time") - ended["ended"].as_u64().expect("a time");
    assert_eq!(due, 600);
    assert_eq!(rig.get(&path).await.status, 200);
    // A client that has it needn't wait.
    let erased = ask(&rig, &rig.key, "DELETE", &format!("{path}/data"), &Value::Null).await;
    assert_eq!((erased.status, &erased.json()["status"]), (202, &json!("queued")));
    assert_eq!(erase(&rig).await, 1);
    assert_eq!(code(&rig.get(&path).await), (410, json!("erased")));
}

#[tokio::test]
async fn an_ended_jobs_text_is_erased_and_all_else_is_shown() {
    let rig = Rig::start(unlimited()).await;
    let (_, stranger) = new_key(&rig.ledger, "eve@example.com").await;
    let body = with(chat(), "metadata", json!({ "run": "7" }));
    let done = rig.post("/v1/jobs", &body, &[("Idempotency-Key", "once")]).await.json();
    let job = done["job_id"].as_str().expect("a job").to_owned();
    let path = format!("/v1/jobs/{job}");
    rig.get_until(&path, |json| json["status"] == "succeeded").await;
    rig.play(Play::Leave);
    let live = rig.post("/v1/jobs", &chat(), &[]).await.json();
    let live = format!("/v1/jobs/{}/data", live["job_id"].as_str().expect("a job"));

    assert_eq!(rig.get(&format!("{path}/data")).await.json()["status"], "kept");
    let data = format!("{path}/data");
    assert_eq!(
        code(&ask(&rig, &rig.key, "DELETE", &live, &Value::Null).await),
        (409, json!("job_not_ended"))
    );
    for method in ["GET", "DELETE"] {
        assert_eq!(code(&ask(&rig, &stranger, method, &data, &Value::Null).await), (404, json!("not_found")));
        let unknown = format!("/v1/jobs/{}/data", JobId::new());
        assert_eq!(
            code(&ask(&rig, &rig.key, method, &unknown, &Value::Null).await),
            (404, json!("not_found"))
        );
    }
    for _ in 0..2 {
        let erased = ask(&rig, &rig.key, "DELETE", &data, &Value::Null).await;
        assert_eq!((erased.status, &erased.json()["status"]), (202, &json!("queued")));
        assert_eq!(erased.header("x-job-id"), Some(job.as_str()));
    }
    assert_eq!(erase(&rig).await, 1);
    let erased = ask(&rig, &rig.key, "DELETE", &data, &Value::Null).await;
    assert_eq!((erased.status, &erased.json()["status"]), (200, &json!("erased")), "the same again");
    let shown = rig.get(&path).await;
    assert_eq!(code(&shown), (410, json!("erased")));
    assert_eq!(shown.header("x-error-code"), Some("erased"));
    assert_eq!(code(&ask(&rig, &rig.key, "DELETE", &path, &Value::Null).await), (410, json!("erased")));
    let listed = rig.get("/v1/jobs?status=succeeded").await.json()["data"][0].clone();
    assert_eq!(
        (&listed["id"], &listed["metadata"], &listed["store"]),
        (&json!(job), &json!({}), &json!(true))
    );
    assert!(listed["erased"].is_u64(), "{listed}");
    let results = rig.send("GET", "/v1/jobs/results", &[("api_key", &rig.key)], b"").await;
    let line: Value =
        serde_json::from_slice(results.body.split(|byte| *byte == b'\n').next().expect("a line"))
            .expect("JSON");
    assert_eq!(
        (&line["status"], &line["error"]["code"], line.get("result")),
        (&json!("succeeded"), &json!("erased"), None)
    );
    let usage = rig.get("/v1/usage").await.json();
    assert_eq!(usage["data"][0]["requests"], json!(1), "{usage}");
    // Its idempotency key is free.
    rig.play(Play::Answer);
    let again = rig.post("/v1/jobs", &body, &[("Idempotency-Key", "once")]).await.json();
    assert_ne!(again["job_id"], json!(job));
}

#[tokio::test]
async fn an_account_erases_its_data_by_saying_so() {
    let rig = Rig::start(unlimited()).await;
    let (other, stranger) = new_key(&rig.ledger, "eve@example.com").await;
    let kept = ask(&rig, &stranger, "POST", "/v1/chat/completions", &chat()).await.json();
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let reply = rig.post("/v1/chat/completions", &chat(), &[]).await.json();
        jobs.push(reply["job_id"].as_str().expect("a job").to_owned());
    }
    let data = "/v1/account/data";
    assert_eq!(rig.get(data).await.json()["status"], "none");
    for body in [json!({}), json!({ "confirm": "yes" }), json!({ "confirm": true }), Value::Null] {
        let refused = ask(&rig, &rig.key, "DELETE", data, &body).await;
        assert_eq!(refused.status, 400, "{body}");
    }
    let node = ask(&rig, &rig.key, "POST", "/v1/keys", &json!({ "scopes": ["node"] })).await.json();
    let confirmed = json!({ "confirm": "erase all data" });
    let denied = ask(&rig, node["key"].as_str().expect("a key"), "DELETE", data, &confirmed).await;
    assert_eq!(code(&denied), (403, json!("insufficient_scope")));
    let others = json!({ "confirm": "erase all data", "account": other });
    assert_eq!(code(&ask(&rig, &rig.key, "DELETE", data, &others).await), (403, json!("insufficient_scope")));

    let ordered = ask(&rig, &rig.key, "DELETE", data, &confirmed).await;
    assert_eq!((ordered.status, &ordered.json()["status"]), (202, &json!("queued")), "{}", ordered.json());
    erase(&rig).await;
    let done = rig.get(data).await.json();
    assert_eq!(
        (&done["status"], &done["jobs_found"], &done["jobs_pending"]),
        (&json!("erased"), &json!(3), &json!(0))
    );
    for job in jobs {
        assert_eq!(code(&rig.get(&format!("/v1/jobs/{job}")).await), (410, json!("erased")));
    }
    let path = format!("/v1/jobs/{}", kept["job_id"].as_str().expect("a job"));
    assert_eq!(ask(&rig, &stranger, "GET", &path, &Value::Null).await.status, 200, "another account's");

    // An operator erases any account's.
    let key = ApiKey::generate().expect("randomness");
    let scopes: Scopes = "user,admin".parse().expect("scopes");
    let (operator, _) = new_key(&rig.ledger, "ops@example.com").await;
    let row = NewKey { scopes, ..key.row(operator) };
    rig.ledger.add_key(&row, 100, Timestamp::now()).await.expect("a ledger");
    assert_eq!(ask(&rig, key.expose(), "DELETE", data, &others).await.status, 202);
    let unknown = json!({ "confirm": "erase all data", "account": "acct0" });
    assert_eq!(code(&ask(&rig, key.expose(), "DELETE", data, &unknown).await), (404, json!("not_found")));
    erase(&rig).await;
    assert_eq!(code(&ask(&rig, &stranger, "GET", &path, &Value::Null).await), (410, json!("erased")));
    let shown = ask(&rig, key.expose(), "GET", &format!("{data}?account={other}"), &Value::Null).await.json();
    assert_eq!(shown["status"], "erased");
}

/// What a key's retention says reaches the ledger, within the operator's bound of the time.
#[tokio::test]
async fn a_keys_retention_counts_up_to_the_operators_bound() {
    let rig = Rig::start(Config { retention_days_max: 3, ..unlimited() }).await;
    let made = ask(&rig, &rig.key, "POST", "/v1/keys", &json!({ "retention_days": 2 })).await.json();
    let key = made["key"].as_str().expect("a key").to_owned();
    let refused = ask(&rig, &rig.key, "POST", "/v1/keys", &json!({ "retention_days": 4 })).await;
    assert_eq!(refused.status, 400);
    // One that was made while the bound was larger.
    let id = infera_types::ids::KeyId::new(made["id"].as_str().expect("an id"));
    for (days, counts) in [(2, 2), (9, 3)] {
        let privacy = infera_ledger::PrivacyChange { stores: None, retention_days: Some(Some(days)) };
        let change = infera_ledger::KeyChange { privacy, ..infera_ledger::KeyChange::default() };
        rig.ledger.change_key(&id, &change).await.expect("a ledger");
        let path = format!("/v1/keys/{id}");
        ask(&rig, &rig.key, "PATCH", &path, &json!({ "name": "looked up again" })).await;
        let reply = ask(&rig, &key, "POST", "/v1/chat/completions", &chat()).await.json();
        let job: JobId = reply["job_id"].as_str().expect("a job").parse().expect("an id");
        let erasure =
            rig.ledger.job_erasure(None, job, Timestamp::now()).await.expect("a ledger").expect("the job");
        assert_eq!(erasure.stage, ErasureStage::Scheduled);
        let left = erasure.due_ms.expect("a time").since(Timestamp::now()).as_secs();
        assert_eq!(left.div_ceil(24 * 60 * 60), counts, "{days}");
    }
}
