//! Closes the sending side after a request, and is answered. A client that is gone looks the same at first, and its
//! job is cancelled nevertheless.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::lives::end_what_waits;
use crate::support::rig::{Play, Rig, chat, unlimited};

/// Sends bytes, closes the sending side, and returns all bytes that come back.
async fn exchange(rig: &Rig, bytes: &[u8]) -> String {
    let mut stream = said(rig, bytes).await;
    let mut back = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut back))
        .await
        .expect("an end")
        .expect("read");
    String::from_utf8_lossy(&back).into_owned()
}

async fn said(rig: &Rig, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    stream.write_all(bytes).await.expect("sent");
    stream.shutdown().await.expect("half closed");
    stream
}

/// Returns a chat request that waits for ten minutes and doesn't ask for its connection to be closed.
fn long_chat(rig: &Rig, path: &str, version: &str) -> String {
    let mut body = chat();
    body["request_timeout_time"] = json!(600);
    let (key, body) = (&rig.key, body.to_string());
    let length = body.len();
    format!(
        "POST {path} HTTP/{version}\r\nHost: a\r\napi_key: {key}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_client_that_sends_no_more_is_answered() {
    let rig = Rig::start(unlimited()).await;
    let health = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunked = "POST /signup_user HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n{\"email\": \"a@example.com\"}\r\n0\r\n\r\n";
    let begun = Instant::now();
    for (name, bytes, replies) in [
        ("a look", health.to_owned(), 1),
        ("two at once", health.repeat(2), 2),
        ("chunks", chunked.to_owned(), 1),
        ("a chat", long_chat(&rig, "/chat/completions", "1.1"), 1),
        ("a chat of OpenAI's", long_chat(&rig, "/v1/chat/completions", "1.1"), 1),
        ("a chat by HTTP/1.0", long_chat(&rig, "/v1/chat/completions", "1.0"), 1),
    ] {
        let back = exchange(&rig, bytes.as_bytes()).await;
        assert!(back.starts_with("HTTP/1.") && back.contains(" 200 OK\r\n"), "{name}: {back}");
        assert_eq!(back.matches(" 200 OK\r\n").count(), replies, "{name}: {back}");
        assert!(!back.contains(" 100 "), "an answer that comes soon is not asked about: {name}: {back}");
    }
    // An idle connection would be closed after 95 s.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_client_that_waits_for_long_is_asked_and_answered() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let mut stream = said(&rig, long_chat(&rig, "/v1/chat/completions", "1.1").as_bytes()).await;
    rig.get_until("/network_stats", |counts| counts["queued"] == 1).await;
    // This is longer than it takes to notice that a client is gone.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    end_what_waits(&rig).await;
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.expect("read");
    let back = String::from_utf8_lossy(&back);
    let reply = back.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").expect("asked once");
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.contains("Paris."), "{reply}");
}

#[tokio::test]
async fn the_job_of_a_client_that_is_gone_is_cancelled_soon() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let stream = said(&rig, long_chat(&rig, "/chat/completions", "1.1").as_bytes()).await;
    rig.get_until("/network_stats", |counts| counts["queued"] == 1).await;
    let begun = Instant::now();
    drop(stream);
    rig.get_until("/network_stats", |counts| counts["cancelled"] == 1).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_bad_request() {
    let rig = Rig::start(unlimited()).await;
    let head = "POST /signup_user HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    for rest in
        ["Content-Length: 26\r\n\r\n{\"email\":", "Transfer-Encoding: chunked\r\n\r\n1a\r\n{\"email\":"]
    {
        let back = exchange(&rig, format!("{head}{rest}").as_bytes()).await;
        assert!(back.starts_with("HTTP/1.1 400 ") && back.contains("broken off"), "{rest:?}: {back}");
    }
}
