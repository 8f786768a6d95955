//! The smallest HTTP client: requests are made once and written again and again over kept connections. It does as
//! little as possible, because it shares the cores with what it measures, but it checks every reply.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Fault;
use crate::measure::{as_f64, cpu_time, cpu_us_each};

/// How long a reply may take; a slower one is an error and ends the run.
const REPLY_MAX: Duration = Duration::from_secs(30);

/// The most bytes of a reply; none that is measured here comes near it.
const REPLY_MAX_BYTES: usize = 64 * 1024;

/// One request: its bytes, and what the body of its reply must contain.
#[derive(Clone, Debug)]
pub struct Ask {
    bytes: Arc<[u8]>,
    address: SocketAddr,
    expected: &'static str,
}

impl Ask {
    /// Makes `POST path` with a JSON body and a key; the reply must contain `expected`.
    #[must_use]
    pub fn post(address: SocketAddr, path: &str, key: &str, body: &str, expected: &'static str) -> Self {
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self { bytes: text.into_bytes().into(), address, expected }
    }

    /// Makes the same request to another address.
    #[must_use]
    pub fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// Asks once, on a connection of its own, and returns the reply's body.
    ///
    /// # Errors
    /// No reply came, or another one than expected.
    pub async fn once(&self) -> Result<String, Fault> {
        Connection::open(self).await?.ask(self).await
    }
}

/// A kept connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Opens a connection to the address of `ask`.
    ///
    /// # Errors
    /// Nothing listens there.
    pub async fn open(ask: &Ask) -> Result<Self, Fault> {
        let stream = TcpStream::connect(ask.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(REPLY_MAX_BYTES) })
    }

    /// Writes the request, reads the reply, and returns its body if it is a 200 with the expected content.
    ///
    /// # Errors
    /// Another reply came, or none.
    pub async fn ask(&mut self, ask: &Ask) -> Result<String, Fault> {
        self.buffer.clear();
        self.stream.write_all(&ask.bytes).await?;
        loop {
            let length = self.buffer.len();
            if length >= REPLY_MAX_BYTES || self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(format!("a reply was cut off: {}", String::from_utf8_lossy(&self.buffer)).into());
            }
            let Some((head, body)) = split(&self.buffer) else { continue };
            if body.len() < content_length(head).ok_or("a reply without a length")? {
                continue;
            }
            let body = std::str::from_utf8(body)?;
            if !head.starts_with("HTTP/1.1 200 ") || !body.contains(ask.expected) {
                return Err(format!("not the expected reply:\n{head}\n{body}").into());
            }
            return Ok(body.to_owned());
        }
    }
}

fn split(reply: &[u8]) -> Option<(&str, &[u8])> {
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&reply[..end]).ok()?, &reply[end + 4..]))
}

fn content_length(head: &str) -> Option<usize> {
    let value = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    };
    head.lines().find_map(value)
}

/// The results of a load.
#[derive(Debug)]
pub struct Load {
    /// Replies per second.
    pub rate: f64,
    /// How long each reply took.
    pub times: Vec<Duration>,
    /// CPU time of this process for each reply, the client's own included.
    pub cpu_us: Option<f64>,
}

/// Asks on `connections` connections at once, each waiting for its reply before it asks again: for `warm_up` without
/// counting, then for `span`. It runs on a thread of its own, so that client tasks don't compete with the server's.
///
/// # Errors
/// A connection broke, or a reply was not the expected one.
pub async fn load(ask: Ask, connections: usize, warm_up: Duration, span: Duration) -> Result<Load, Fault> {
    let (reply, outcome) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("client".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = runtime
            .map_err(Fault::from)
            .and_then(|runtime| runtime.block_on(load_here(&ask, connections, warm_up, span)));
        // The receiver is gone only if the whole run is ending.
        let _ = reply.send(outcome);
    })?;
    tokio::time::timeout(warm_up + span + REPLY_MAX, outcome).await??
}

async fn load_here(ask: &Ask, connections: usize, warm_up: Duration, span: Duration) -> Result<Load, Fault> {
    let begin = Instant::now() + warm_up;
    let end = begin + span;
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let ask = ask.clone();
        tasks.spawn(async move {
            let mut connection = Connection::open(&ask).await?;
            let mut times = Vec::new();
            loop {
                let asked = Instant::now();
                connection.ask(&ask).await?;
                let answered = Instant::now();
                if answered >= end {
                    return Ok::<_, Fault>(times);
                }
                if answered >= begin {
                    times.push(answered - asked);
                }
            }
        });
    }
    tokio::time::sleep_until(begin.into()).await;
    let cpu_before = cpu_time();
    let mut times = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        times.extend(ended??);
    }
    let cpu_us = cpu_us_each(cpu_before, times.len());
    Ok(Load { rate: as_f64(times.len()) / span.as_secs_f64(), times, cpu_us })
}

/// Asks `count` times in all on `connections` connections at once, each waiting for its reply before it asks again.
///
/// # Errors
/// A connection broke, or a reply was not the expected one.
pub async fn fill(ask: Ask, connections: usize, count: usize) -> Result<(), Fault> {
    let mut tasks = JoinSet::new();
    for index in 0..connections {
        let (ask, share) = (ask.clone(), count / connections + usize::from(index < count % connections));
        tasks.spawn(async move {
            let mut connection = Connection::open(&ask).await?;
            for _ in 0..share {
                connection.ask(&ask).await?;
            }
            Ok::<_, Fault>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}
