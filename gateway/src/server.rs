//! Connections: accepted, bounded, served with hyper and drained. What a request means is no concern of it.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::layers;
use crate::patience::{Heard, Patience};
use crate::state::State;
#[cfg(feature = "program")]
use crate::tls::Tls;

/// After the drain's time, replies that say so still have to be written.
const FORCE_AFTER: Duration = Duration::from_secs(2);

/// A head and the beginning of a body fit; a head that doesn't is answered 431.
const BUFFER_MAX_BYTES: usize = 64 * 1024;

/// Out of file descriptors (or memory): closing connections will free some, so wait instead of spinning.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Where clients come in: a socket that listens, and whether they speak TLS there.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    #[cfg(feature = "program")]
    tls: Option<Tls>,
}

impl From<TcpListener> for Door {
    /// In plain text.
    fn from(listener: TcpListener) -> Self {
        Self {
            listener,
            #[cfg(feature = "program")]
            tls: None,
        }
    }
}

#[cfg(feature = "program")]
impl Door {
    /// Over TLS if there is one.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// What has to be kept fresh while the door is open.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }
}

/// Serves until `state.stop`, then drains: open requests have `drain_ms`, then those that wait are answered 503
/// (`state.force`), then what is left is cut.
pub async fn serve(state: Arc<State>, door: Door) {
    let places = Arc::new(Semaphore::new(state.config.connections_max.max(1)));
    let connections = TaskTracker::new();
    loop {
        let place = tokio::select! {
            () = state.stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = state.stop.cancelled() => break,
            accepted = door.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let state = Arc::clone(&state);
                #[cfg(feature = "program")]
                let tls = door.tls.clone();
                connections.spawn(async move {
                    #[cfg(feature = "program")]
                    match tls {
                        None => serve_connection(state, stream, peer.ip()).await,
                        Some(tls) => serve_secured(&tls, state, stream, peer.ip()).await,
                    }
                    #[cfg(not(feature = "program"))]
                    serve_connection(state, stream, peer.ip()).await;
                    drop(place);
                });
            }
            Err(error) => wait_after(&error).await,
        }
    }
    drop(door);
    connections.close();
    if tokio::time::timeout(state.config.drain(), connections.wait()).await.is_err() {
        tracing::info!(open = connections.len(), "drain is over; waiting requests are answered now");
        state.force.cancel();
        let _ = tokio::time::timeout(FORCE_AFTER, connections.wait()).await;
    }
    state.force.cancel();
}

/// A connection that broke before it was accepted is nobody's trouble; anything else needs time.
async fn wait_after(error: &io::Error) {
    let is_clients = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if !is_clients {
        tracing::error!(%error, "no connection could be accepted; tried again");
        tokio::time::sleep(BACK_OFF).await;
    }
}

/// A handshake asks for nothing yet, so a drain doesn't wait for it.
#[cfg(feature = "program")]
async fn serve_secured(tls: &Tls, state: Arc<State>, stream: TcpStream, peer: IpAddr) {
    if !send_at_once(&stream) {
        return;
    }
    let secured = tokio::select! {
        () = state.stop.cancelled() => return,
        secured = tls.accept(stream) => secured,
    };
    if let Some(stream) = secured {
        serve_requests(state, stream, peer).await;
    }
}

async fn serve_connection(state: Arc<State>, stream: TcpStream, peer: IpAddr) {
    if send_at_once(&stream) {
        serve_requests(state, stream, peer).await;
    }
}

/// Whether the connection is still there.
fn send_at_once(stream: &TcpStream) -> bool {
    // Replies are small and complete: waiting to fill a packet would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection gone before it began");
        return false;
    }
    true
}

async fn serve_requests<S>(state: Arc<State>, stream: S, peer: IpAddr)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let patience = Patience::begin(state.config.header_timeout(), state.config.idle_timeout());
    let service = service_fn({
        let (state, patience) = (Arc::clone(&state), Arc::clone(&patience));
        move |request: Request<Incoming>| {
            let (state, patience) = (Arc::clone(&state), Arc::clone(&patience));
            async move {
                patience.serve();
                let reply = layers::handle(state, peer, request).await;
                patience.rest();
                Ok::<_, std::convert::Infallible>(reply)
            }
        }
    });
    // Without a timer, hyper leaves the waiting to us: it has one time for a head and for the pause before it.
    let connection = http1::Builder::new()
        .max_buf_size(BUFFER_MAX_BYTES)
        // Replies are queued as they are, not copied into hyper's buffer: see `layers::outgoing`.
        .writev(true)
        .serve_connection(TokioIo::new(Heard::new(stream, Arc::clone(&patience))), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = patience.lend(connection.as_mut()) => match ended {
            Some(ended) => ended,
            None => return tracing::debug!("connection closed: its client was waited for long enough"),
        },
        () = state.stop.cancelled() => {
            // Idle connections close now, the others after the reply that they wait for.
            connection.as_mut().graceful_shutdown();
            let forced = async {
                state.force.cancelled().await;
                tokio::time::sleep(FORCE_AFTER).await;
            };
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = forced => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}
