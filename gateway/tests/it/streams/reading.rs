//! Reads events as they come.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::client;

/// Longer than anything here takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A reply of events that is read as it comes.
pub(super) struct Reading {
    socket: TcpStream,
    bytes: Vec<u8>,
    /// Whether the reply is over.
    is_over: bool,
}

impl Reading {
    /// Sends a request.
    pub(super) async fn begin(
        address: std::net::SocketAddr,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &str,
    ) -> Self {
        let mut socket = TcpStream::connect(address).await.expect("a connection");
        let request = client::request(method, path, headers, body.as_bytes());
        socket.write_all(&request).await.expect("sent");
        Self { socket, bytes: Vec::new(), is_over: false }
    }

    /// Returns the reply's head in lower case.
    pub(super) fn head(&self) -> String {
        let whole = String::from_utf8_lossy(&self.bytes);
        whole.split_once("\r\n\r\n").map_or_else(String::new, |(head, _)| head.to_ascii_lowercase())
    }

    /// Returns the events that came so far, each as its lines.
    pub(super) fn events(&self) -> Vec<String> {
        let whole = String::from_utf8_lossy(&self.bytes);
        let Some((_, mut rest)) = whole.split_once("\r\n\r\n") else { return Vec::new() };
        let mut text = String::new();
        while let Some((size, after)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).expect("a chunk's size");
            if after.len() < size + 2 || size == 0 {
                break;
            }
            text.push_str(&after[..size]);
            rest = &after[size + 2..];
        }
        text.split_inclusive("\n\n")
            .filter(|event| event.ends_with("\n\n") && !event.starts_with(':'))
            .map(str::to_owned)
            .collect()
    }

    /// Reads on until what came is as wanted, or the reply is over.
    pub(super) async fn until(&mut self, wanted: impl Fn(&Self) -> bool) {
        let reading = async {
            while !wanted(self) && !self.is_over {
                self.is_over = self.socket.read_buf(&mut self.bytes).await.expect("a reply") == 0;
            }
        };
        let came = tokio::time::timeout(PATIENCE, reading).await;
        assert!(came.is_ok() && wanted(self), "{}", String::from_utf8_lossy(&self.bytes));
    }

    /// Reads on until the reply is over.
    pub(super) async fn until_over(&mut self) {
        self.until(|reading| reading.is_over).await;
    }

    /// Returns the text of a streamed chat so far.
    pub(super) fn chat_text(&self) -> String {
        let data = self.events().iter().map(|event| data(event)).collect::<Vec<_>>();
        data.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
    }

    /// Returns the text of a job's events so far.
    pub(super) fn job_text(&self) -> String {
        self.events().iter().filter_map(|event| data(event)["text"].as_str().map(str::to_owned)).collect()
    }

    /// Returns the kinds of a job's events so far, with the states.
    pub(super) fn kinds(&self) -> Vec<String> {
        let kind = |event: &String| match field(event, "event: ") {
            "status" => data(event)["status"].as_str().unwrap_or_default().to_owned(),
            kind => kind.to_owned(),
        };
        self.events().iter().map(kind).collect()
    }
}

/// Returns what stands behind a field's name in an event.
pub(super) fn field<'a>(event: &'a str, name: &str) -> &'a str {
    event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default()
}

/// Returns an event's data.
pub(super) fn data(event: &str) -> Value {
    serde_json::from_str(field(event, "data: ")).unwrap_or(Value::Null)
}
