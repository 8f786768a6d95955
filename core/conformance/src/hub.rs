//! A small Hub on a loopback port, for tests of what fetches models: it serves one repository as the Hugging Face Hub does,
//! and cuts, stalls and lies where a test says so.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use infera_types::ids::Digest;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The commit of every test's repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Files from this length on are held as the Hub holds large ones: by SHA-256, sent from another path.
const LARGE_BYTES: usize = 1024;

/// How much is sent at once.
const PIECE_BYTES: usize = 16 << 10;

/// A request that came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The path with the query.
    pub path: String,
    /// The first byte that was asked for, if a range was.
    pub from: Option<usize>,
    /// The tag of `If-Range`.
    pub if_range: Option<String>,
    /// The `Authorization`.
    pub authorization: Option<String>,
    /// How many requests came before.
    pub number: usize,
}

/// What the Hub does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Serve it as the Hub does.
    Serve,
    /// Serve this many bytes of the body, and cut the connection.
    CutAfter(usize),
    /// Serve this many bytes of the body, and then nothing.
    StallAfter(usize),
    /// Serve 16 KiB after each pause.
    Slowly(Duration),
    /// Serve the whole file, as one that knows no ranges.
    Whole,
    /// Say that the range begins here, whatever was asked for.
    FromByte(usize),
    /// Send other bytes of the same length.
    Falsify,
    /// Send more bytes than the file has, without saying how many.
    TooMany,
    /// Answer with a status, headers and a body.
    Answer(u16, Vec<(&'static str, String)>, String),
}

/// Decides what is done with a request.
type Script = dyn Fn(&Asked) -> Act + Send + Sync;

struct State {
    name: String,
    files: BTreeMap<String, Vec<u8>>,
    /// The files' tags, made once, because large files take their time.
    tags: BTreeMap<String, String>,
    listing: Value,
    script: Box<Script>,
    asked: Mutex<Vec<Asked>>,
}

/// A running Hub. It ends when it is dropped.
pub struct TestHub {
    /// Its address.
    pub address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

impl std::fmt::Debug for TestHub {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TestHub").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Returns the listing of files as the Hub gives it.
#[must_use]
pub fn listing(files: &BTreeMap<String, Vec<u8>>) -> Value {
    let entry = |(path, content): (&String, &Vec<u8>)| {
        let blob = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
        let oid = hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &blob));
        if content.len() < LARGE_BYTES {
            return json!({ "type": "file", "path": path, "size": content.len(), "oid": oid });
        }
        let lfs =
            json!({ "oid": Digest::of(content).to_string(), "size": content.len(), "pointerSize": 134 });
        json!({ "type": "file", "path": path, "size": content.len(), "oid": oid, "lfs": lfs })
    };
    let mut entries: Vec<Value> = files.iter().map(entry).collect();
    entries.insert(0, json!({ "type": "directory", "path": "onnx", "size": 0, "oid": "0" }));
    Value::Array(entries)
}

impl TestHub {
    /// Serves `files` as the repository `name`; `script` decides about each request.
    ///
    /// # Panics
    /// No port can be had.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn start(
        name: &str,
        files: BTreeMap<String, Vec<u8>>,
        script: impl Fn(&Asked) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let listing = listing(&files);
        let tag =
            |(path, content): (&String, &Vec<u8>)| (path.clone(), format!("\"{}\"", Digest::of(content)));
        let tags = files.iter().map(tag).collect();
        let asked = Mutex::default();
        let state =
            Arc::new(State { name: name.to_owned(), files, tags, listing, script: Box::new(script), asked });
        let serving = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self { address, state, serving }
    }

    /// Returns its address for `HF_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns all requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the requests for a file's bytes, by the end of its path.
    #[must_use]
    pub fn asked_for(&self, file: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.path.ends_with(file)).collect()
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        // A client that hangs up is what tests are about.
        tokio::spawn(async move { drop(answer(stream, &state).await) });
    }
}

/// Reads a request's head and answers it; the connection ends with the answer.
async fn answer(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            count => head.extend_from_slice(&piece[..count]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let from =
        headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let asked = {
        let mut all = state.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (if_range, authorization) =
            (headers.get("if-range").cloned(), headers.get("authorization").cloned());
        let asked = Asked { path, from, if_range, authorization, number: all.len() };
        all.push(asked.clone());
        asked
    };
    let act = (state.script)(&asked);
    if let Act::Answer(status, headers, body) = act {
        return send(&mut stream, (status, &headers), body.as_bytes(), &Act::Serve).await;
    }
    route(&mut stream, state, &asked, &act).await
}

/// Answers as the Hub does, but for what `act` says of files' bytes.
async fn route(stream: &mut TcpStream, state: &State, asked: &Asked, act: &Act) -> std::io::Result<()> {
    let path = asked.path.split('?').next().unwrap_or_default();
    let name = &state.name;
    if path.starts_with(&format!("/api/models/{name}/revision/")) {
        let body = json!({ "id": name, "sha": COMMIT }).to_string();
        return send(stream, (200, &[]), body.as_bytes(), act).await;
    }
    if path.starts_with(&format!("/api/models/{name}/tree/")) {
        return send(stream, (200, &[]), state.listing.to_string().as_bytes(), act).await;
    }
    let resolve = format!("/{name}/resolve/{COMMIT}/");
    let file = path.strip_prefix(&resolve).or_else(|| path.strip_prefix("/large/"));
    let found = file.and_then(|file| Some((file, state.files.get(file)?)));
    let Some((file, content)) = found else {
        let headers = [("X-Error-Code", "EntryNotFound".to_owned())];
        return send(stream, (404, &headers), b"{\"error\":\"Entry not found\"}", act).await;
    };
    if content.len() >= LARGE_BYTES && path.starts_with(&resolve) {
        let headers = [("Location", format!("/large/{file}"))];
        return send(stream, (302, &headers), b"", &Act::Serve).await;
    }
    let tag = state.tags.get(file).cloned().unwrap_or_default();
    send_file(stream, asked, (content, tag), act).await
}

async fn send_file(
    stream: &mut TcpStream,
    asked: &Asked,
    (content, tag): (&[u8], String),
    act: &Act,
) -> std::io::Result<()> {
    let mut content = content.to_vec();
    if *act == Act::Falsify {
        content.iter_mut().for_each(|byte| *byte ^= 1);
    }
    let length = content.len();
    let is_same = asked.if_range.as_ref().is_none_or(|wanted| *wanted == tag);
    let from = asked.from.filter(|_| is_same && *act != Act::Whole);
    let mut headers = vec![("ETag", tag)];
    match from {
        None => send(stream, (200, &headers), &content, act).await,
        Some(from) if from >= length => send(stream, (416, &headers), b"", act).await,
        Some(from) => {
            let said = if let Act::FromByte(said) = act { *said } else { from };
            headers.push(("Content-Range", format!("bytes {said}-{}/{length}", length - 1)));
            send(stream, (206, &headers), &content[said.min(length)..], act).await
        }
    }
}

async fn send(
    stream: &mut TcpStream,
    (status, headers): (u16, &[(&str, String)]),
    body: &[u8],
    act: &Act,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Words\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut body = body.to_vec();
    if *act == Act::TooMany {
        body.extend_from_slice(&[7; 1000]);
    } else if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    let most = match act {
        Act::CutAfter(bytes) | Act::StallAfter(bytes) => *bytes,
        _ => body.len(),
    };
    for piece in body[..most.min(body.len())].chunks(PIECE_BYTES) {
        if let Act::Slowly(pause) = act {
            tokio::time::sleep(*pause).await;
        }
        stream.write_all(piece).await?;
    }
    stream.flush().await?;
    if matches!(act, Act::StallAfter(_)) {
        // Until the client hangs up.
        let _ = stream.read(&mut [0; 1]).await;
    }
    Ok(())
}
