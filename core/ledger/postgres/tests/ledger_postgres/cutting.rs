//! A proxy in front of the server that can lose one answer: it passes a COMMIT on, waits until the server has
//! answered it, and then cuts the connection instead of passing the answer on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The proxy; it ends with its test's runtime.
pub(crate) struct CuttingProxy {
    /// The server's URL through this proxy.
    pub(crate) url: String,
    is_armed: Arc<AtomicBool>,
}

impl CuttingProxy {
    /// Listens on a port of its own for the server of `url`.
    pub(crate) async fn start(url: &str) -> Self {
        let parsed: tokio_postgres::Config = url.parse().expect("a URL");
        let port = parsed.get_ports().first().copied().unwrap_or(5_432);
        let server = format!("127.0.0.1:{port}");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("its address").port();
        let is_armed = Arc::new(AtomicBool::new(false));
        let armed = Arc::clone(&is_armed);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, armed) = (server.clone(), Arc::clone(&armed));
                tokio::spawn(async move {
                    let server = TcpStream::connect(server).await.expect("the server");
                    carry(client, server, &armed).await;
                });
            }
        });
        let url = url.replacen(&format!(":{port}/"), &format!(":{own}/"), 1);
        assert!(url.contains(&own.to_string()), "the URL names its port");
        Self { url, is_armed }
    }

    /// Loses the answer of the next COMMIT.
    pub(crate) fn cut_after_the_next_commit(&self) {
        self.is_armed.store(true, Ordering::SeqCst);
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, armed: &AtomicBool) {
    let (mut question, mut answer) = (vec![0; 65_536], vec![0; 65_536]);
    let mut is_cutting = false;
    let mut answered = Vec::new();
    loop {
        tokio::select! {
            read = client.read(&mut question) => {
                let Ok(length @ 1..) = read else { return };
                let asked = &question[..length];
                // A simple query: its text and a zero byte.
                let commits = asked.windows(7).any(|part| part == b"COMMIT\0");
                if commits && armed.swap(false, Ordering::SeqCst) {
                    is_cutting = true;
                }
                if server.write_all(asked).await.is_err() { return }
            }
            read = server.read(&mut answer) => {
                let Ok(length @ 1..) = read else { return };
                answered.extend_from_slice(&answer[..length]);
                // The server's answer that it has committed.
                if is_cutting && answered.windows(7).any(|part| part == b"COMMIT\0") { return }
                if !is_cutting {
                    answered.clear();
                    if client.write_all(&answer[..length]).await.is_err() { return }
                }
            }
        }
    }
}
