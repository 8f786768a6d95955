//! How nodes from outside come in: who is put on record, what a token says, which queue is a node's own, and what
//! those hear who stay outside. That RabbitMQ holds a node to its token is tried on a real one, elsewhere.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(dead_code, reason = "the support that all tests share has more than each needs")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use infera_core::broker::Broker as _;
use infera_core::ids::NodeId;
use infera_core::ledger::NetworkBook as _;
use infera_gateway::Config;
use infera_gateway::nodes::{self, rs256};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use support::client::Reply;
use support::rig::{Rig, new_key, unlimited};

const SECRET: &str = "0123456789abcdef";

/// A fresh RSA key: the private half, and the public one beside it.
fn key(folder: &Path) -> PathBuf {
    let private = folder.join("nodes.key");
    let make = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "nodes.key"];
    for arguments in [&make[..], &["pkey", "-in", "nodes.key", "-pubout", "-out", "nodes.pub"]] {
        let made = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl");
        assert!(made.status.success(), "{made:?}");
    }
    private
}

/// A gateway that lets nodes in.
async fn admitting(config: Config, key: &Path) -> Rig {
    let settings = rs256::Config {
        token_key_file: Some(key.to_owned()),
        broker_url: "amqps://broker.example:5671/%2F".to_owned(),
        ..rs256::Config::default()
    };
    Rig::start_as(
        config,
        0,
        |ledger| ledger,
        |gateway, ledger| {
            let admission = rs256::open(&settings, Arc::clone(ledger) as _).expect("good settings");
            gateway.admitting(admission.expect("a key"))
        },
    )
    .await
}

async fn send(rig: &Rig, path: &str, body: &Value, key: Option<&str>) -> Reply {
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(key.map(|key| ("api_key", key)));
    rig.send("POST", path, &headers, body.to_string().as_bytes()).await
}

fn said(reply: &Reply) -> (u16, Value) {
    (reply.status, reply.json()["code"].clone())
}

#[tokio::test]
async fn without_a_key_to_sign_with_no_node_comes_in() {
    let rig = Rig::start_with(unlimited(), 0).await;
    for path in ["/register_node_secret", "/check_node_secret"] {
        let reply = send(&rig, path, &json!({ "node_id": "a", "secret": SECRET }), Some(&rig.key)).await;
        assert_eq!(said(&reply), (503, json!("nodes_not_admitted")), "{path}");
        assert!(reply.json()["detail"].as_str().is_some_and(|text| text.contains("nodes.token_key_file")));
    }
}

#[tokio::test]
async fn bodies_are_checked_as_fastapi_does_and_secrets_are_not_repeated() {
    let rig = Rig::start_with(unlimited(), 0).await;
    for path in ["/register_node_secret", "/check_node_secret"] {
        let missing = send(&rig, path, &json!({}), None).await;
        let entry = |name: &str| json!({ "type": "missing", "loc": ["body", name], "msg": "Field required", "input": {} });
        assert_eq!(
            (missing.status, missing.json()),
            (422, json!({ "detail": [entry("node_id"), entry("secret")] }))
        );
        let wrong = send(&rig, path, &json!({ "node_id": 7, "secret": SECRET }), None).await;
        assert_eq!(wrong.json()["detail"][0]["type"], "string_type");
        for (name, secret, field) in
            [("", SECRET, "node_id"), ("a\nb", SECRET, "node_id"), ("a", "hunter2", "secret")]
        {
            let reply = send(&rig, path, &json!({ "node_id": name, "secret": secret }), None).await;
            assert_eq!((reply.status, &reply.json()["detail"][0]["loc"]), (422, &json!(["body", field])));
            assert!(!reply.json().to_string().contains("hunter2"));
        }
    }
}

#[tokio::test]
async fn a_fleets_node_gets_a_token_for_itself_and_its_queue() {
    let folder = tempfile::tempdir().expect("a folder");
    let private = key(folder.path());
    let rig = admitting(unlimited(), &private).await;
    let (_, api_key) = new_key(&rig.ledger, "fleet@example.com").await;
    let node = json!({ "node_id": "*.#", "secret": SECRET });

    for api_key in [None, Some(api_key.as_str())] {
        let reply = send(&rig, "/register_node_secret", &node, api_key).await;
        assert_eq!(said(&reply), (403, json!("fleet_scope_required")));
        assert!(reply.json()["detail"].as_str().is_some_and(|text| text.contains("account fleet")));
    }
    assert_eq!(rig.ledger.nodes().await.expect("a ledger"), [], "nothing is put on record");
    let unknown = send(&rig, "/register_node_secret", &node, Some("inf_nobody")).await;
    assert_eq!(unknown.status, 401, "a key that is sent must be good");

    let allowed = nodes::allow_fleet(&*rig.ledger, "Fleet@Example.COM").await.expect("a ledger");
    assert!(allowed.is_some());
    let registered = send(&rig, "/register_node_secret", &node, Some(&api_key)).await;
    assert_eq!(registered.status, 200, "{registered:?}");
    let id = registered.json()["node"].as_str().expect("an id").to_owned();
    assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{id}");
    let again = send(&rig, "/register_node_secret", &node, Some(&api_key)).await;
    assert_eq!(again.json()["node"], json!(id));

    let admitted = send(&rig, "/check_node_secret", &node, None).await;
    let body = admitted.json();
    assert_eq!(
        (admitted.status, &body["node"], &body["expires_in_s"]),
        (200, &json!(id), &json!(600)),
        "{body}"
    );
    assert_eq!(body["broker"], json!({ "url": "amqps://broker.example:5671/%2F" }));
    let queue = body["queue"].as_str().expect("a queue");
    assert!(
        queue.starts_with(&format!("node.{id}.")) && queue.len() == "node.".len() + id.len() + 1 + 32,
        "{queue}"
    );
    assert_eq!(rig.broker.depth(queue).await.expect("a broker"), Some(0), "it is declared");

    let public = std::fs::read(private.with_extension("pub")).expect("the public half");
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&["rabbitmq"]);
    let token = body["token"].as_str().expect("a token");
    let key = DecodingKey::from_rsa_pem(&public).expect("a public key");
    let read = jsonwebtoken::decode::<Value>(token, &key, &validation).expect("signed by our key");
    assert_eq!(read.header.kid.as_deref(), Some("nodes"));
    assert_eq!(read.claims["sub"], json!(id));
    let scope =
        json!([format!("rabbitmq.read:%2F/{queue}"), format!("rabbitmq.write:%2F/infera.nodes/{id}.*")]);
    assert_eq!(read.claims["scope"], scope);

    // Gone, it is declared again; another gateway with the same key has the same.
    rig.broker.delete(queue).await.expect("a broker");
    let later = send(&rig, "/check_node_secret", &node, None).await.json();
    assert_eq!((&later["queue"], rig.broker.depth(queue).await.expect("a broker")), (&json!(queue), Some(0)));
}

#[tokio::test]
async fn others_stay_outside() {
    let folder = tempfile::tempdir().expect("a folder");
    let rig = admitting(unlimited(), &key(folder.path())).await;
    let (_, api_key) = new_key(&rig.ledger, "fleet@example.com").await;
    nodes::allow_fleet(&*rig.ledger, "fleet@example.com").await.expect("a ledger");
    let node = |secret: &str| json!({ "node_id": "a", "secret": secret });
    assert_eq!(
        said(&send(&rig, "/check_node_secret", &node(SECRET), None).await),
        (403, json!("node_unknown"))
    );
    let registered = send(&rig, "/register_node_secret", &node(SECRET), Some(&api_key)).await.json();
    let other = "another-secret-of-somebody";
    assert_eq!(
        said(&send(&rig, "/check_node_secret", &node(other), None).await),
        (403, json!("node_unknown"))
    );
    let taken = send(&rig, "/register_node_secret", &node(other), Some(&api_key)).await;
    assert_eq!(said(&taken), (409, json!("node_name_taken")));

    let id = NodeId::new(registered["node"].as_str().expect("an id"));
    assert!(nodes::revoke(&*rig.ledger, &id).await.expect("a ledger").is_some());
    assert_eq!(
        said(&send(&rig, "/check_node_secret", &node(SECRET), None).await),
        (403, json!("node_revoked"))
    );
    let back = send(&rig, "/register_node_secret", &node(SECRET), Some(&api_key)).await;
    assert_eq!(said(&back), (409, json!("node_name_taken")));
}

#[tokio::test]
async fn guesses_are_counted_by_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config { node_checks_per_minute: 2, ..unlimited() };
    let rig = admitting(config, &key(folder.path())).await;
    let mut statuses = Vec::new();
    for guess in ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc"] {
        let reply = send(&rig, "/check_node_secret", &json!({ "node_id": "a", "secret": guess }), None).await;
        statuses.push((reply.status, reply.header("retry-after").is_some()));
    }
    assert_eq!(statuses, [(403, false), (403, false), (429, true)]);
}

#[test]
fn settings_that_cannot_be_used_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let private = key(folder.path());
    let ledger =
        infera_core::ledger::sqlite::SqliteLedger::open(&folder.path().join("l.sqlite")).expect("a ledger");
    let open = |config: rs256::Config| match rs256::open(&config, Arc::clone(&ledger) as _) {
        Ok(admission) => Ok(admission.is_some()),
        Err(error) => Err(error.to_string()),
    };
    let with =
        |path: &Path| rs256::Config { token_key_file: Some(path.to_owned()), ..rs256::Config::default() };
    assert_eq!(open(rs256::Config::default()), Ok(false), "no key: no admission");
    assert_eq!(open(with(&private)), Ok(true));
    for (config, word) in [
        (with(Path::new("/nowhere")), "/nowhere"),
        (with(&private.with_extension("pub")), "nodes.pub"),
        (rs256::Config { broker_url: "amqp://u:hunter2@b/x".to_owned(), ..with(&private) }, "token"),
        (rs256::Config { token_ttl_s: 5, ..with(&private) }, "token_ttl_s"),
    ] {
        let error = open(config).expect_err(word);
        assert!(error.contains(word) && !error.contains("hunter2"), "{error}");
    }
}
