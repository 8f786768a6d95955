//! How nodes from outside are let in: which nodes are registered, what a token says, which queue belongs to a node,
//! and which replies refused nodes get. That RabbitMQ enforces a node's token is tested elsewhere, on a real one.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(dead_code, reason = "the support that all tests share has more than each needs")]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use infera_broker::Broker as _;
use infera_gateway::Config;
use infera_gateway::access::admission;
use infera_gateway_program::es256;
use infera_ledger::NetworkBook as _;
use infera_types::ids::NodeId;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use support::client::Reply;
use support::rig::{Rig, new_key, unlimited};

const SECRET: &str = "0123456789abcdef";

/// The kind of key that signs tokens, as openssl calls it.
const P256: [&str; 4] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// Makes a key as the README describes, with its public half beside it, and returns the path of the private half.
fn key(folder: &Path) -> PathBuf {
    openssl(folder, &[&["genpkey"][..], &P256, &["-out", "nodes.key"]].concat());
    openssl(folder, &["pkey", "-in", "nodes.key", "-pubout", "-out", "nodes.pub"]);
    folder.join("nodes.key")
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let made = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl");
    assert!(made.status.success(), "{made:?}");
}

/// Returns the head and the claims of a token, after checking its signature with the public key in a PEM file.
fn read(token: &str, public: &Path) -> (Value, Value) {
    let pem = std::fs::read_to_string(public).expect("the public half");
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(lines).expect("PEM");
    // SubjectPublicKeyInfo ends with the point, uncompressed.
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &der[der.len() - 65..]);
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
    key.verify(signed.as_bytes(), &bytes(signature)).expect("signed by our key");
    let (head, claims) = signed.split_once('.').expect("claims");
    let json = |text: &str| serde_json::from_slice(&bytes(text)).expect("JSON");
    (json(head), json(claims))
}

/// A gateway that lets nodes in.
async fn admitting(config: Config, key: &Path) -> Rig {
    let settings = es256::Config {
        token_key_file: Some(key.to_owned()),
        broker_url: "amqps://broker.example:5671/%2F".to_owned(),
        ..es256::Config::default()
    };
    Rig::start_as(
        config,
        0,
        |ledger| ledger,
        |ledger| es256::open(&settings, Arc::clone(ledger) as _).expect("good settings"),
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

    let allowed = admission::allow_fleet(&*rig.ledger, "Fleet@Example.COM").await.expect("a ledger");
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

    let token = body["token"].as_str().expect("a token");
    let (head, claims) = read(token, &private.with_extension("pub"));
    assert_eq!(head, json!({ "typ": "JWT", "alg": "ES256", "kid": "nodes" }));
    assert_eq!((&claims["aud"], &claims["sub"]), (&json!("rabbitmq"), &json!(id)));
    let lives = claims["exp"].as_u64().zip(claims["iat"].as_u64()).map(|(until, since)| until - since);
    assert_eq!(lives, Some(600), "{claims}");
    let scope =
        json!([format!("rabbitmq.read:%2F/{queue}"), format!("rabbitmq.write:%2F/infera.nodes/{id}.*")]);
    assert_eq!(claims["scope"], scope);

    // An expired queue is declared again, and another gateway with the same key names it in the same way.
    rig.broker.delete(queue).await.expect("a broker");
    let later = send(&rig, "/check_node_secret", &node, None).await.json();
    assert_eq!((&later["queue"], rig.broker.depth(queue).await.expect("a broker")), (&json!(queue), Some(0)));
}

/// Replies to nodes don't show how long checking a secret and signing took; all other replies show their time.
#[tokio::test]
async fn no_reply_to_a_node_says_what_it_took() {
    let folder = tempfile::tempdir().expect("a folder");
    let rig = admitting(unlimited(), &key(folder.path())).await;
    let (_, api_key) = new_key(&rig.ledger, "fleet@example.com").await;
    admission::allow_fleet(&*rig.ledger, "fleet@example.com").await.expect("a ledger");
    let node = json!({ "node_id": "a", "secret": SECRET });
    for (path, body, status) in [
        ("/check_node_secret", &node, 403),
        ("/register_node_secret", &node, 200),
        ("/check_node_secret", &node, 200),
        ("/check_node_secret", &json!({}), 422),
    ] {
        let reply = send(&rig, path, body, Some(&api_key)).await;
        assert_eq!((reply.status, reply.header("server-timing")), (status, None), "{path}");
    }
    let wrong_method = rig.send("GET", "/check_node_secret", &[], b"").await;
    assert_eq!((wrong_method.status, wrong_method.header("server-timing")), (405, None));
    assert!(rig.send("GET", "/healthz", &[], b"").await.header("server-timing").is_some());
}

#[tokio::test]
async fn others_stay_outside() {
    let folder = tempfile::tempdir().expect("a folder");
    let rig = admitting(unlimited(), &key(folder.path())).await;
    let (_, api_key) = new_key(&rig.ledger, "fleet@example.com").await;
    admission::allow_fleet(&*rig.ledger, "fleet@example.com").await.expect("a ledger");
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
    assert!(admission::revoke(&*rig.ledger, &id).await.expect("a ledger").is_some());
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
        assert_eq!(reply.header("ratelimit-policy"), Some("\"nodes\";q=2;w=60"));
        statuses.push((reply.status, reply.header("retry-after").is_some()));
    }
    assert_eq!(statuses, [(403, false), (403, false), (429, true)]);
}

#[test]
fn settings_that_cannot_be_used_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let private = key(folder.path());
    let ledger = infera_ledger_sqlite::SqliteLedger::open(&folder.path().join("l.sqlite")).expect("a ledger");
    let open = |config: es256::Config| match es256::open(&config, Arc::clone(&ledger) as _) {
        Ok(admission) => Ok(admission.is_some()),
        Err(error) => Err(error.to_string()),
    };
    let with =
        |path: &Path| es256::Config { token_key_file: Some(path.to_owned()), ..es256::Config::default() };
    assert_eq!(open(es256::Config::default()), Ok(false), "no key: no admission");
    assert_eq!(open(with(&private)), Ok(true));
    let rsa = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa.key"];
    openssl(folder.path(), &rsa);
    let curve = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", "p384.key"];
    openssl(folder.path(), &curve);
    openssl(folder.path(), &["ec", "-in", "nodes.key", "-out", "sec1.key"]);
    let rsa = with(&folder.path().join("rsa.key"));
    for (config, word) in [
        (rsa.clone(), "this is an RSA key"),
        (rsa.clone(), "openssl genpkey -algorithm EC"),
        (rsa, "algorithms.1 = ES256"),
        (with(&folder.path().join("p384.key")), "this is something else"),
        (with(&folder.path().join("sec1.key")), "PKCS #8"),
        (with(Path::new("/nowhere")), "/nowhere"),
        (with(&private.with_extension("pub")), "nodes.pub"),
        (es256::Config { broker_url: "amqp://u:hunter2@b/x".to_owned(), ..with(&private) }, "token"),
        (es256::Config { token_ttl_s: 5, ..with(&private) }, "token_ttl_s"),
    ] {
        let error = open(config).expect_err(word);
        assert!(error.contains(word) && !error.contains("hunter2"), "{error}");
    }
}
