//! llama.cpp's server, asked over HTTP: `/completion` with token ids, streamed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use infera_bench::Fault;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;

use crate::jobs::{Event, Job};

/// One event of the stream.
#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    tokens: Vec<i64>,
    #[serde(default)]
    stop: bool,
    #[serde(default)]
    tokens_predicted: usize,
}

/// Returns whether the server has loaded its model.
pub(crate) async fn is_ready(address: SocketAddr) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await
            .ok()?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.ok()?;
        Some(reply.starts_with(b"HTTP/1.1 200 "))
    };
    matches!(tokio::time::timeout(Duration::from_secs(5), asked).await, Ok(Some(true)))
}

/// Asks for an answer and tells of each token when it comes.
pub(crate) async fn ask(
    address: SocketAddr,
    number: usize,
    job: &Job,
    events: &UnboundedSender<Event>,
) -> Result<(), Fault> {
    // The likeliest token, no end, and nothing kept of earlier prompts.
    let body = json!({
        "prompt": job.prompt, "n_predict": job.tokens, "stream": true, "return_tokens": true, "ignore_eos": true,
        "temperature": 0, "top_k": 1, "samplers": ["top_k"], "cache_prompt": false,
    })
    .to_string();
    let head = format!(
        "POST /completion HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all((head + &body).as_bytes()).await?;
    let mut lines = BufReader::new(stream).lines();
    let status = lines.next_line().await?.unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        return Err(format!("it answered {status}").into());
    }
    let mut told = 0;
    // Lines that carry no event are of the head, of the chunks' framing, or empty.
    while let Some(line) = lines.next_line().await? {
        let Some(text) = line.strip_prefix("data: ") else { continue };
        let chunk: Chunk = serde_json::from_str(text)?;
        let at = Instant::now();
        // Tokens that are parts of a character come together with its last.
        let new = if chunk.stop { chunk.tokens_predicted.saturating_sub(told) } else { chunk.tokens.len() };
        told += new;
        for _ in 0..new {
            // The receiver is gone only if nobody counts this answer.
            let _ = events.send(Event { job: number, at });
        }
        if chunk.stop {
            break;
        }
    }
    if told == job.tokens { Ok(()) } else { Err(format!("{told} tokens instead of {}", job.tokens).into()) }
}
