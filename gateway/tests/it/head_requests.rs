//! Sends `HEAD` to the paths that answer `GET`: the reply has the same head and no body.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::rig::{Play, Rig, job, unlimited};

/// Returns the lines of a reply's head, and its body.
async fn ask(rig: &Rig, method: &str, path: &str, headers: &str) -> (Vec<String>, String) {
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut back = String::new();
    stream.read_to_string(&mut back).await.expect("read");
    let (head, body) = back.split_once("\r\n\r\n").expect("a head");
    (head.split("\r\n").map(str::to_ascii_lowercase).collect(), body.to_owned())
}

/// Keeps the lines that are the same in every reply.
fn lasting(lines: &[String]) -> Vec<&String> {
    let changes = ["date:", "x-request-id:", "server-timing:", "x-ratelimit-", "ratelimit:"];
    lines.iter().filter(|line| !changes.iter().any(|name| line.starts_with(name))).collect()
}

#[tokio::test]
async fn every_get_can_be_asked_for_its_head() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let id = rig.post("/submit_job", &job(), &[]).await.json()["job_id"].as_str().expect("an id").to_owned();
    rig.get_until("/network_stats", |counts| counts["queued"] == 1).await;
    let key = format!("api_key: {}\r\n", rig.key);
    for (path, headers, status) in [
        ("/healthz", "", 200),
        ("/readyz", "", 200),
        ("/worker/ping", "", 200),
        ("/", "", 200),
        ("/", "Accept: text/html\r\n", 200),
        ("/docs", "", 200),
        ("/openapi.json", "", 200),
        ("/network_stats", key.as_str(), 200),
        ("/v1/models", &key, 200),
        (&format!("/v1/jobs/{id}"), &key, 200),
        ("/v1/jobs/none", &key, 404),
        ("/v1/models", "", 401),
        ("/network_stats", "", 401),
        ("/v1/nowhere", "", 404),
        ("/healthz", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("/v1/models", "Content-Length: 5\r\nContent-Length: 5\r\n", 400),
    ] {
        let (get, body) = ask(&rig, "GET", path, headers).await;
        let (head, nothing) = ask(&rig, "HEAD", path, headers).await;
        assert!(get[0].starts_with(&format!("http/1.1 {status} ")), "{path}: {get:?}");
        assert_eq!(lasting(&head), lasting(&get), "{path}");
        assert!(get.contains(&format!("content-length: {}", body.len())), "{path}: {get:?}");
        assert!(!body.is_empty() && nothing.is_empty(), "{path}: {nothing}");
        assert!(head.iter().any(|line| line.starts_with("x-request-id: req_")), "{path}: {head:?}");
    }
}

#[tokio::test]
async fn a_connection_goes_on_after_a_head_alone() {
    let rig = Rig::start(unlimited()).await;
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    let asked = b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(asked).await.expect("sent");
    let mut back = String::new();
    stream.read_to_string(&mut back).await.expect("read");
    assert_eq!(
        (back.matches("HTTP/1.1 200 OK").count(), back.matches("{\"status\":\"ok\"}").count()),
        (2, 1),
        "{back}"
    );
}

#[tokio::test]
async fn other_methods_are_told_what_is_allowed() {
    let rig = Rig::start(unlimited()).await;
    for (method, path, allowed) in [
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("PUT", "/v1/jobs/x", "GET, HEAD, DELETE"),
        ("GET", "/submit_job", "POST"),
        ("GET", "/v1/chat/completions", "POST"),
    ] {
        let reply = rig.send(method, path, &[], b"").await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allowed)), "{method} {path}");
    }
    let (head, nothing) = ask(&rig, "HEAD", "/submit_job", "").await;
    assert!(head[0].starts_with("http/1.1 405 ") && head.contains(&"allow: post".to_owned()), "{head:?}");
    assert_eq!(json!(nothing), json!(""));
}
