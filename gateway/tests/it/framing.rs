//! Sends malformed heads. Each is refused with a proper reply (a body in the shape of its face, and an id) that says
//! what is wrong, and the connection ends. No bytes after such a head are taken for a request.

use std::time::Duration;

use infera_gateway::Config;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::rig::{Rig, unlimited};

/// Returns all bytes that come back until the connection ends. The sending side stays open unless `half_close` is
/// set.
async fn exchange(rig: &Rig, pieces: &[&[u8]], half_close: bool) -> String {
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        let _ = stream.write_all(piece).await;
    }
    if half_close {
        let _ = stream.shutdown().await;
    }
    let mut back = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut back)).await;
    ended
        .unwrap_or_else(|_| panic!("{pieces:?}: not closed: {}", String::from_utf8_lossy(&back)))
        .expect("read");
    String::from_utf8_lossy(&back).into_owned()
}

/// Returns the status and the text of a reply, if the bytes are exactly one proper reply.
fn refusal(back: &str, is_openai: bool) -> Option<(u16, String)> {
    let (head, body) = back.split_once("\r\n\r\n")?;
    let lines: Vec<String> = head.split("\r\n").map(str::to_ascii_lowercase).collect();
    let has = |line: &str| lines.iter().any(|one| one.starts_with(line));
    let length = format!("content-length: {}", body.len());
    if !has("x-request-id: req_")
        || !has("connection: close")
        || !has("content-type: application/json")
        || !has(&length)
    {
        return None;
    }
    let body: Value = serde_json::from_str(body).ok()?;
    let words = if is_openai { &body["error"]["message"] } else { &body["detail"] };
    Some((lines[0].split(' ').nth(1)?.parse().ok()?, words.as_str()?.to_owned()))
}

fn patient() -> Config {
    // The refusal closes the connection; any other reason would take much longer.
    Config { header_timeout_ms: 60_000, idle_timeout_ms: 60_000, body_timeout_ms: 60_000, ..unlimited() }
}

#[tokio::test]
async fn every_refusal_says_why_on_both_faces_and_closes() {
    let rig = Rig::start(patient()).await;
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let many = (0..200).map(|n| format!("X-{n}: v\r\n")).collect::<String>();
    let large = format!("X-A: {}\r\n", "v".repeat(100_000));
    let table: [(u16, &str, &str, &str); 22] = [
        (400, "stated twice", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        (400, "stated twice", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        (400, "stated twice", "Content-Length: 0\r\nContent-Length: 5\r\n", ""),
        (400, "stated twice", "Content-Length: 5\r\nContent-Length: 5\r\n", "abcde"),
        (400, "whole number", "Content-Length: 5, 5\r\n", "abcde"),
        (400, "whole number", "Content-Length: +5\r\n", "abcde"),
        (400, "whole number", "Content-Length: -1\r\n", ""),
        (400, "whole number", "Content-Length: 0x5\r\n", "abcde"),
        (400, "whole number", "Content-Length: 18446744073709551615\r\n", ""),
        (400, "'chunked', by itself", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        (400, "'chunked', by itself", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        (400, "'chunked', by itself", "Transfer-Encoding: identity\r\n", ""),
        (400, "stated twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        (400, "bare LF", "X-A: b\n", ""),
        (400, "header line", "X-A: b\r\n c\r\n", ""),
        (400, "header line", "Content-Length : 5\r\n", "abcde"),
        (400, "header line", "X-A: b\0c\r\n", ""),
        (400, "header line", "nonsense\r\n", ""),
        (400, "one Host", "Host: b\r\n", ""),
        (400, "Expect", "Expect: everything\r\n", ""),
        (431, "too large", &many, ""),
        (431, "too large", &large, ""),
    ];
    for (path, is_openai) in [("/signup_user", false), ("/v1/chat/completions?x=/", true)] {
        for (status, expected, headers, body) in table {
            let bytes = format!("POST {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}{smuggled}");
            // Once in one piece, and once with the head in pieces.
            let (first, second) = bytes.as_bytes().split_at(25);
            for pieces in [&[bytes.as_bytes()][..], &[first, second]] {
                let back = exchange(&rig, pieces, false).await;
                let (seen, words) =
                    refusal(&back, is_openai).unwrap_or_else(|| panic!("{headers:.60?}: {back}"));
                assert!(seen == status && words.contains(expected), "{headers:.60?}: {seen} {words}");
                assert_eq!(back.matches("HTTP/1.1 ").count(), 1, "{headers:.60?}: {back}");
            }
        }
    }
}

#[tokio::test]
async fn what_begins_like_no_request_is_told_so() {
    let rig = Rig::start(patient()).await;
    for (expected, bytes) in [
        ("line of HTTP/1.1", &b"GET /healthz\r\n\r\n"[..]),
        ("line of HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"),
        ("version of HTTP", b"GET /healthz HTTP/3.0\r\nHost: a\r\n\r\n"),
        ("version of HTTP", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        ("bare LF", b"GET /healthz HTTP/1.1\nHost: a\n\n"),
        ("HTTP/1.0", b"POST /signup_user HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("one Host", b"GET /healthz HTTP/1.1\r\n\r\n"),
        ("neither a path", b"GET http:// HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        let back = exchange(&rig, &[bytes], false).await;
        let (status, words) = refusal(&back, false).unwrap_or_else(|| panic!("{bytes:?}: {back}"));
        assert!(status == 400 && words.contains(expected), "{bytes:?}: {status} {words}");
    }
    for bytes in [&b"GET /healthz HTTP/1.1\r\nHos"[..], b"GE"] {
        let back = exchange(&rig, &[bytes], true).await;
        assert!(
            refusal(&back, false)
                .is_some_and(|(status, words)| status == 400 && words.contains("broken off")),
            "{back}"
        );
    }
    assert_eq!(exchange(&rig, &[b"\r\n\r\n"], true).await, "", "no request, no refusal");
}

#[tokio::test]
async fn a_head_that_never_ends_is_told_so() {
    let rig = Rig::start(Config { header_timeout_ms: 300, ..patient() }).await;
    let back = exchange(&rig, &[b"GET /v1/models HTTP/1.1\r\nHos"], false).await;
    let (status, words) = refusal(&back, true).unwrap_or_else(|| panic!("{back}"));
    assert!(status == 408 && words.contains("in time"), "{status} {words}");
    assert_eq!(exchange(&rig, &[b""], false).await, "", "who asked for nothing is told nothing");
}

#[tokio::test]
async fn a_bad_head_behind_a_good_request_is_refused_in_its_turn() {
    let rig = Rig::start(patient()).await;
    let good = "POST /signup_user HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let length = format!("{good}Content-Length: 26\r\n\r\n{{\"email\": \"a@example.com\"}}");
    let chunks = format!(
        "{good}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"ema\r\n15;x=y\r\nil\": \"a@example.com\"}}\r\n0\r\nT: v\r\n\r\n"
    );
    let look = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_owned();
    let bad = "GET /healthz HTTP/1.1\r\nHost: a\nContent-Length: 1\r\n\r\n";
    for (name, first) in [("length", &length), ("chunks", &chunks), ("look", &look)] {
        let bytes = format!("{first}{look}{bad}{look}");
        for step in [bytes.len(), 7] {
            let pieces: Vec<&[u8]> = bytes.as_bytes().chunks(step).collect();
            let back = if pieces.len() > 1 {
                slowly(&rig, &pieces).await
            } else {
                exchange(&rig, &pieces, false).await
            };
            let replies: Vec<&str> = back.split("HTTP/1.1 ").skip(1).map(|reply| &reply[..3]).collect();
            assert_eq!(replies, ["200", "200", "400"], "{name} by {step}: {back}");
            assert!(back.contains("bare LF"), "{name} by {step}: {back}");
        }
    }
}

/// Sends the same bytes in many small pieces, with short pauses.
async fn slowly(rig: &Rig, pieces: &[&[u8]]) -> String {
    let stream = TcpStream::connect(rig.address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    let (mut reading, mut writing) = stream.into_split();
    let write = async {
        for piece in pieces {
            let _ = writing.write_all(piece).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let mut back = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), reading.read_to_string(&mut back));
    let ((), ended) = tokio::join!(write, read);
    ended.expect("closed").expect("read");
    back
}

#[tokio::test]
async fn badly_framed_chunks_are_a_bad_request_and_the_end() {
    let rig = Rig::start(patient()).await;
    let head = "POST /signup_user HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    for body in [
        "5\nabcde\r\n0\r\n\r\n",
        "5 \r\nabcde\r\n0\r\n\r\n",
        "5\r\nabcdef\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nx",
        "x\r\n",
        "0\r\nT: v\n\r\n",
    ] {
        let back = exchange(&rig, &[head.as_bytes(), format!("{body}{smuggled}").as_bytes()], false).await;
        let (status, words) = refusal(&back, false).unwrap_or_else(|| panic!("{body:?}: {back}"));
        assert!(status == 400 && words.contains("badly framed"), "{body:?}: {status} {words}");
        assert_eq!(back.matches("HTTP/1.1 ").count(), 1, "{body:?}: {back}");
    }
}

/// Changes bytes of good requests at random; each reply must be a proper one.
#[tokio::test]
async fn no_reply_is_bare_whatever_is_sent() {
    let rig = Rig::start(Config { body_timeout_ms: 500, ..patient() }).await;
    let seeds = [
        "GET /healthz HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}",
        "POST /signup_user HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ];
    let alphabet = b"\r\n\0 \t:;,/aZ09-+\x7f\x80\xff";
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("small")
    };
    let mut statuses = std::collections::BTreeMap::new();
    for round in 0..600 {
        let mut bytes = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            match next(3) {
                0 => bytes[at] = alphabet[next(alphabet.len())],
                1 => bytes.insert(at, alphabet[next(alphabet.len())]),
                _ => drop(bytes.remove(at)),
            }
        }
        let back = exchange(&rig, &[&bytes], true).await;
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        for reply in back.split("HTTP/1.1 ").skip(1) {
            let (head, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{shown:?}: {back}"));
            let is_json = serde_json::from_str::<Value>(body).is_ok_and(|body| body.is_object());
            assert!(is_json && head.contains("x-request-id: req_"), "{shown:?}: {back}");
            *statuses.entry(head[..3].to_owned()).or_insert(0) += 1;
        }
    }
    assert!(statuses.contains_key("200") && statuses.contains_key("400"), "{statuses:?}");
}
