//! Reads a stream of server-sent events as it comes, and notes when each piece of text came.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Ask, Connection, end_of_head, header, status};
use crate::Fault;

/// The longest silence on a stream; gateways break it after ten seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The most bytes of an event; none that is measured here comes near it.
const EVENT_MAX_BYTES: usize = 64 * 1024;

/// One stream that ended as expected.
#[derive(Clone, Debug)]
pub struct Streamed {
    /// When it was asked for.
    pub asked: Instant,
    /// When each piece of text came.
    pub texts: Vec<Instant>,
}

impl Streamed {
    /// Returns the time to the first text.
    ///
    /// # Errors
    /// There was none.
    pub fn first(&self) -> Result<Duration, Fault> {
        Ok(*self.texts.first().ok_or("a stream without text")? - self.asked)
    }

    /// Returns the times between two pieces of text.
    pub fn gaps(&self) -> impl Iterator<Item = Duration> {
        self.texts.windows(2).map(|pair| pair[1] - pair[0])
    }
}

impl Connection {
    /// Writes the request and reads its stream to the end. `text` is called as each piece of text comes.
    ///
    /// # Errors
    /// Another status came than expected, an error event, an end without `[DONE]`, or nothing that contains what was expected.
    pub async fn stream(&mut self, ask: &Ask, mut text: impl FnMut()) -> Result<Streamed, Fault> {
        self.buffer.clear();
        let asked = Instant::now();
        self.stream.write_all(ask.bytes()).await?;
        let end = loop {
            self.read_more().await?;
            if let Some(end) = end_of_head(&self.buffer) {
                break end;
            }
        };
        let head = std::str::from_utf8(&self.buffer[..end])?;
        let is_chunked = header(head, "transfer-encoding").is_some_and(|value| value == "chunked");
        if status(head) != Some(ask.status) || !is_chunked {
            return Err(format!("not a stream: {}", String::from_utf8_lossy(&self.buffer)).into());
        }
        self.buffer.drain(..end);
        let (mut chunks, mut events) = (Chunks::default(), Events::new(ask.expected));
        let mut texts = Vec::new();
        loop {
            let is_over = chunks.feed(&mut self.buffer, &mut events.body)?;
            let now = Instant::now();
            for _ in 0..events.texts()? {
                texts.push(now);
                text();
            }
            if is_over {
                break;
            }
            self.read_more().await?;
        }
        events.ended()?;
        Ok(Streamed { asked, texts })
    }

    async fn read_more(&mut self) -> Result<(), Fault> {
        let read = tokio::time::timeout(SILENCE_MAX, self.stream.read_buf(&mut self.buffer)).await??;
        if read == 0 { Err("a stream was cut off".into()) } else { Ok(()) }
    }
}

/// A body in chunks, as far as it has come.
#[derive(Debug, Default)]
struct Chunks {
    /// Bytes that are left of the chunk, its line's end included; 0 before the line with a size.
    left: usize,
    /// Whether the empty chunk came, behind which an empty line is left.
    is_last: bool,
}

impl Chunks {
    /// Moves what has come from `raw` into `body`; returns whether the body is over.
    fn feed(&mut self, raw: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<bool, Fault> {
        loop {
            if self.left > 0 {
                let here = self.left.min(raw.len());
                // The last two bytes of each chunk are its line's end.
                body.extend(&raw[..here.min(self.left.saturating_sub(2))]);
                raw.drain(..here);
                self.left -= here;
                if self.left > 0 {
                    return Ok(false);
                }
            }
            let Some(end) = raw.windows(2).position(|pair| pair == b"\r\n") else { return Ok(false) };
            if self.is_last {
                raw.drain(..end + 2);
                return Ok(true);
            }
            let size = usize::from_str_radix(std::str::from_utf8(&raw[..end])?.trim(), 16)?;
            raw.drain(..end + 2);
            self.is_last = size == 0;
            self.left = if size == 0 { 0 } else { size + 2 };
        }
    }
}

/// The events of a body, as far as it has come.
#[derive(Debug)]
struct Events {
    body: Vec<u8>,
    expected: &'static str,
    has_expected: bool,
    is_done: bool,
}

impl Events {
    fn new(expected: &'static str) -> Self {
        Self { body: Vec::new(), expected, has_expected: false, is_done: false }
    }

    /// Takes the whole events off the body; returns how many of them have text.
    fn texts(&mut self) -> Result<usize, Fault> {
        let mut texts = 0;
        while let Some(end) = self.body.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = self.body.drain(..end + 2).collect();
            texts += usize::from(self.has_text(std::str::from_utf8(&event)?)?);
        }
        if self.body.len() > EVENT_MAX_BYTES { Err("an event without an end".into()) } else { Ok(texts) }
    }

    fn has_text(&mut self, event: &str) -> Result<bool, Fault> {
        let Some(data) = event.strip_prefix("data: ") else { return Ok(false) };
        if data.trim_end() == "[DONE]" {
            self.is_done = true;
            return Ok(false);
        }
        self.has_expected |= data.contains(self.expected);
        let chunk: Value = serde_json::from_str(data)?;
        if chunk.get("error").is_some() {
            return Err(format!("a stream ended with an error: {data}").into());
        }
        Ok(chunk["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty()))
    }

    fn ended(&self) -> Result<(), Fault> {
        match (self.is_done, self.has_expected) {
            (true, true) => Ok(()),
            (true, false) => Err(format!("a stream without {}", self.expected).into()),
            (false, _) => Err("a stream ended without [DONE]".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    const ROLE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"\",\"role\":\"assistant\"}}]}\n\n";
    const TEXT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    const FINISH: &str = "data: {\"choices\":[{\"delta\":{}}],\"status\":\"verified\"}\n\n";

    fn chunked(events: &[&str]) -> String {
        let chunks = events.iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len()));
        format!("{HEAD}{}0\r\n\r\n", chunks.collect::<String>())
    }

    /// Reads a reply that comes in pieces of `size` bytes.
    async fn read(reply: String, size: usize) -> Result<Streamed, Fault> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            for piece in reply.as_bytes().chunks(size) {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let ask = Ask::post(address, "/", "key", "{}", "\"verified\"");
        Connection::open(&ask).await.unwrap().stream(&ask, || ()).await
    }

    #[tokio::test]
    async fn events_are_found_in_pieces_of_any_size_and_only_texts_count() {
        let reply =
            chunked(&[ROLE, ": keep-alive\n\n", TEXT, &[TEXT, TEXT].concat(), FINISH, "data: [DONE]\n\n"]);
        for size in [1, 7, 64, 4096] {
            let streamed = read(reply.clone(), size).await.unwrap();
            assert_eq!((streamed.texts.len(), streamed.gaps().count()), (3, 2), "pieces of {size}");
            assert!(streamed.first().unwrap() <= streamed.asked.elapsed());
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_not_whole_is_an_error() {
        const DONE: &str = "data: [DONE]\n\n";
        let whole = chunked(&[ROLE, TEXT, FINISH, DONE]);
        assert!(read(whole.clone(), 64).await.is_ok());
        for (wrong, said) in [
            (chunked(&[ROLE, TEXT, FINISH]), "[DONE]"),
            (chunked(&[ROLE, TEXT, DONE]), "verified"),
            (chunked(&[ROLE, "data: {\"error\":{}}\n\n"]), "error"),
            (whole[..whole.len() - 8].to_owned(), "cut off"),
            ("HTTP/1.1 429 No\r\ncontent-length: 0\r\n\r\n".to_owned(), "not a stream"),
        ] {
            let fault = read(wrong, 64).await.unwrap_err().to_string();
            assert!(fault.contains(said), "{fault}");
        }
    }
}
