//! Owners say what their nodes are drawn for: who may say it, what the ledger has then, and what is refused.

use infera_ledger::{NetworkBook as _, NewNode, NodeReader as _, NodeWish, Registered};
use infera_types::ids::{AccountId, Digest, ModelName, NodeId};
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::rig::{MODEL, Rig, list_model, new_key, unlimited};

/// Registers a node and returns its internal id.
pub(crate) async fn register(rig: &Rig, name: &str, account: &AccountId) -> NodeId {
    let node =
        NewNode { name: name.to_owned(), secret: Digest::of(b"secret"), account: Some(account.clone()) };
    match rig.ledger.register_node(&node, Timestamp::now()).await.expect("a ledger") {
        Registered::Node(record) => record.id,
        Registered::WrongSecret => panic!("a fresh name"),
    }
}

/// Sends JSON under a key, or without one.
pub(crate) async fn post(rig: &Rig, path: &str, body: &Value, key: Option<&str>) -> Reply {
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(key.map(|key| ("api_key", key)));
    rig.send("POST", path, &headers, body.to_string().as_bytes()).await
}

/// The routes that name a node in their body, with a good body for the node `name`.
fn routes(name: &str) -> [(&'static str, Value); 5] {
    [
        ("/worker/register_node", json!({ "node_url": name, "node_version": "1.0" })),
        ("/worker/deregister_node", json!({ "node_url": name })),
        ("/worker/update_models", json!({ "node_url": name, "models": [MODEL] })),
        ("/node_jobs_stats", json!({ "node_url": name })),
        ("/daily_points", json!({ "node_name": name, "last_days": 2 })),
    ]
}

async fn wishes(rig: &Rig) -> Vec<NodeWish> {
    rig.ledger.wishes().await.expect("a ledger")
}

#[tokio::test]
async fn an_owner_takes_its_node_off_and_brings_it_back() {
    let rig = Rig::start(unlimited()).await;
    list_model(&rig.ledger, "another").await;
    let (account, key) = new_key(&rig.ledger, "runner@example.com").await;
    // A URL is a name like any other.
    let url = "http://192.0.2.1:8000/v1";
    let id = register(&rig, url, &account).await;
    let ask = async |path: &str, body: Value| {
        let reply = post(&rig, path, &body, Some(&key)).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.json());
        reply.json()
    };
    let wish = |is_withdrawn, models: Option<&[&str]>| NodeWish {
        node: id.clone(),
        is_withdrawn,
        models: models.map(|models| models.iter().map(|name| ModelName::new(*name)).collect()),
    };

    let node = ask("/worker/register_node", json!({ "node_url": url, "node_version": "1.0" })).await;
    let registered = node["registered"].as_u64().expect("seconds");
    let expected = json!({
        "object": "node", "node": id, "node_id": url, "status": "registered", "draining_since": null,
        "models": null, "serves": "all", "backstop": false, "node_version": "1.0", "registered": registered,
    });
    assert_eq!(node, expected);
    assert_eq!(wishes(&rig).await, []);

    let node = ask("/worker/deregister_node", json!({ "node_url": url, "node_version": null })).await;
    assert_eq!((&node["status"], &node["node_version"]), (&json!("draining"), &json!("1.0")));
    let since = node["draining_since"].clone();
    assert!(since.as_u64().is_some_and(|since| since >= registered), "{node}");
    assert_eq!(wishes(&rig).await, [wish(true, None)]);
    assert_eq!(ask("/worker/deregister_node", json!({ "node_url": url })).await["draining_since"], since);
    assert_eq!(ask("/node_jobs_stats", json!({ "node_url": url })).await["status"], "draining");

    // Until the gateway has read the catalogue again, it doesn't know the new model.
    let models = json!({ "node_url": url, "models": ["another", MODEL, "nobody's", MODEL, "nobody's"] });
    let mut node = ask("/worker/update_models", models.clone()).await;
    while node["unknown_models"].as_array().is_some_and(|unknown| unknown.len() > 1) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        node = ask("/worker/update_models", models.clone()).await;
    }
    assert_eq!(node["models"], json!(["another", MODEL]));
    assert_eq!((&node["unknown_models"], &node["status"]), (&json!(["nobody's"]), &json!("draining")));
    assert_eq!(wishes(&rig).await, [wish(true, Some(&["another", MODEL]))]);

    let node = ask("/worker/register_node", json!({ "node_url": url })).await;
    assert_eq!((&node["status"], &node["draining_since"]), (&json!("registered"), &Value::Null));
    let node = ask("/worker/update_models", json!({ "node_url": url, "models": [] })).await;
    assert_eq!(node["models"], json!([]));
    assert_eq!(wishes(&rig).await, [wish(false, Some(&[]))]);
}

#[tokio::test]
async fn anothers_node_and_an_unknown_one_are_refused_alike() {
    let rig = Rig::start(unlimited()).await;
    let (account, _) = new_key(&rig.ledger, "runner@example.com").await;
    let (_, stranger) = new_key(&rig.ledger, "stranger@example.com").await;
    register(&rig, "theirs", &account).await;
    register(&rig, "anonymous", &AccountId::fresh()).await;
    for ((path, theirs), (_, unknown)) in routes("theirs").into_iter().zip(routes("unknown")) {
        let [theirs, unknown] = [
            post(&rig, path, &theirs, Some(&stranger)).await,
            post(&rig, path, &unknown, Some(&stranger)).await,
        ];
        assert_eq!((theirs.status, &theirs.json()["code"]), (404, &json!("node_not_found")), "{path}");
        assert!(theirs.json()["detail"].as_str().is_some_and(|text| text.contains("/register_node_secret")));
        assert_eq!(theirs.json(), unknown.json(), "{path}");
        let without = post(&rig, path, &routes("theirs")[0].1, None).await;
        assert_eq!(without.status, 401, "{path}");
    }
    for name in ["theirs", "unknown", "anonymous", "%00", "%ff", "a%0Ab"] {
        let path = format!("/node_points/{name}");
        let reply = rig.send("GET", &path, &[("api_key", &stranger)], b"").await;
        assert_eq!((reply.status, &reply.json()["code"]), (404, &json!("node_not_found")), "{name}");
        assert_eq!(rig.send("GET", &path, &[], b"").await.status, 401, "{name}");
    }
    assert_eq!(wishes(&rig).await, [], "nothing was changed");
}

#[tokio::test]
async fn bodies_are_bounded_and_all_mistakes_are_listed() {
    let rig = Rig::start(unlimited()).await;
    let (account, key) = new_key(&rig.ledger, "runner@example.com").await;
    register(&rig, "a", &account).await;
    let long = "x".repeat(256);
    for (path, body, fields) in [
        (
            "/worker/register_node",
            json!({ "node_url": "", "node_version": long }),
            &["node_url", "node_version"][..],
        ),
        ("/worker/deregister_node", json!({ "node_url": "a\u{0}" }), &["node_url"]),
        (
            "/worker/update_models",
            json!({ "node_url": long, "models": vec!["m"; 65] }),
            &["node_url", "models"],
        ),
        (
            "/node_jobs_stats",
            json!({ "node_url": "a\nb", "node_version": "\u{7}" }),
            &["node_url", "node_version"],
        ),
        ("/daily_points", json!({ "node_name": "", "last_days": 0 }), &["node_name", "last_days"]),
        ("/daily_points", json!({ "node_name": "a", "last_days": 366 }), &["last_days"]),
        ("/daily_points", json!({ "node_name": 1, "last_days": "x" }), &["node_name", "last_days"]),
    ] {
        let reply = post(&rig, path, &body, Some(&key)).await;
        let detail = reply.json()["detail"].as_array().cloned().unwrap_or_default();
        let wrong: Vec<&str> = detail.iter().filter_map(|mistake| mistake["loc"][1].as_str()).collect();
        assert_eq!((reply.status, &wrong[..]), (422, fields), "{path} {body}");
    }
    let large = json!({ "node_url": "a", "models": ["x".repeat(20_000)] });
    assert_eq!(post(&rig, "/worker/update_models", &large, Some(&key)).await.status, 413);
    assert_eq!(wishes(&rig).await, []);
}

#[tokio::test]
async fn a_result_over_https_is_refused_in_words_and_its_key_never_repeated() {
    let rig = Rig::start(unlimited()).await;
    let result = json!({
        "job_id": "j", "api_key": rig.key, "model_name": MODEL, "result": { "text": "Paris" }, "status": "done",
    });
    for key in [None, Some(rig.key.as_str())] {
        let reply = post(&rig, "/worker/update_result", &result, key).await;
        assert_eq!((reply.status, &reply.json()["code"]), (409, &json!("results_not_taken")));
        assert!(reply.json()["detail"].as_str().is_some_and(|text| text.contains("infera-worker")));
    }
    for missing in ["job_id", "model_name", "result", "status"] {
        let mut body = result.clone();
        body.as_object_mut().expect("an object").remove(missing);
        let reply = post(&rig, "/worker/update_result", &body, None).await;
        assert_eq!((reply.status, &reply.json()["detail"][0]["loc"][1]), (422, &json!(missing)));
        assert!(!String::from_utf8_lossy(&reply.body).contains(&rig.key), "the key is repeated");
    }
    // Nor is a node's secret, whatever else is wrong.
    for path in ["/register_node_secret", "/check_node_secret"] {
        let reply = post(&rig, path, &json!({ "secret": "hunter2hunter2hunter2" }), None).await;
        assert_eq!(reply.status, 422);
        assert!(!String::from_utf8_lossy(&reply.body).contains("hunter2"), "{path}");
    }
}
