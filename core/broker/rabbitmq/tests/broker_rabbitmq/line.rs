//! A line to the server that can be cut and frozen: a forwarder on a port of its own.

use std::io;
use std::sync::Arc;

use infera_broker_rabbitmq::{Config, RabbitBroker};
use infera_types::secret::Secret;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the line does with what passes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Forwards,
    /// Passes nothing on, in either direction.
    Frozen,
    /// Closes every connection, and new ones at once.
    Cut,
}

/// A forwarder to the server. Its tasks end when it is dropped.
pub(crate) struct Line {
    state: watch::Sender<State>,
    url: String,
}

impl Line {
    pub(crate) async fn new() -> Self {
        let url = super::url();
        let (credentials, rest) = url.split_once('@').expect("a URL with a user");
        let (host, vhost) = rest.split_once('/').expect("a URL with a vhost");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{credentials}@{}/{vhost}", listener.local_addr().unwrap());
        let (state, states) = watch::channel(State::Forwards);
        tokio::spawn(accept(listener, host.to_owned(), states));
        Self { state, url }
    }

    pub(crate) fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    pub(crate) fn broker(&self, publish_timeout_ms: u64) -> Arc<RabbitBroker> {
        let url = Secret::new(self.url.as_str());
        RabbitBroker::start(&Config { url, publish_timeout_ms, ..Config::default() }).unwrap()
    }
}

async fn accept(listener: TcpListener, host: String, states: watch::Receiver<State>) {
    while let Ok((here, _)) = listener.accept().await {
        let Ok(there) = TcpStream::connect(&host).await else { continue };
        let ((here_read, here_write), (there_read, there_write)) = (here.into_split(), there.into_split());
        for (from, to) in [(here_read, there_write), (there_read, here_write)] {
            tokio::spawn(forward(from, to, states.clone()));
        }
        if states.has_changed().is_err() {
            return;
        }
    }
}

async fn forward(from: OwnedReadHalf, to: OwnedWriteHalf, mut states: watch::Receiver<State>) {
    loop {
        let state = *states.borrow_and_update();
        if state == State::Cut {
            return;
        }
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return },
            ready = from.readable(), if state == State::Forwards => {
                if ready.is_err() || pass_on(&from, &to).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Passes on the available bytes.
async fn pass_on(from: &OwnedReadHalf, to: &OwnedWriteHalf) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let length = match from.try_read(&mut buffer) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut rest = &buffer[..length];
    while !rest.is_empty() {
        to.writable().await?;
        match to.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
