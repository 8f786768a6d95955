//! Accepts connections, bounds their number, serves them with hyper and drains them. It knows nothing of what a
//! request means.
//!
//! A connection comes to a listener, waits for a place (`places`), and is served from its first head to its end
//! (`connection`). Its bytes pass the gate (`gate`), which examines each head before hyper reads it.

mod connection;
mod places;
mod proxy_protocol;

#[cfg(feature = "fuzzing")]
pub(crate) use proxy_protocol::{Outline, client as proxied_client, outline};

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::http::acceptor::Acceptor;
use crate::state::State;
use connection::{Entrance, FORCE_AFTER};
use places::{Episode, Places};

/// How long the listener waits when it has run out of file descriptors or memory. Connections that close free some.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The largest number of connections that were accepted but have no place yet; more wait in the kernel's queue. Their
/// file descriptors are part of the reserve.
const WAITING_MAX: usize = 64;

/// A socket that listens for clients, and the acceptor that makes its connections secure.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    descriptors: Option<u64>,
    acceptor: Option<Arc<dyn Acceptor>>,
}

impl From<TcpListener> for Listener {
    /// Makes a listener in plain text, with as many connections as the settings allow.
    fn from(socket: TcpListener) -> Self {
        Self { socket, descriptors: None, acceptor: None }
    }
}

impl Listener {
    /// Bounds the number of connections by the limit on open files; none if the limit isn't known.
    #[must_use]
    pub fn within(self, descriptors: Option<u64>) -> Self {
        Self { descriptors, ..self }
    }

    /// Makes each connection pass the acceptor before a request is read from it; none for plain text.
    #[must_use]
    pub fn with_acceptor(self, acceptor: Option<Arc<dyn Acceptor>>) -> Self {
        Self { acceptor, ..self }
    }

    /// Makes the values that all connections of this listener share.
    fn entrance(&self, state: Arc<State>) -> Entrance {
        let wanted = state.config.connections_max;
        let places = places::fitting(wanted, self.descriptors);
        if places < wanted {
            let descriptors = self.descriptors;
            tracing::warn!(
                wanted,
                places,
                descriptors,
                "gateway.connections_max is lowered to what the limit on open files leaves room for (ulimit -n)"
            );
        }
        let share = places::share(state.config.connections_per_address_max, places);
        Entrance {
            places: Places::new(places, share, state.connections.clone()),
            state,
            is_loopback: self
                .socket
                .local_addr()
                .is_ok_and(|address| address.ip().to_canonical().is_loopback()),
            acceptor: self.acceptor.clone(),
            strange: Mutex::new(Episode::default()),
        }
    }
}

/// Serves until `state.stop`, then drains: open requests have `drain_ms` to end, then those that still wait are
/// answered 503 (`state.force`), and then the remaining connections are cut.
pub(crate) async fn serve(state: Arc<State>, listener: Listener) {
    let entrance = Arc::new(listener.entrance(Arc::clone(&state)));
    let waiting = Arc::new(Semaphore::new(WAITING_MAX));
    let connections = TaskTracker::new();
    loop {
        let turn = tokio::select! {
            () = state.stop.cancelled() => break,
            turn = Arc::clone(&waiting).acquire_owned() => turn,
        };
        // The semaphore is never closed, so acquiring can't fail.
        let Ok(turn) = turn else { break };
        let accepted = tokio::select! {
            () = state.stop.cancelled() => break,
            accepted = listener.socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let entrance = Arc::clone(&entrance);
                connections.spawn(async move { entrance.receive(stream, peer.ip(), turn).await });
            }
            Err(error) => wait_after(&error).await,
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(state.config.drain(), connections.wait()).await.is_err() {
        tracing::info!(open = connections.len(), "drain is over; waiting requests are answered now");
        state.force.cancel();
        let _ = tokio::time::timeout(FORCE_AFTER, connections.wait()).await;
    }
    state.force.cancel();
}

/// Waits after an error in accepting a connection. A connection that broke before it was accepted is harmless and
/// needs no wait; after all other errors, the listener waits.
async fn wait_after(error: &io::Error) {
    let is_clients = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if !is_clients {
        tracing::error!(%error, "no connection could be accepted; trying again");
        tokio::time::sleep(BACK_OFF).await;
    }
}
