//! Keys: every kind of wrong key gets the same answer, and a revoked key stops working within the cache's time.

use std::time::Duration;

use infera_gateway::Config;
use infera_gateway::access::ApiKey;
use infera_ledger::AccountBook;
use infera_types::time::Timestamp;

use crate::support::rig::{Rig, new_key, unlimited};

#[tokio::test]
async fn every_wrong_key_gets_the_same_401() {
    let rig = Rig::start(unlimited()).await;
    let unknown = ApiKey::generate().expect("randomness").expose().to_owned();
    let mut typo = rig.key.clone();
    typo.replace_range(39..40, if typo.ends_with('x') { "y" } else { "x" });
    let good = rig.key.clone();
    let bearer = |key: &str| format!("Bearer {key}");
    let (unknown_bearer, good_bearer) = (bearer(&unknown), bearer(&good));
    let (long, basic) = ("k".repeat(8_000), format!("Basic {good}"));
    let table: [(&str, &[(&str, &str)]); 15] = [
        ("missing", &[]),
        ("empty", &[("api_key", "")]),
        ("empty bearer", &[("Authorization", "Bearer ")]),
        ("both empty", &[("Authorization", "Bearer "), ("api_key", "")]),
        ("another scheme beside a good key", &[("Authorization", "Basic eDp5"), ("api_key", &good)]),
        ("no scheme", &[("Authorization", &good)]),
        ("other scheme", &[("Authorization", &basic)]),
        ("unknown", &[("Authorization", &unknown_bearer)]),
        ("bad checksum", &[("api_key", &typo)]),
        ("other prefix", &[("api_key", "sk-abcdefghijklmnop")]),
        ("very long", &[("api_key", &long)]),
        ("twice", &[("api_key", &good), ("api_key", &good)]),
        ("two that differ", &[("api_key", &good), ("Authorization", &unknown_bearer)]),
        ("two bearers", &[("Authorization", &good_bearer), ("Authorization", &good_bearer)]),
        ("not text", &[("api_key", "inf_é")]),
    ];
    for (path, expected) in [("/network_stats", "detail"), ("/v1/models", "error")] {
        let mut bodies = Vec::new();
        for (name, headers) in table {
            let reply = rig.send("GET", path, headers, b"").await;
            assert_eq!(reply.status, 401, "{name}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{name}");
            assert!(!reply.json()[expected].is_null(), "{name}");
            bodies.push(reply.body);
        }
        bodies.dedup();
        assert_eq!(bodies.len(), 1, "one body for all");
        let in_query = format!("{path}?api_key={good}");
        assert_eq!(rig.send("GET", &in_query, &[], b"").await.status, 401, "in the query");
    }
    for headers in [[("api_key", good.as_str())], [("Authorization", good_bearer.as_str())]] {
        for path in ["/network_stats", "/v1/models"] {
            assert_eq!(rig.send("GET", path, &headers, b"").await.status, 200);
        }
    }
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
