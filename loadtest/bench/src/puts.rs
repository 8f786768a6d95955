//! Stands between a client and an object store and counts the PUTs: requests and bytes. It changes nothing, and knows
//! just enough of HTTP to tell one request from the next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::Fault;

/// The most bytes of a head, which has a few hundred with its signature.
const HEAD_MAX_BYTES: usize = 64 * 1024;

/// The PUTs that went through.
#[derive(Debug, Default)]
pub struct Puts {
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Puts {
    /// Forwards to the server at `upstream` and counts until the runtime ends; returns the address to use instead of
    /// the server's.
    ///
    /// # Errors
    /// No port can be opened.
    pub async fn in_front_of(upstream: String) -> Result<(Arc<Self>, SocketAddr), Fault> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let puts = Arc::new(Self::default());
        let counting = Arc::clone(&puts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (puts, upstream) = (Arc::clone(&counting), upstream.clone());
                tokio::spawn(async move {
                    // The client itself reports a connection that breaks.
                    let _ = puts.carry(client, &upstream).await;
                });
            }
        });
        Ok((puts, address))
    }

    /// Returns the number of requests and of their bodies' bytes up to now.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    async fn carry(&self, client: TcpStream, upstream: &str) -> Result<(), Fault> {
        let server = TcpStream::connect(upstream).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, mut to_client) = client.into_split();
        let (mut from_server, to_server) = server.into_split();
        tokio::select! {
            done = self.requests_of(from_client, to_server) => done,
            copied = tokio::io::copy(&mut from_server, &mut to_client) => { copied?; Ok(()) }
        }
    }

    async fn requests_of(&self, mut client: OwnedReadHalf, mut server: OwnedWriteHalf) -> Result<(), Fault> {
        let mut buffer = Vec::new();
        loop {
            let Some(end) = head_end(&buffer) else {
                if buffer.len() > HEAD_MAX_BYTES || client.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
                continue;
            };
            let (is_put, length) = request(&buffer[..end])?;
            if is_put {
                self.requests.fetch_add(1, Ordering::Relaxed);
                self.bytes.fetch_add(length, Ordering::Relaxed);
            }
            let here = usize::try_from(length)?.min(buffer.len() - end);
            server.write_all(&buffer[..end + here]).await?;
            let rest = length - u64::try_from(here)?;
            tokio::io::copy(&mut (&mut client).take(rest), &mut server).await?;
            buffer.drain(..end + here);
        }
    }
}

/// Returns where the first head in `bytes` ends, its empty line included.
fn head_end(bytes: &[u8]) -> Option<usize> {
    Some(bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4)
}

/// Returns whether a head belongs to a PUT, and how long its body is.
fn request(head: &[u8]) -> Result<(bool, u64), Fault> {
    let head = std::str::from_utf8(head)?;
    let length = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    };
    Ok((head.starts_with("PUT "), head.lines().find_map(length).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything after the first head and its body belongs to the next request.
    #[tokio::test]
    async fn puts_and_their_bodies_are_counted_and_pass_unchanged() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (puts, address) = Puts::in_front_of(listener.local_addr().unwrap().to_string()).await.unwrap();
        let sent: &[u8] = b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nPUTGET /b HTTP/1.1\r\n\r\n\
                            PUT /c HTTP/1.1\r\ncontent-length: 4\r\n\r\n\r\n\r\n";
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        for part in sent.chunks(7) {
            client.write_all(part).await.unwrap();
        }
        let mut received = vec![0; sent.len()];
        server.read_exact(&mut received).await.unwrap();
        assert_eq!(received, sent);
        assert_eq!(puts.counts(), (2, 7));
    }
}
