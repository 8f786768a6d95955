//! An account manages its keys by their public ids; an operator blocks keys and accounts.

use std::time::{Duration, Instant};

use infera_gateway::Config;
use infera_gateway::access::ApiKey;
use infera_ledger::{KeyBook as _, KeyEnds as _, NewKey, Scopes};
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::rig::{Rig, chat, new_key, unlimited};

/// Sends a request with JSON under a key.
async fn ask(rig: &Rig, key: &str, method: &str, path: &str, body: &Value) -> Reply {
    let headers = [("api_key", key), ("Content-Type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    rig.send(method, path, &headers, body.as_bytes()).await
}

/// Makes an account whose key has these scopes.
async fn with_scopes(rig: &Rig, email: &str, scopes: &str) -> (String, String) {
    let (account, _) = new_key(&rig.ledger, email).await;
    let key = ApiKey::generate().expect("randomness");
    let scopes: Scopes = scopes.parse().expect("scopes");
    let row = NewKey { scopes, ..key.row(account.clone()) };
    rig.ledger.add_key(&row, 100, Timestamp::now()).await.expect("a ledger");
    (account.to_string(), key.expose().to_owned())
}

fn code(reply: &Reply) -> (u16, Value) {
    (reply.status, reply.json()["error"]["code"].clone())
}

#[tokio::test]
async fn a_key_is_made_shown_once_changed_and_revoked() {
    let rig = Rig::start(unlimited()).await;
    let (_, stranger) = new_key(&rig.ledger, "eve@example.com").await;
    let body = json!({ "name": "ci", "scopes": ["user", "node"], "expires_in_s": 3600 });
    let made = ask(&rig, &rig.key, "POST", "/v1/keys", &body).await;
    assert_eq!(made.status, 200, "{}", made.json());
    let made = made.json();
    let (id, secret) = (made["id"].as_str().expect("an id"), made["key"].as_str().expect("the key"));
    assert_eq!((&made["scopes"], &made["status"]), (&json!(["user", "node"]), &json!("valid")));
    assert_eq!(made["expires"].as_u64(), made["created"].as_u64().map(|created| created + 3600));
    assert!(!id.contains(&ApiKey::parse(secret).expect("a key").hash().to_string()[..16]));
    assert_eq!(ask(&rig, secret, "GET", "/v1/models", &Value::Null).await.status, 200);

    let path = format!("/v1/keys/{id}");
    for listed in [
        ask(&rig, &rig.key, "GET", &path, &Value::Null).await.json(),
        ask(&rig, &rig.key, "GET", "/v1/keys", &Value::Null).await.json()["data"][0].clone(),
    ] {
        assert_eq!((listed["name"].as_str(), listed.get("key")), (Some("ci"), None));
    }
    for method in ["GET", "DELETE"] {
        assert_eq!(ask(&rig, &stranger, method, &path, &Value::Null).await.status, 404, "another account's");
    }
    let renamed =
        ask(&rig, &rig.key, "PATCH", &path, &json!({ "name": "cd", "expires_in_s": null })).await.json();
    assert_eq!(
        (&renamed["name"], &renamed["expires"], &renamed["scopes"]),
        (&json!("cd"), &json!(null), &made["scopes"])
    );
    let ended = ask(&rig, &rig.key, "DELETE", &path, &Value::Null).await.json();
    assert_eq!(ended["status"], "revoked");
    assert_eq!(
        ask(&rig, secret, "GET", "/v1/models", &Value::Null).await.status,
        401,
        "at once, where it was asked"
    );
    assert_eq!(code(&ask(&rig, &rig.key, "PATCH", &path, &json!({})).await), (409, json!("key_not_valid")));

    for (body, param) in [
        (json!({ "scopes": ["root"] }), "scopes"),
        (json!({ "scopes": [] }), "scopes"),
        (json!({ "scopes": "user" }), "scopes"),
        (json!({ "expires_in_s": 0 }), "expires_in_s"),
        (json!({ "name": "x".repeat(101) }), "name"),
        (json!({ "expires_at": 1_800_000_000 }), "expires_at"),
    ] {
        let reply = ask(&rig, &rig.key, "POST", "/v1/keys", &body).await;
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(param)), "{}", reply.json());
    }
}

/// No key makes a key that may do what it may not, or that outlives it.
#[tokio::test]
async fn a_key_makes_none_that_may_do_more() {
    let rig = Rig::start(unlimited()).await;
    let (account, admin) = with_scopes(&rig, "ops@example.com", "user,admin").await;
    for scopes in [json!(["admin"]), json!(["fleet"]), json!(["user", "admin"])] {
        let reply = ask(&rig, &rig.key, "POST", "/v1/keys", &json!({ "scopes": scopes })).await;
        assert_eq!(code(&reply), (403, json!("insufficient_scope")), "{scopes}");
    }
    let node = ask(&rig, &rig.key, "POST", "/v1/keys", &json!({ "scopes": ["node"] })).await.json();
    let node = node["key"].as_str().expect("a key");
    for (method, path) in [("GET", "/v1/models"), ("POST", "/v1/keys"), ("POST", "/v1/chat/completions")] {
        assert_eq!(
            code(&ask(&rig, node, method, path, &json!({})).await),
            (403, json!("insufficient_scope"))
        );
    }
    let short = json!({ "expires_in_s": 60 });
    let short = ask(&rig, &rig.key, "POST", "/v1/keys", &short).await.json();
    let short = short["key"].as_str().expect("a key");
    for (body, status) in
        [(json!({}), 403), (json!({ "expires_in_s": 3600 }), 403), (json!({ "expires_in_s": 30 }), 200)]
    {
        assert_eq!(ask(&rig, short, "POST", "/v1/keys", &body).await.status, status, "{body}");
    }
    let theirs = json!({ "account": account });
    assert_eq!(
        code(&ask(&rig, &rig.key, "POST", "/v1/keys", &theirs).await),
        (403, json!("insufficient_scope"))
    );
    let path = format!("/v1/keys?account={account}");
    assert_eq!(ask(&rig, &rig.key, "GET", &path, &Value::Null).await.status, 403);

    let own = ask(&rig, &rig.key, "GET", "/v1/keys", &Value::Null).await.json();
    let mine = own["data"][0]["account"].as_str().expect("an account");
    let fleet = json!({ "account": mine, "scopes": ["fleet"] });
    let fleet = ask(&rig, &admin, "POST", "/v1/keys", &fleet).await.json();
    assert_eq!((&fleet["account"], &fleet["scopes"]), (&json!(mine), &json!(["fleet"])));
    let fleet = format!("/v1/keys/{}", fleet["id"].as_str().expect("an id"));
    assert_eq!(
        code(&ask(&rig, &rig.key, "DELETE", &fleet, &Value::Null).await),
        (403, json!("insufficient_scope"))
    );
    assert_eq!(ask(&rig, &admin, "DELETE", &fleet, &Value::Null).await.status, 200);
}

#[tokio::test]
async fn a_rotated_key_overlaps_with_its_successor() {
    let rig = Rig::start(unlimited()).await;
    let made = ask(&rig, &rig.key, "POST", "/v1/keys", &json!({ "name": "ci" })).await.json();
    let (id, old) = (made["id"].as_str().expect("an id"), made["key"].as_str().expect("a key"));
    let models = async |key: &str| ask(&rig, key, "GET", "/v1/models", &Value::Null).await.status;
    assert_eq!(models(old).await, 200);
    let path = format!("/v1/keys/{id}/rotate");
    assert_eq!(ask(&rig, &rig.key, "POST", &path, &json!({ "overlap_s": 604_801 })).await.status, 400);
    let rotated = ask(&rig, &rig.key, "POST", &path, &json!({ "overlap_s": 2 })).await.json();
    let new = rotated["key"].as_str().expect("a key");
    assert_eq!((rotated["name"].as_str(), models(old).await, models(new).await), (Some("ci"), 200, 200));
    let again = ask(&rig, &rig.key, "POST", &path, &Value::Null).await;
    assert_eq!(code(&again), (409, json!("key_not_valid")), "it has a successor");
    assert_eq!(again.header("x-should-retry"), Some("false"), "clients must not try that again");
    let replaced = ask(&rig, &rig.key, "GET", &format!("/v1/keys/{id}"), &Value::Null).await.json();
    assert_eq!(replaced["replaced_by"], rotated["id"]);
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    assert_eq!((models(old).await, models(new).await), (401, 200), "to the second, although it is cached");
}

/// A block holds at other gateways, too, within the time for which they believe a key.
#[tokio::test]
async fn a_blocked_key_or_account_opens_nothing_within_five_seconds() {
    let rig = Rig::start(Config { key_ttl_ms: Config::default().key_ttl_ms, ..unlimited() }).await;
    let (_, admin) = with_scopes(&rig, "ops@example.com", "admin").await;
    let own = ask(&rig, &rig.key, "GET", "/v1/keys", &Value::Null).await.json();
    let (key, account) = (own["data"][0]["id"].clone(), own["data"][0]["account"].clone());
    let (key, account) = (key.as_str().expect("an id"), account.as_str().expect("an id"));
    for path in [format!("/v1/keys/{key}"), format!("/v1/accounts/{account}")] {
        let [block, unblock] = ["block", "unblock"].map(|word| format!("{path}/{word}"));
        assert_eq!(
            ask(&rig, &rig.key, "POST", &block, &Value::Null).await.status,
            403,
            "an operator's right"
        );
        assert_eq!(rig.get("/v1/models").await.status, 200);
        assert_eq!(ask(&rig, &admin, "POST", &block, &Value::Null).await.status, 200);
        assert_eq!(rig.get("/v1/models").await.status, 401, "at once, where it was ordered");
        assert_eq!(rig.post("/v1/chat/completions", &chat(), &[]).await.status, 401);
        assert_eq!(ask(&rig, &admin, "POST", &unblock, &Value::Null).await.status, 200);
        assert_eq!(rig.get("/v1/models").await.status, 200, "at once, too");
    }
    for path in ["/v1/keys/key_0/block", "/v1/accounts/acct0/block"] {
        assert_eq!(ask(&rig, &admin, "POST", path, &Value::Null).await.status, 404);
    }
    // Behind the gateway's back, as another gateway or a command does it.
    assert_eq!(rig.get("/v1/models").await.status, 200);
    let begun = Instant::now();
    let account = infera_types::ids::AccountId::new(account);
    rig.ledger.block_account(&account, Some(Timestamp::now())).await.expect("a ledger");
    while rig.get("/v1/models").await.status == 200 {
        assert!(begun.elapsed() < Duration::from_secs(5), "still believed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What is used is counted for the key that asked, and shown as JSON and as CSV.
#[tokio::test]
async fn usage_is_shown_by_day_key_and_model() {
    let rig = Rig::start(unlimited()).await;
    let second = ask(&rig, &rig.key, "POST", "/v1/keys", &json!({ "name": "ci" })).await.json();
    let (id, secret) = (second["id"].clone(), second["key"].as_str().expect("a key"));
    for _ in 0..2 {
        assert_eq!(rig.post("/v1/chat/completions", &chat(), &[]).await.status, 200);
    }
    assert_eq!(ask(&rig, secret, "POST", "/v1/chat/completions", &chat()).await.status, 200);
    let whole = rig.get("/v1/usage").await.json();
    assert_eq!(whole["data"].as_array().map(Vec::len), Some(1), "one day: {whole}");
    let sums = (
        &whole["data"][0]["requests"],
        &whole["data"][0]["prompt_tokens"],
        &whole["data"][0]["total_tokens"],
    );
    assert_eq!(sums, (&json!(3), &json!(36), &json!(45)));
    assert_eq!(whole["data"][0]["day"], whole["to"], "today");
    let by_key = rig.get("/v1/usage?group_by=key,model").await.json();
    let of_second = by_key["data"].as_array().expect("rows").iter().find(|row| row["key"] == id);
    assert_eq!(
        of_second.map(|row| (&row["requests"], &row["model"])),
        Some((&json!(1), &json!("test-model")))
    );
    let headers = [("api_key", rig.key.as_str()), ("Accept", "text/csv")];
    for (path, headers) in [("/v1/usage?format=csv", &headers[..1]), ("/v1/usage", &headers)] {
        let csv = rig.send("GET", path, headers, b"").await;
        assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
        let text = String::from_utf8(csv.body).expect("text");
        assert!(
            text.starts_with("day,requests,prompt_tokens,completion_tokens,total_tokens,cost\r\n20"),
            "{text}"
        );
        assert!(text.ends_with(",3,36,9,45,0\r\n"), "{text}");
    }
    for query in ["from=2026-02-30", "group_by=week", "format=xml", "from=2026-02-02&to=2026-02-01"] {
        assert_eq!(rig.get(&format!("/v1/usage?{query}")).await.status, 400, "{query}");
    }
    // A misspelt filter would otherwise show everything.
    for path in ["/v1/usage?fron=2026-11-30", "/v1/keys?acount=x"] {
        assert_eq!(rig.get(path).await.status, 400, "{path}");
    }
    let (_, stranger) = new_key(&rig.ledger, "eve@example.com").await;
    let none = ask(&rig, &stranger, "GET", "/v1/usage", &Value::Null).await.json();
    assert_eq!(none["data"], json!([]));
}

/// A misspelt option of a key would make one that may more, or for longer, than was meant.
#[tokio::test]
async fn a_keys_misspelt_member_is_named_with_what_was_meant() {
    let rig = Rig::start(unlimited()).await;
    let made = ask(&rig, &rig.key, "POST", "/v1/keys", &json!({ "name": "ci" })).await.json();
    let path = format!("/v1/keys/{}", made["id"].as_str().expect("an id"));
    let (rotate, nodes) = (format!("{path}/rotate"), format!("{path}/nodes"));
    for (method, path, member, meant) in [
        ("POST", "/v1/keys", "expires_at", "expires_in_s"),
        ("POST", "/v1/keys", "scope", "scopes"),
        ("POST", "/v1/keys", "spendlimit", "spend_limit"),
        ("PATCH", path.as_str(), "expire_in_s", "expires_in_s"),
        ("PATCH", path.as_str(), "retention", "retention_days"),
        ("POST", rotate.as_str(), "overlap", "overlap_s"),
        ("POST", nodes.as_str(), "node", "nodes"),
        ("POST", "/v1/node-groups", "nmae", "name"),
        ("POST", "/v1/account/recovery", "mail", "email"),
        ("DELETE", "/v1/account/data", "confirmed", "confirm"),
    ] {
        let reply = ask(&rig, &rig.key, method, path, &json!({ member: "x" })).await;
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, &error["param"]), (400, &json!(member)), "{method} {path}: {error}");
        let said = error["message"].as_str().expect("a message");
        assert!(said.contains(&format!("did you mean '{meant}'? There are: '")), "{said}");
    }
    let keys = ask(&rig, &rig.key, "GET", "/v1/keys", &Value::Null).await.json();
    assert_eq!(keys["data"].as_array().map(Vec::len), Some(2), "no key was made");
}
