//! Keys: each kind of wrong key is told what is wrong, and a revoked key stops working within the cache's time.

use std::time::Duration;

use infera_gateway::Config;
use infera_gateway::access::ApiKey;
use infera_ledger::{AccountBook as _, KeyBook as _, KeyEnds as _, NewKey};
use infera_types::ids::AccountId;
use infera_types::time::Timestamp;
use serde_json::json;

use crate::support::rig::{Rig, new_key, unlimited};

/// The name of a case, its headers, and words of the refusal.
type Wrong<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

#[tokio::test]
async fn a_wrong_key_is_told_what_is_wrong_with_it_and_no_more() {
    let rig = Rig::start(unlimited()).await;
    let unknown = ApiKey::generate().expect("randomness").expose().to_owned();
    let mut typo = rig.key.clone();
    typo.replace_range(39..40, if typo.ends_with('x') { "y" } else { "x" });
    let good = rig.key.clone();
    let bearer = |key: &str| format!("Bearer {key}");
    let (unknown_bearer, good_bearer) = (bearer(&unknown), bearer(&good));
    let (long, basic) = ("k".repeat(8_000), format!("Basic {good}"));
    let (missing, scheme, several) =
        ("no API key was sent", "should be 'Bearer <key>'", "Send one key, once");
    let malformed = "is no API key of this network";
    let table: [Wrong<'_>; 15] = [
        ("missing", &[], missing),
        ("empty", &[("api_key", "")], missing),
        ("empty bearer", &[("Authorization", "Bearer ")], missing),
        ("both empty", &[("Authorization", "Bearer "), ("api_key", "")], missing),
        ("another scheme beside a good key", &[("Authorization", "Basic eDp5"), ("api_key", &good)], scheme),
        ("no scheme", &[("Authorization", &good)], scheme),
        ("other scheme", &[("Authorization", &basic)], scheme),
        ("unknown", &[("Authorization", &unknown_bearer)], "never issued here"),
        ("bad checksum", &[("api_key", &typo)], malformed),
        ("other prefix", &[("api_key", "sk-abcdefghijklmnop")], malformed),
        ("very long", &[("api_key", &long)], malformed),
        ("twice", &[("api_key", &good), ("api_key", &good)], several),
        ("two that differ", &[("api_key", &good), ("Authorization", &unknown_bearer)], several),
        ("two bearers", &[("Authorization", &good_bearer), ("Authorization", &good_bearer)], several),
        ("not text", &[("api_key", "inf_é")], "characters that no key has"),
    ];
    for path in ["/network_stats", "/v1/models"] {
        for (name, headers, words) in table {
            let reply = rig.send("GET", path, headers, b"").await;
            let code = if words == missing { "missing_api_key" } else { "invalid_api_key" };
            assert_eq!((reply.status, reply.header("x-error-code")), (401, Some(code)), "{name}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{name}");
            let json = reply.json();
            let said = if path == "/v1/models" { &json["error"]["message"] } else { &json["detail"] };
            let said = said.as_str().unwrap_or_default();
            assert!(said.contains(words), "{name}: {said}");
            for (_, value) in headers.iter().filter(|(_, value)| value.len() > 10) {
                assert!(!said.contains(&value[value.len() - 6..]), "what was sent isn't repeated: {said}");
            }
        }
        let in_query = format!("{path}?api_key={good}");
        assert_eq!(rig.send("GET", &in_query, &[], b"").await.status, 401, "in the query");
    }
    for headers in [[("api_key", good.as_str())], [("Authorization", good_bearer.as_str())]] {
        for path in ["/network_stats", "/v1/models"] {
            assert_eq!(rig.send("GET", path, &headers, b"").await.status, 200);
        }
    }
}

/// A key's holder learns why it opens nothing; a stranger can't hold one.
#[tokio::test]
async fn a_key_that_is_over_is_told_why() {
    let rig = Rig::start(unlimited()).await;
    let row = |key: &ApiKey, account: &AccountId| key.row(account.clone());
    let (account, first) = new_key(&rig.ledger, "grace@example.com").await;
    let (blocked_account, of_blocked) = new_key(&rig.ledger, "eve@example.com").await;
    let [revoked, blocked, expired] = [(); 3].map(|()| ApiKey::generate().expect("randomness"));
    let now = Timestamp::now();
    for key in [&revoked, &blocked] {
        rig.ledger.add_key(&row(key, &account), 9, now).await.expect("a ledger");
    }
    let over = NewKey { expires_ms: Some(now), ..row(&expired, &account) };
    rig.ledger.add_key(&over, 9, now).await.expect("a ledger");
    rig.ledger.revoke_key(revoked.hash(), now).await.expect("a ledger");
    let keys = rig.ledger.keys(&account, 9).await.expect("a ledger");
    let id = keys.iter().find(|view| view.hint == blocked.hint()).map(|view| view.id.clone()).expect("a key");
    rig.ledger.block_key(&id, Some(now)).await.expect("a ledger");
    rig.ledger.block_account(&blocked_account, Some(now)).await.expect("a ledger");
    for (key, code, words) in [
        (revoked.expose(), "key_revoked", "was revoked"),
        (expired.expose(), "key_expired", "has expired"),
        (blocked.expose(), "key_blocked", "blocked this API key"),
        (of_blocked.as_str(), "account_blocked", "blocked the account"),
    ] {
        // Looked up, and remembered.
        for _ in 0..2 {
            let reply = rig.send("GET", "/v1/models", &[("api_key", key)], b"").await;
            let error = reply.json()["error"].clone();
            assert_eq!((reply.status, &error["code"]), (401, &json!(code)), "{error}");
            assert!(error["message"].as_str().is_some_and(|said| said.contains(words)), "{error}");
        }
    }
    // A key that permits something else is no wrong key.
    let node = ApiKey::generate().expect("randomness");
    let row = NewKey { scopes: "node".parse().expect("a scope"), ..row(&node, &account) };
    rig.ledger.add_key(&row, 9, now).await.expect("a ledger");
    let reply = rig.send("GET", "/v1/models", &[("api_key", node.expose())], b"").await;
    let error = reply.json()["error"].clone();
    assert_eq!((reply.status, &error["code"]), (403, &json!("insufficient_scope")));
    let said = error["message"].as_str().expect("a message");
    assert!(said.contains("needs the scope 'user', and this key has 'node' alone"), "{said}");
    assert_eq!(rig.send("GET", "/v1/models", &[("api_key", &first)], b"").await.status, 200);
}

/// Programs that know both headers fill in one and send the other empty.
#[tokio::test]
async fn an_empty_value_is_no_value() {
    let rig = Rig::start(unlimited()).await;
    let bearer = format!("Bearer {}", rig.key);
    for path in ["/network_stats", "/v1/models"] {
        for headers in [
            [("Authorization", "Bearer "), ("api_key", rig.key.as_str())],
            [("Authorization", "Bearer"), ("api_key", rig.key.as_str())],
            [("Authorization", ""), ("api_key", rig.key.as_str())],
            [("Authorization", bearer.as_str()), ("api_key", "")],
            [("Authorization", bearer.as_str()), ("api_key", rig.key.as_str())],
            [("api_key", ""), ("api_key", rig.key.as_str())],
        ] {
            assert_eq!(rig.send("GET", path, &headers, b"").await.status, 200, "{path} {headers:?}");
        }
    }
}

#[tokio::test]
async fn a_revoked_key_stops_working_when_its_cache_entry_is_stale() {
    let rig = Rig::start(Config { key_ttl_ms: 300, ..unlimited() }).await;
    let (_, key) = new_key(&rig.ledger, "grace@example.com").await;
    let headers = [("api_key", key.as_str())];
    let ask = || rig.send("GET", "/v1/models", &headers, b"");
    assert_eq!(ask().await.status, 200);
    let hash = ApiKey::parse(&key).expect("well formed").hash();
    rig.ledger.revoke_key(hash, Timestamp::now()).await.expect("a ledger");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(ask().await.status, 401);
}

#[tokio::test]
async fn no_route_but_the_open_ones_answers_without_a_key() {
    let rig = Rig::start(unlimited()).await;
    for (method, path) in [
        ("POST", "/chat/completions"),
        ("POST", "/submit_job"),
        ("GET", "/network_stats"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/test-model"),
        ("GET", "/v1/jobs/job_00000000000000000000000000000000"),
        ("DELETE", "/v1/jobs/job_00000000000000000000000000000000"),
    ] {
        assert_eq!(rig.send(method, path, &[], b"{").await.status, 401, "{method} {path}");
    }
}
