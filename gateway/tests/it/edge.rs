//! What browsers and programs of large bodies ask of the edge: CORS for listed pages, and bodies encoded by gzip.

use std::io::Write as _;

use infera_gateway::Config;
use infera_gateway::config::CorsOrigin;
use serde_json::json;

use crate::support::rig::{Rig, chat, job, unlimited};

const PAGE: &str = "https://app.example";

fn listed(origins: &[&str]) -> Config {
    let cors_origins =
        origins.iter().map(|text| CorsOrigin::try_from((*text).to_owned()).expect("an origin")).collect();
    Config { cors_origins, ..unlimited() }
}

#[tokio::test]
async fn a_listed_page_may_ask_and_read() {
    let rig = Rig::start(listed(&[PAGE, "http://localhost:3000"])).await;
    let preflight = [
        ("Origin", PAGE),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type,x-stainless-lang"),
    ];
    for path in ["/v1/chat/completions", "/v1/keys/key_1", "/nowhere"] {
        let reply = rig.send("OPTIONS", path, &preflight, b"").await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(PAGE)), "{path}");
        assert!(
            reply.header("access-control-allow-methods").is_some_and(|methods| methods.contains("PATCH"))
        );
        assert_eq!(
            reply.header("access-control-allow-headers"),
            Some("authorization,content-type,x-stainless-lang")
        );
        assert_eq!(reply.header("access-control-max-age"), Some("600"));
    }
    for (path, key, status) in [("/v1/models", rig.key.as_str(), 200), ("/v1/models", "inf_x", 401)] {
        let reply = rig.send("GET", path, &[("Origin", PAGE), ("api_key", key)], b"").await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (status, Some(PAGE)));
        assert_eq!(reply.header("vary"), Some("origin"));
        assert!(
            reply.header("access-control-expose-headers").is_some_and(|all| all.contains("retry-after-ms"))
        );
        assert_eq!(reply.header("access-control-allow-credentials"), None);
    }
    let strange = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")];
    let reply = rig.send("OPTIONS", "/v1/chat/completions", &strange, b"").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (405, None));
    let foreign = [("Origin", PAGE), ("Access-Control-Request-Method", "GET"), ("Host", "evil.example")];
    let reply = rig.send("OPTIONS", "/v1/models", &foreign, b"").await;
    assert_ne!(reply.status, 200, "two hosts, one of them not ours");
}

#[tokio::test]
async fn no_page_is_listed_by_default() {
    let rig = Rig::start(unlimited()).await;
    let preflight = [("Origin", PAGE), ("Access-Control-Request-Method", "POST")];
    let reply = rig.send("OPTIONS", "/v1/models", &preflight, b"").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (405, None));
    let reply = rig.send("GET", "/v1/models", &[("Origin", PAGE), ("api_key", &rig.key)], b"").await;
    assert_eq!(
        (reply.status, reply.header("access-control-allow-origin"), reply.header("vary")),
        (200, None, None)
    );
    let all = Rig::start(listed(&["*"])).await;
    let reply = all.send("OPTIONS", "/v1/models", &preflight, b"").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(PAGE)));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test]
async fn gzip_bodies_are_read_within_the_same_bounds() {
    let rig = Rig::start(Config { body_max_bytes: 100_000, ..unlimited() }).await;
    let headers =
        [("api_key", rig.key.as_str()), ("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    let ask = async |path: &str, body: &[u8]| rig.send("POST", path, &headers, body).await;
    let answered = ask("/v1/chat/completions", &gzip(chat().to_string().as_bytes())).await;
    assert_eq!(answered.status, 200, "{}", answered.json());
    assert_eq!(ask("/submit_job", &gzip(job().to_string().as_bytes())).await.status, 200);
    let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
    assert!(bomb.len() < 100_000);
    let refused = ask("/v1/chat/completions", &bomb).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (413, &json!("request_too_large")));
    let plain = ask("/v1/chat/completions", chat().to_string().as_bytes()).await;
    assert_eq!((plain.status, &plain.json()["error"]["code"]), (400, &json!("bad_request")));
    assert_eq!(ask("/v1/chat/completions", b"").await.status, 400);
    // The head says so before the body comes, on every path.
    let small = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    let body = gzip(json!({ "email": "zip@example.com" }).to_string().as_bytes());
    assert_eq!(rig.send("POST", "/signup_user", &small, &body).await.status, 200);
}
