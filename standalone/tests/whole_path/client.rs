//! The smallest HTTP client that sees what a user sees, with one request for each connection.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A reply: status, head and JSON.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) json: Value,
}

/// A client with a key.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
}

impl Client {
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        self.call_with(method, path, "", body).await
    }

    /// With more lines in the head, each with its line end.
    pub(crate) async fn call_with(
        &self,
        method: &str,
        path: &str,
        more: &str,
        body: Option<&Value>,
    ) -> Reply {
        let text = self.whole(method, path, more, body).await;
        let (head, json) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        Reply { status, head: head.to_owned(), json: serde_json::from_str(json).unwrap_or(Value::Null) }
    }

    /// The whole reply as text.
    async fn whole(&self, method: &str, path: &str, more: &str, body: Option<&Value>) -> String {
        let mut stream = self.begin(method, path, more, body).await;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("a reply comes");
        String::from_utf8(bytes).expect("replies are text")
    }

    /// Sends a request, and returns the connection on which the reply comes.
    pub(crate) async fn begin(
        &self,
        method: &str,
        path: &str,
        more: &str,
        body: Option<&Value>,
    ) -> TcpStream {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n{more}\r\n{body}",
            self.key,
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.expect("the gateway listens");
        stream.write_all(request.as_bytes()).await.expect("the request is sent");
        stream
    }

    /// The data of each event of a streamed chat, with the reply's status.
    pub(crate) async fn events(&self, body: &Value) -> (u16, Vec<String>) {
        let reply = self.whole("POST", "/v1/chat/completions", "", Some(body)).await;
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        if !head.to_ascii_lowercase().contains("content-type: text/event-stream") {
            return (status, vec![body.to_owned()]);
        }
        let text = unchunked(body);
        (
            status,
            text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).map(str::to_owned).collect(),
        )
    }

    /// The events of a job to its end, from the one after `last` on: the id, the kind and the data of each.
    pub(crate) async fn job_events(&self, job: &str, last: &str) -> Vec<(String, String, Value)> {
        let path = format!("/v1/jobs/{job}/events");
        let reply = self.whole("GET", &path, &format!("last-event-id: {last}\r\n"), None).await;
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.to_ascii_lowercase().contains("content-type: text/event-stream"), "{reply}");
        let of = |event: &str, name: &str| {
            event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned()
        };
        let read = |event: &str| {
            let data = serde_json::from_str(&of(event, "data: ")).expect("an event's data is JSON");
            (of(event, "id: "), of(event, "event: "), data)
        };
        let text = unchunked(body);
        text.split_terminator("\n\n").filter(|event| !event.starts_with(':')).map(read).collect()
    }

    /// Reads this many events of a streamed chat, and closes the connection.
    pub(crate) async fn hang_up_after(&self, body: &Value, events: usize) {
        drop(self.read_events(body, events).await);
    }

    /// Reads this many events of a streamed chat, which goes on while the returned connection is kept.
    pub(crate) async fn read_events(&self, body: &Value, events: usize) -> TcpStream {
        let mut stream = self.begin("POST", "/v1/chat/completions", "", Some(body)).await;
        let mut bytes = Vec::new();
        while String::from_utf8_lossy(&bytes).matches("data: ").count() < events {
            let read = stream.read_buf(&mut bytes).await.expect("events come");
            assert!(read > 0, "{}", String::from_utf8_lossy(&bytes));
        }
        stream
    }

    /// A reply of JSON lines.
    pub(crate) async fn lines(&self, path: &str) -> Vec<Value> {
        let reply = self.whole("GET", path, "", None).await;
        let (_, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
        body.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// A synchronous chat on the OpenAI face.
    pub(crate) async fn chat(&self, body: &Value) -> Reply {
        self.call("POST", "/v1/chat/completions", Some(body)).await
    }

    /// The job as `GET /v1/jobs/{id}` shows it.
    pub(crate) async fn job(&self, id: &str) -> Value {
        self.call("GET", &format!("/v1/jobs/{id}"), None).await.json
    }
}

/// The text of a chunked body.
fn unchunked(body: &str) -> String {
    let (mut text, mut rest) = (String::new(), body);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        let (chunk, after) = after.split_at(size);
        text.push_str(chunk);
        rest = after.strip_prefix("\r\n").expect("a chunk's end");
    }
    text
}

/// A greedy question.
pub(crate) fn question(text: &str) -> Value {
    serde_json::json!({
        "model": "infera-tiny",
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 48,
    })
}
