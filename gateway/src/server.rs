//! Accepts connections, bounds them, serves them with hyper and drains them. It knows nothing of what a request means.
//!
//! A connection comes to a door, waits for a place (`places`), and is served from its first head to its end (`connection`).
//! Its bytes go through a gate (`gate`), which examines each head before hyper reads it (`head`, `chunks`) and tells a client
//! that only sends no more from one that is gone (`presence`).

mod acceptor;
mod chunks;
mod connection;
mod gate;
mod head;
mod places;
mod presence;
mod proxy;
mod refused;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::state::State;
pub use acceptor::{Acceptor, Wire};
use connection::Entrance;
use places::{Episode, Places};

/// After the drain's time, replies that say so still have to be written.
const FORCE_AFTER: Duration = Duration::from_secs(2);

/// Out of file descriptors (or memory): closing connections will free some, so wait instead of spinning.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Bounds connections that were accepted and have no place yet; more wait in the kernel's queue. Their descriptors are
/// part of the reserve.
const WAITING_MAX: usize = 64;

/// Where clients come in: a socket that listens, and what makes its connections secure.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    descriptors: Option<u64>,
    acceptor: Option<Arc<dyn Acceptor>>,
}

impl From<TcpListener> for Door {
    /// Makes a door in plain text, with as many connections as the settings allow.
    fn from(listener: TcpListener) -> Self {
        Self { listener, descriptors: None, acceptor: None }
    }
}

impl Door {
    /// Bounds its connections by the limit on open files; none: the limit isn't known.
    #[must_use]
    pub fn within(self, descriptors: Option<u64>) -> Self {
        Self { descriptors, ..self }
    }

    /// Has each connection pass the acceptor before a request is read from it; none: plain text.
    #[must_use]
    pub fn with_acceptor(self, acceptor: Option<Arc<dyn Acceptor>>) -> Self {
        Self { acceptor, ..self }
    }

    /// Makes what its connections share.
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
            places: Places::new(places, share, Arc::clone(&state.meters)),
            state,
            is_loopback: self
                .listener
                .local_addr()
                .is_ok_and(|address| address.ip().to_canonical().is_loopback()),
            acceptor: self.acceptor.clone(),
            strange: Mutex::new(Episode::default()),
        }
    }
}

/// Serves until `state.stop`, then drains: open requests have `drain_ms`, then those that wait are answered 503
/// (`state.force`), then what is left is cut.
pub async fn serve(state: Arc<State>, door: Door) {
    let entrance = Arc::new(door.entrance(Arc::clone(&state)));
    let waiting = Arc::new(Semaphore::new(WAITING_MAX));
    let connections = TaskTracker::new();
    loop {
        let turn = tokio::select! {
            () = state.stop.cancelled() => break,
            turn = Arc::clone(&waiting).acquire_owned() => turn,
        };
        // The semaphore is never closed.
        let Ok(turn) = turn else { break };
        let accepted = tokio::select! {
            () = state.stop.cancelled() => break,
            accepted = door.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let entrance = Arc::clone(&entrance);
                connections.spawn(async move { entrance.receive(stream, peer.ip(), turn).await });
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

/// Waits after an error in accepting. A connection that broke before it was accepted is harmless and needs no wait; after
/// all other errors the listener needs time.
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
