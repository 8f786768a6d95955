//! The smallest HTTP client: requests are made once and written again and again over kept connections. It does as
//! little as possible, because it shares the cores with what it measures, but it checks every reply.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Fault;
use crate::measure::{as_f64, cpu_time, cpu_us_each};

pub mod stream;

/// How long a reply may take; a slower one is an error and ends the run.
const REPLY_MAX: Duration = Duration::from_secs(30);

/// The most bytes of a reply; none that is measured here comes near it.
const REPLY_MAX_BYTES: usize = 64 * 1024;

/// One request: its bytes, and what its reply must be. It may be several requests, which are then made in turns.
#[derive(Clone, Debug)]
pub struct Ask {
    requests: Arc<[Vec<u8>]>,
    made: Arc<AtomicUsize>,
    address: SocketAddr,
    status: u16,
    expected: &'static str,
    pause: Duration,
}

impl Ask {
    /// Makes `POST path` with a JSON body and a key; the reply must be a 200 that contains `expected`.
    #[must_use]
    pub fn post(address: SocketAddr, path: &str, key: &str, body: &str, expected: &'static str) -> Self {
        Self::request(address, &format!("POST {path}"), &[("authorization", &format!("Bearer {key}"))], body)
            .expecting(200, expected)
    }

    /// Makes a request of a method and a path (`GET /v1/models`) with these headers and a JSON body; the reply must be
    /// a 200.
    #[must_use]
    pub fn request(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Self {
        let mut text = format!("{line} HTTP/1.1\r\nhost: {address}\r\n");
        for (name, value) in headers {
            text.extend([*name, ": ", *value, "\r\n"]);
        }
        if !body.is_empty() {
            text.extend([
                "content-type: application/json\r\ncontent-length: ",
                &body.len().to_string(),
                "\r\n",
            ]);
        }
        text.extend(["\r\n", body]);
        let requests = [text.into_bytes()].into();
        Self { requests, made: Arc::default(), address, status: 200, expected: "", pause: Duration::ZERO }
    }

    /// Sets the status that the reply must have, and what it must contain.
    #[must_use]
    pub fn expecting(self, status: u16, expected: &'static str) -> Self {
        Self { status, expected, ..self }
    }

    /// Sets how long a load pauses before each request. Without a pause, neither side falls asleep.
    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Adds the requests of `others`, which are to the same address: from now on each is made in its turn.
    #[must_use]
    pub fn in_turns_with(self, others: &[Self]) -> Self {
        let all = self.requests.iter().chain(others.iter().flat_map(|other| other.requests.iter()));
        Self { requests: all.cloned().collect(), ..self }
    }

    /// Returns the bytes of the request whose turn it is.
    fn bytes(&self) -> &[u8] {
        let turn = self.made.fetch_add(1, Ordering::Relaxed);
        self.requests.get(turn % self.requests.len()).map_or(&[], Vec::as_slice)
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

/// A reply that is as it was expected to be.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    head: &'a str,
    /// The body, with the sizes of its chunks if it came in chunks.
    pub body: &'a str,
}

impl Reply<'_> {
    /// Returns a header's value; `name` is in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
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

    /// Writes the request, reads the reply, and returns its body if the reply is the expected one.
    ///
    /// # Errors
    /// Another reply came, or none.
    pub async fn ask(&mut self, ask: &Ask) -> Result<String, Fault> {
        Ok(self.exchange(ask).await?.body.to_owned())
    }

    /// Writes the request, reads the reply, and returns it if it is the expected one.
    ///
    /// # Errors
    /// Another reply came, or none.
    pub async fn exchange(&mut self, ask: &Ask) -> Result<Reply<'_>, Fault> {
        self.buffer.clear();
        self.stream.write_all(ask.bytes()).await?;
        let end = loop {
            let length = self.buffer.len();
            if length >= REPLY_MAX_BYTES || self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(format!("a reply was cut off: {}", String::from_utf8_lossy(&self.buffer)).into());
            }
            if let Some(end) = end_of_head(&self.buffer)
                && is_whole(&self.buffer, end)?
            {
                break end;
            }
        };
        let (head, body) = self.buffer.split_at(end);
        let (head, body) = (std::str::from_utf8(head)?, std::str::from_utf8(body)?);
        if status(head) != Some(ask.status) || !body.contains(ask.expected) {
            return Err(format!("not the expected reply:\n{head}\n{body}").into());
        }
        Ok(Reply { head, body })
    }
}

/// Returns the status of a reply in HTTP/1.1.
fn status(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Returns where a reply's head ends, its empty line included, if it has come.
fn end_of_head(reply: &[u8]) -> Option<usize> {
    Some(reply.windows(4).position(|window| window == b"\r\n\r\n")? + 4)
}

/// Returns whether the body behind a head has come. A body in chunks ends with one that is empty; no JSON ends like
/// that.
fn is_whole(reply: &[u8], end: usize) -> Result<bool, Fault> {
    let (head, body) = reply.split_at(end);
    let head = std::str::from_utf8(head)?;
    if header(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Ok(body.ends_with(b"0\r\n\r\n"));
    }
    let length = header(head, "content-length").ok_or("a reply without a length")?;
    Ok(body.len() >= length.parse()?)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The results of a load.
#[derive(Debug)]
pub struct Load<T = Duration> {
    /// Replies per second.
    pub rate: f64,
    /// How long each reply took, or what else was observed of it.
    pub times: Vec<T>,
    /// CPU time of this process for each reply, the client's own included.
    pub cpu_us: Option<f64>,
}

/// Asks on `connections` connections at once, each waiting for its reply before it asks again: for `warm_up` without
/// counting, then for `span`. It runs on a thread of its own, so that client tasks don't compete with the server's.
///
/// # Errors
/// A connection broke, or a reply was not the expected one.
pub async fn load(ask: Ask, connections: usize, warm_up: Duration, span: Duration) -> Result<Load, Fault> {
    load_observed(ask, connections, warm_up, span, |_, time| time).await
}

/// As [`load`], and returns what `observe` makes of each reply and of how long it took.
///
/// # Errors
/// A connection broke, or a reply was not the expected one.
pub async fn load_observed<T: Send + 'static>(
    ask: Ask,
    connections: usize,
    warm_up: Duration,
    span: Duration,
    observe: fn(Reply<'_>, Duration) -> T,
) -> Result<Load<T>, Fault> {
    let (reply, outcome) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("client".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = runtime
            .map_err(Fault::from)
            .and_then(|runtime| runtime.block_on(load_here(&ask, connections, [warm_up, span], observe)));
        // The receiver is gone only if the whole run is ending.
        let _ = reply.send(outcome);
    })?;
    tokio::time::timeout(warm_up + span + REPLY_MAX, outcome).await??
}

async fn load_here<T: Send + 'static>(
    ask: &Ask,
    connections: usize,
    [warm_up, span]: [Duration; 2],
    observe: fn(Reply<'_>, Duration) -> T,
) -> Result<Load<T>, Fault> {
    let begin = Instant::now() + warm_up;
    let end = begin + span;
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let ask = ask.clone();
        tasks.spawn(async move {
            let mut connection = Connection::open(&ask).await?;
            let mut times = Vec::new();
            loop {
                if !ask.pause.is_zero() {
                    tokio::time::sleep(ask.pause).await;
                }
                let asked = Instant::now();
                let reply = connection.exchange(&ask).await?;
                let answered = Instant::now();
                if answered >= end {
                    return Ok::<_, Fault>(times);
                }
                if answered >= begin {
                    times.push(observe(reply, answered - asked));
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each request on one connection with the next of `replies`, in two parts.
    async fn serve(replies: &'static [&'static str]) -> (SocketAddr, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut asked = Vec::new();
            for reply in replies {
                let mut request = vec![0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                asked.push(String::from_utf8(request[..length].to_vec()).unwrap());
                let (first, second) = reply.split_at(reply.len() / 2);
                stream.write_all(first.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
                stream.write_all(second.as_bytes()).await.unwrap();
            }
            asked
        });
        (address, serving)
    }

    #[tokio::test]
    async fn a_reply_is_whole_by_its_length_or_by_its_last_chunk() {
        let (address, serving) = serve(&[
            "HTTP/1.1 200 OK\r\nServer-Timing: gateway;dur=1\r\ncontent-length: 6\r\n\r\n{\"a\":1",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{\"a\":1\r\n0\r\n\r\n",
        ])
        .await;
        let ask = Ask::post(address, "/", "key", "{}", "\"a\":1");
        let mut connection = Connection::open(&ask).await.unwrap();
        let reply = connection.exchange(&ask).await.unwrap();
        assert_eq!((reply.header("server-timing"), reply.body), (Some("gateway;dur=1"), "{\"a\":1"));
        assert_eq!(connection.ask(&ask).await.unwrap(), "6\r\n{\"a\":1\r\n0\r\n\r\n");
        let asked = serving.await.unwrap();
        let wanted = format!(
            "POST / HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer key\r\n\
             content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        assert_eq!(asked, [wanted.as_str(), &wanted]);
    }

    #[tokio::test]
    async fn another_status_or_content_than_expected_is_an_error() {
        const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno";
        let (address, _serving) = serve(&[REFUSED, REFUSED, REFUSED]).await;
        let ask = Ask::request(address, "GET /", &[], "");
        let mut connection = Connection::open(&ask).await.unwrap();
        assert!(connection.ask(&ask).await.is_err());
        assert!(connection.ask(&ask.clone().expecting(401, "yes")).await.is_err());
        assert_eq!(connection.ask(&ask.expecting(401, "no")).await.unwrap(), "no");
    }

    #[tokio::test]
    async fn several_requests_are_made_in_turns() {
        const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let (address, serving) = serve(&[OK, OK, OK]).await;
        let [one, two] = ["GET /1", "GET /2"].map(|line| Ask::request(address, line, &[], ""));
        let ask = one.in_turns_with(&[two]);
        let mut connection = Connection::open(&ask).await.unwrap();
        for _ in 0..3 {
            connection.ask(&ask).await.unwrap();
        }
        let asked: Vec<String> = serving.await.unwrap().iter().map(|text| text[..6].to_owned()).collect();
        assert_eq!(asked, ["GET /1", "GET /2", "GET /1"]);
    }
}
