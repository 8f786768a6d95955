//! A small HTTP/1.1 client. It sends exactly what it is told, wrong heads included, and reads one reply.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than any reply here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One reply.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The reply's status.
    pub(crate) status: u16,
    /// The names of the headers, in lower case, and their values.
    pub(crate) headers: Vec<(String, String)>,
    /// The body's bytes.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Returns a header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the wait before a retry, in milliseconds, and checks that both headers tell it and that OpenAI's clients obey
    /// it.
    pub(crate) fn wait_ms(&self) -> Option<u64> {
        let number = |name| self.header(name).map(|value| value.parse::<u64>().expect("a number"));
        let (seconds, milliseconds) = (number("retry-after")?, number("retry-after-ms")?);
        assert!(milliseconds > 0 && milliseconds <= 60_000 && seconds == milliseconds.div_ceil(1_000));
        Some(milliseconds)
    }

    /// Returns the body as JSON, or null if it isn't JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// Sends a request with a body and these headers, on a connection of its own.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(address).await?;
    // A server that refuses early may close while the request is still being written; only its reply counts.
    let _ = stream.write_all(&request(method, path, headers, body)).await;
    read(&mut stream).await
}

/// Returns the bytes of a request that ends its connection.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    [head.as_bytes(), body].concat()
}

/// Sends bytes, reads until the connection ends and returns the reply, or none if there was none.
pub(crate) async fn send_raw(address: SocketAddr, bytes: &[u8]) -> io::Result<Option<Reply>> {
    let mut stream = TcpStream::connect(address).await?;
    // A server that refuses early closes while the request is still being written.
    let _ = stream.write_all(bytes).await;
    match read(&mut stream).await {
        Ok(reply) => Ok(Some(reply)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error),
        Err(_) => Ok(None),
    }
}

/// Reads one reply.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Reply> {
    let reading = tokio::time::timeout(PATIENCE, read_patiently(stream)).await;
    reading.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn read_patiently(stream: &mut TcpStream) -> io::Result<Reply> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Reply { status: status.ok_or(io::ErrorKind::InvalidData)?, headers, body })
}
