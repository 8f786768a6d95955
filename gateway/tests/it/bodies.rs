//! The bounds on what a stranger's body may cost: memory, threads and turns, and for how long.

use std::time::{Duration, Instant};

use infera_gateway::Config;
use infera_types::job::{Answer, End};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client;
use crate::support::rig::{MODEL, Play, Rig, answered, chat, job, unlimited};

/// The longest reply to a wrong body, without its head: a list of 64 kB, the last mistake beyond that, and the last
/// entry.
const REPLY_MAX_BYTES: usize = 80 * 1024;

/// Bodies of half a megabyte with many values that could be echoed.
fn hostile() -> Vec<(&'static str, String)> {
    let numbers = vec!["1e15"; 100_000].join(",");
    let deep = vec![["[".repeat(500), "]".repeat(500)].concat(); 500].join(",");
    let message = |fields: &str| format!("{{\"messages\":[{{{fields}}}]}}");
    let wrong_messages = vec![format!("{{\"x\":\"{}\"}}", "\\u0001".repeat(100)); 800].join(",");
    let unknown = (0..3_500)
        .map(|index| format!("\"{}{index}\":0", "\\u0001".repeat(15)))
        .collect::<Vec<_>>()
        .join(",");
    vec![
        ("numbers that grow", message(&format!("\"x\":[{numbers}]"))),
        ("a long text", format!("{{\"model\":5,\"messages\":\"{}\"}}", "é".repeat(200_000))),
        ("escapes that grow", format!("{{\"messages\":\"{}\"}}", "\\u0001".repeat(80_000))),
        ("deep lists", format!("{{\"messages\":[{deep}]}}")),
        ("many wrong items", format!("{{\"messages\":[{}0]}}", "0,".repeat(250_000))),
        ("many wrong messages", format!("{{\"messages\":[{wrong_messages}]}}")),
        ("a long name", format!("{{\"{}\":1}}", "n".repeat(500_000))),
        (
            "unknown names",
            format!(
                "{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}],\"max_tokens\":5,\
                 \"temperature\":0,\"verification\":{{{unknown},\"{}\":0}}}}",
                "n".repeat(100_000)
            ),
        ),
    ]
}

#[tokio::test]
async fn a_reply_to_a_wrong_body_is_bounded() {
    let rig = Rig::start(unlimited()).await;
    let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
    for (name, body) in hostile() {
        let reply = rig.send("POST", "/chat/completions", &headers, body.as_bytes()).await;
        assert_eq!(reply.status, 422, "{name}");
        assert!(reply.body.len() < REPLY_MAX_BYTES, "{name}: {} bytes", reply.body.len());
        let detail = reply.json()["detail"].as_array().cloned().unwrap_or_default();
        assert!(!detail.is_empty(), "{name}: {}", String::from_utf8_lossy(&reply.body[..200]));
        let again = rig.send("POST", "/chat/completions", &headers, body.as_bytes()).await;
        assert_eq!(again.body, reply.body, "{name}: the same is cut the same way");
        let reply = rig.send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
        assert_eq!(reply.status, 400, "{name}");
        assert!(reply.body.len() < 4 * 1024, "{name}: {} bytes on /v1", reply.body.len());
        assert!(reply.json()["error"]["message"].is_string(), "{name}");
    }
}

#[tokio::test]
async fn what_is_left_out_of_a_reply_is_said() {
    let rig = Rig::start(unlimited()).await;
    let body =
        json!({ "model": "m", "messages": vec![json!({ "x": 1 }); 150], "max_tokens": 5, "temperature": 0 });
    let detail = rig.post("/chat/completions", &body, &[]).await.json()["detail"].clone();
    let listed = detail.as_array().map_or(0, Vec::len);
    assert_eq!(listed, 101);
    assert_eq!(detail[99]["loc"], json!(["body", "messages", 49, "content"]));
    let last = json!({
        "type": "too_many_mistakes",
        "loc": ["body"],
        "msg": "200 more mistakes are not listed",
        "input": null,
        "ctx": { "left_out": 200 },
    });
    assert_eq!(detail[100], last);
    let error = rig.post("/v1/chat/completions", &body, &[]).await.json()["error"].clone();
    let accepted = "accepted is 'system', 'developer', 'user' or 'assistant'";
    assert_eq!(
        error["message"],
        json!(format!("messages[0].role: Field required; {accepted} (and 149 more)"))
    );

    let body = json!({ "model": "é".repeat(50_000), "messages": vec![7; 9_000], "max_tokens": "x", "temperature": 0 });
    let detail = rig.post("/chat/completions", &body, &[]).await.json()["detail"].clone();
    assert_eq!(detail[0]["input"], 7);
    let body = json!({ "messages": vec![7; 9_000], "model": vec!["é"; 5] });
    let detail = rig.post("/chat/completions", &body, &[]).await.json()["detail"].clone();
    assert_eq!(detail[0]["input"], json!(["é", "é", "é", "é", "é"]), "what is short is whole");
    let cut = rig.post("/chat/completions", &json!({ "messages": "é".repeat(50_000) }), &[]).await.json();
    let input = cut["detail"][1]["input"].as_str().expect("a text").to_owned();
    assert!(input.starts_with("éé") && input.ends_with(" more bytes)"), "{}", &input[input.len() - 40..]);
}

/// Sends a request and reads no reply.
async fn leave_unread(rig: &Rig) -> TcpStream {
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    let body = chat().to_string();
    let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
    let request = client::request("POST", "/chat/completions", &headers, body.as_bytes());
    stream.write_all(&request).await.expect("sent");
    // The first byte of the reply shows that the answer is there.
    let mut byte = [0; 1];
    stream.peek(&mut byte).await.expect("a reply");
    stream
}

async fn until_a_turn_is_free(rig: &Rig) {
    for _ in 0..500 {
        if rig.post("/submit_job", &job(), &[]).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the turn never came back");
}

#[tokio::test]
async fn a_turn_lasts_until_its_reply_is_written_or_the_connection_is_gone() {
    let rig = Rig::start(Config { in_flight_max: 1, turn_wait_ms: 0, ..unlimited() }).await;
    // More than the kernel buffers for a client that doesn't read.
    let End::Succeeded { answer, verification } = answered() else { panic!("the rig answers") };
    let answer = Answer { text: "x".repeat(16 * 1024 * 1024), ..answer };
    rig.play(Play::End(End::Succeeded { answer, verification }));

    let mut unread = leave_unread(&rig).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let refused = rig.post("/submit_job", &job(), &[]).await;
        assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("concurrency_limit_exceeded")));
        assert_eq!(rig.get("/v1/models").await.status, 200, "looks have turns of their own");
    }
    let mut reply = Vec::new();
    unread.read_to_end(&mut reply).await.expect("the whole reply");
    assert!(reply.len() > 16 * 1024 * 1024);
    until_a_turn_is_free(&rig).await;

    let unread = leave_unread(&rig).await;
    assert_eq!(rig.post("/submit_job", &job(), &[]).await.status, 429);
    drop(unread);
    until_a_turn_is_free(&rig).await;
}

/// The head of a large body, and a part of the body that counts towards the budget.
async fn begin_large(rig: &Rig) -> TcpStream {
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    let head = format!(
        "POST /submit_job HTTP/1.1\r\nHost: a\r\nConnection: close\r\napi_key: {}\r\nContent-Length: 500000\r\n\r\n",
        rig.key
    );
    stream.write_all(&[head.as_bytes(), &[b' '; 300_000]].concat()).await.expect("sent");
    stream
}

#[tokio::test]
async fn large_bodies_share_a_bounded_room() {
    let rig = Rig::start(Config { memory_max_bytes: 1024 * 1024, ..unlimited() }).await;
    let mut large = chat();
    large["messages"][0]["content"] = json!("x".repeat(100_000));
    let (mut tries, mut held) = (0, Vec::new());
    let refused = loop {
        // Both bodies must be in memory first, or one of them is refused instead.
        tries += 1;
        held.clear();
        held.extend([begin_large(&rig).await, begin_large(&rig).await]);
        tokio::time::sleep(Duration::from_millis(100) * tries).await;
        let reply = rig.post("/v1/chat/completions", &large, &[]).await;
        if reply.status != 200 {
            break reply;
        }
        assert!(tries < 20, "bodies of a megabyte leave room for more");
    };
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &json!("overloaded")));
    assert!(refused.wait_ms().is_some_and(|wait| (1_000..=1_500).contains(&wait)), "{:?}", refused.headers);
    assert_eq!(rig.post("/v1/chat/completions", &chat(), &[]).await.status, 200, "small ones need no room");
    drop(held);
    let begun = Instant::now();
    while rig.post("/v1/chat/completions", &large, &[]).await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the room never came back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn in_chunks_of_one(head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    body.iter().for_each(|byte| bytes.extend([b'1', b'\r', b'\n', *byte, b'\r', b'\n']));
    bytes.extend(b"0\r\n\r\n");
    bytes
}

#[tokio::test]
async fn a_body_in_chunks_of_one_byte_is_a_body() {
    let rig = Rig::start(unlimited()).await;
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\napi_key: {}\r\nContent-Type: application/json\r\n",
            rig.key
        )
    };
    let mut body = chat();
    body["messages"][0]["content"] = json!("x".repeat(30_000));
    let bytes = in_chunks_of_one(&head("/chat/completions"), body.to_string().as_bytes());
    let reply = client::send_raw(rig.address, &bytes).await.expect("an end").expect("a reply");
    assert_eq!(reply.status, 200, "{}", reply.json());
}

#[tokio::test]
async fn routes_that_need_no_key_take_small_bodies_only() {
    let rig = Rig::start(unlimited()).await;
    let large = vec![b' '; 20_000];
    let json_type = [("Content-Type", "application/json")];
    for (method, path) in [
        ("POST", "/signup_user"),
        ("POST", "/register_node_secret"),
        ("POST", "/check_node_secret"),
        ("GET", "/healthz"),
    ] {
        let reply = rig.send(method, path, &json_type, &large).await;
        assert_eq!(reply.status, 413, "{path}");
        assert!(
            reply.json()["detail"].to_string().contains("20000 bytes, and this path takes at most"),
            "{path}"
        );
        let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
        let reply = client::send_raw(rig.address, &in_chunks_of_one(&head, &large)).await.expect("an end");
        assert_eq!(reply.map(|reply| reply.status), Some(413), "{path} in chunks");
    }
    let body = json!({ "email": "ada@b.co" }).to_string();
    let reply = rig.send("POST", "/signup_user", &json_type, body.as_bytes()).await;
    assert_eq!(reply.status, 200);
}

/// The one thread beside the async ones is busy: a large body waits for it, and everything else goes on.
#[test]
fn large_bodies_are_understood_beside_the_async_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let rig = Rig::start(unlimited()).await;
        let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
        assert_eq!(rig.get("/v1/models").await.status, 200, "the key is known from now on");
        let (release, released) = std::sync::mpsc::channel::<()>();
        let taken = tokio::task::spawn_blocking(move || released.recv());
        let large = format!("{{\"x\":[{}0]}}", "[],".repeat(50_000));
        let mut waiting = std::pin::pin!(rig.send("POST", "/chat/completions", &headers, large.as_bytes()));
        let waited = tokio::time::timeout(Duration::from_millis(500), waiting.as_mut()).await;
        assert!(waited.is_err(), "it was understood on an async thread: {waited:?}");
        let small = rig.send("POST", "/chat/completions", &headers, b"{\"x\":[]}").await;
        assert_eq!(small.status, 422, "small ones are understood at once");
        drop(release);
        assert!(taken.await.expect("the thread ends").is_err());
        assert_eq!(waiting.await.status, 422);
    });
}

/// A client that sent too many jobs at once learns the bound, what it sent, and in how many requests they fit.
#[tokio::test]
async fn a_body_that_is_too_large_is_told_what_to_do() {
    let rig = Rig::start(unlimited()).await;
    let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
    let large = vec![b' '; 1_200_000];
    let jobs = rig.send("POST", "/v1/jobs", &headers, &large).await;
    let error = jobs.json()["error"].clone();
    assert_eq!((jobs.status, &error["code"]), (413, &json!("request_too_large")));
    let said = error["message"].as_str().expect("a message");
    for words in [
        "The body has 1200000 bytes, and this path takes at most 524288.",
        "Send the jobs in 3 requests or more.",
        "up to 1000 jobs",
    ] {
        assert!(said.contains(words), "{said}");
    }
    // In chunks, its size isn't known.
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: a\r\nConnection: close\r\napi_key: {}\r\nContent-Type: application/json\r\n",
        rig.key
    );
    let chunk = vec![b' '; 600_000];
    let chunks = [
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", chunk.len()).as_bytes(),
        &chunk,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    let reply = client::send_raw(rig.address, &chunks).await.expect("an end").expect("a reply");
    let said = reply.json()["error"]["message"].as_str().expect("a message").to_owned();
    assert!(reply.status == 413 && said.starts_with("The body has more than 524288 bytes"), "{said}");
    for path in ["/v1/chat/completions", "/submit_job"] {
        let reply = rig.send("POST", path, &headers, &large).await;
        let said = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(reply.status == 413 && said.contains("Shorten the messages."), "{said}");
    }
}
