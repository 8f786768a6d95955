//! Heads that no client library sends: they are refused and their connection is closed, and the bytes of one request
//! never get a second reply. Also clients that are slow on purpose.

use std::time::{Duration, Instant};

use infera_gateway::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client;
use crate::support::rig::{Rig, unlimited};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

/// Returns all bytes that come back until the connection ends, or until a time limit.
async fn exchange(rig: &Rig, bytes: &[u8]) -> (String, bool) {
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    let _ = stream.write_all(bytes).await;
    let mut back = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut back)).await.is_ok();
    (String::from_utf8_lossy(&back).into_owned(), closed)
}

#[tokio::test]
async fn heads_that_smuggle_are_refused_and_closed() {
    // Idle connections are kept for much longer than this exchange waits, so it is the refusal that closes this one.
    let rig = Rig::start(Config { idle_timeout_ms: 60_000, body_timeout_ms: 1_000, ..unlimited() }).await;
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let post =
        |headers: &str, body: &str| format!("POST /signup_user HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}");
    let table = [
        (
            "length and chunks",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{smuggled}")),
        ),
        (
            "chunks and length",
            post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", &format!("0\r\n\r\n{smuggled}")),
        ),
        ("two lengths", post("Content-Length: 0\r\nContent-Length: 5\r\n", smuggled)),
        ("a list of lengths", post("Content-Length: 0, 5\r\n", smuggled)),
        ("a length with a sign", post("Content-Length: +5\r\n", "abcde")),
        ("a negative length", post("Content-Length: -1\r\n", "")),
        ("unknown coding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        ("two codings", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n")),
        ("a huge chunk", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nx")),
        ("a folded header", post("X-A: b\r\n c\r\n", "")),
        ("a space before the colon", post("Content-Length : 5\r\n", "abcde")),
        ("a zero byte in a header", post("X-A: b\0c\r\n", "")),
        ("two hosts", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned()),
        ("no host", "GET /healthz HTTP/1.1\r\n\r\n".to_owned()),
        ("no version", "GET /healthz\r\n\r\n".to_owned()),
        ("another version", "GET /healthz HTTP/3.0\r\nHost: a\r\n\r\n".to_owned()),
        ("nonsense", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned()),
    ];
    let mut wrong = Vec::new();
    for (name, bytes) in table {
        let (back, closed) = exchange(&rig, bytes.as_bytes()).await;
        let refused =
            back.starts_with("HTTP/1.1 4") && back.contains("x-request-id: req_") && back.ends_with('}');
        if !closed || !refused || back.matches("HTTP/1.1 ").count() > 1 {
            wrong.push(format!("{name}: closed {closed}, {back:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn heads_that_are_too_much_are_refused() {
    let rig = Rig::start(unlimited()).await;
    let many = (0..200).map(|n| format!("X-{n}: v\r\n")).collect::<String>();
    let large = format!("X-A: {}\r\n", "v".repeat(100_000));
    let path = "a".repeat(100_000);
    for (name, head) in [
        ("many", format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{many}\r\n")),
        ("large", format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{large}\r\n")),
        ("a long path", format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")),
    ] {
        let reply = client::send_raw(rig.address, head.as_bytes()).await.expect("an end");
        assert!(
            reply.as_ref().is_none_or(|reply| [400, 414, 431].contains(&reply.status)),
            "{name}: {reply:?}"
        );
    }
}

#[tokio::test]
async fn slow_heads_and_bodies_are_cut() {
    let rig = Rig::start(Config { header_timeout_ms: 1_000, body_timeout_ms: 1_000, ..unlimited() }).await;
    let begun = Instant::now();
    let (silent, slow_head) =
        tokio::join!(exchange(&rig, b""), exchange(&rig, b"GET /healthz HTTP/1.1\r\nHos"));
    assert!(silent.1 && slow_head.1, "both connections end");
    let bearer = format!(
        "POST /submit_job HTTP/1.1\r\nHost: a\r\napi_key: {}\r\nContent-Length: 100\r\n\r\nabc",
        rig.key
    );
    let (back, closed) = exchange(&rig, bearer.as_bytes()).await;
    assert!(closed && back.starts_with("HTTP/1.1 408"), "{back:?}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_connection_carries_many_requests() {
    let rig = Rig::start(unlimited()).await;
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
        assert_eq!(client::read(&mut stream).await.expect("a reply").status, 200);
    }
}

/// Makes a connection that has carried a request.
async fn used(rig: &Rig) -> TcpStream {
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    stream.write_all(HEALTH).await.expect("sent");
    assert_eq!(client::read(&mut stream).await.expect("a reply").status, 200);
    stream
}

/// Waits until the gateway closes the connection, long before the other of the two limits.
async fn assert_closed(stream: &mut TcpStream) {
    let end = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 16])).await;
    assert_eq!(end.expect("closed in time").expect("an end"), 0);
}

#[tokio::test]
async fn an_idle_connection_outlives_the_time_of_a_head() {
    let rig = Rig::start(Config { header_timeout_ms: 300, idle_timeout_ms: 60_000, ..unlimited() }).await;
    let mut stream = used(&rig).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    stream.write_all(HEALTH).await.expect("sent");
    assert_eq!(client::read(&mut stream).await.expect("a reply").status, 200);
    // The next head begins, and never ends.
    stream.write_all(&HEALTH[..9]).await.expect("sent");
    assert_eq!(client::read(&mut stream).await.expect("a reply").status, 408);
    assert_closed(&mut stream).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let rig = Rig::start(Config { header_timeout_ms: 60_000, idle_timeout_ms: 300, ..unlimited() }).await;
    assert_closed(&mut used(&rig).await).await;
}
