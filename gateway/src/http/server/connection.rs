//! Serves one connection from its acceptance to its end: finds the client's address, takes a place, speaks TLS if the
//! listener does, and answers requests until one side closes.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::places::{Episode, Place, Places};
use super::proxy_protocol::{self, ProxyError};
use crate::access::ClientNetwork;
use crate::api::error::ApiError;
use crate::api::too_many_requests::{CONNECTIONS_WAIT, Limit};
use crate::config::ClientAddress;
use crate::http::acceptor::{Acceptor, Wire};
use crate::http::gate::{Gate, Refused};
use crate::http::layers::{self, Arrival, Origin, RefusedHead};
use crate::http::timeouts::Timeouts;
use crate::state::State;

/// The largest size of hyper's buffers, in bytes. A whole head fits, with room to spare (`gate`).
const BUFFER_MAX_BYTES: usize = 64 * 1024;

/// How long it may take to write the replies which say that the drain's time is over.
pub(crate) const FORCE_AFTER: Duration = Duration::from_secs(2);

/// The values that all connections of a listener share.
pub(crate) struct Entrance {
    pub(crate) state: Arc<State>,
    pub(crate) places: Arc<Places>,
    /// Whether only this machine reaches the listener.
    pub(crate) is_loopback: bool,
    pub(crate) acceptor: Option<Arc<dyn Acceptor>>,
    pub(crate) strange: Mutex<Episode>,
}

impl Entrance {
    /// Serves a connection to its end. `turn` is given back once the connection has a place.
    pub(crate) async fn receive(&self, mut stream: TcpStream, peer: IpAddr, turn: OwnedSemaphorePermit) {
        // Replies are small and complete, so waiting to fill a packet would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            return tracing::debug!(%error, "connection gone before it began");
        }
        let origin = tokio::select! {
            () = self.state.stop.cancelled() => return,
            origin = self.origin(&mut stream, peer) => origin,
        };
        let origin = match origin {
            Ok(origin) => origin,
            Err(error) => return self.tell_of(&error, peer),
        };
        let config = &self.state.config;
        let timeouts = Timeouts::begin(config.header_timeout(), config.idle_timeout());
        let counted = (!origin.is_proxy).then(|| ClientNetwork::from(origin.peer));
        let place = tokio::select! {
            () = self.state.stop.cancelled() => return,
            place = self.places.enter(counted, &timeouts) => place,
        };
        drop(turn);
        match place {
            Ok(place) => self.serve(stream, origin, &timeouts, place).await,
            Err(_) => self.turn_away(stream).await,
        }
    }

    /// Finds the client's address, as far as the connection shows it.
    async fn origin(&self, stream: &mut TcpStream, peer: IpAddr) -> Result<Origin, ProxyError> {
        let config = &self.state.config;
        let origin = |peer, is_proxy| Origin { peer, is_proxy, is_loopback: self.is_loopback };
        if !config.trusted_proxies.contains(peer) {
            return Ok(origin(peer, false));
        }
        if config.client_address_from != ClientAddress::ProxyProtocol {
            return Ok(origin(peer, true));
        }
        Ok(proxy_protocol::read(stream).await?.map_or(origin(peer, true), |client| origin(client, false)))
    }

    /// Logs a proxy's fault, as a warning only once per episode, because all connections of a misconfigured proxy
    /// have it.
    fn tell_of(&self, error: &ProxyError, proxy: IpAddr) {
        self.state.connections.refused("proxy");
        let is_gone = matches!(error, ProxyError::Gone(_));
        let mut strange = self.strange.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_gone && strange.begins(Instant::now()) {
            tracing::warn!(%error, %proxy, "a trusted proxy's connection was closed; gateway.client_address_from \
                                            expects the PROXY protocol");
        } else {
            tracing::debug!(%error, %proxy, "a trusted proxy's connection was closed");
        }
    }

    /// Refuses a connection with a reply, if a reply needs no handshake. Reading the request first would take a
    /// place.
    async fn turn_away(&self, mut stream: TcpStream) {
        if self.acceptor.is_some() {
            return;
        }
        let error = ApiError::Limited(Limit::Connections, CONNECTIONS_WAIT);
        let reply = layers::refuse(error);
        // The reply fits into the socket's buffer, which is empty.
        let _ = tokio::time::timeout(FORCE_AFTER, stream.write_all(&written(reply))).await;
    }

    async fn serve(&self, stream: TcpStream, origin: Origin, timeouts: &Arc<Timeouts>, place: Place) {
        match &self.acceptor {
            None => self.serve_requests(stream, origin, timeouts).await,
            Some(acceptor) => {
                // A handshake is no request yet, so neither a drain nor a newcomer waits for it.
                let secured = tokio::select! {
                    () = self.state.stop.cancelled() => return,
                    () = timeouts.sent_away() => return,
                    secured = acceptor.accept(stream) => secured,
                };
                if let Some(stream) = secured {
                    self.serve_requests(stream, origin, timeouts).await;
                }
            }
        }
        drop(place);
    }

    async fn serve_requests<S: Wire>(&self, stream: S, origin: Origin, timeouts: &Arc<Timeouts>) {
        let state = &self.state;
        let refused = Refused::default();
        let service = service_fn({
            let (state, timeouts, refused) = (Arc::clone(state), Arc::clone(timeouts), refused.clone());
            move |mut request: Request<Incoming>| {
                let (state, timeouts) = (Arc::clone(&state), Arc::clone(&timeouts));
                // This must happen here and not when the future is first polled, because hyper checks for the end of
                // the client's sending in between.
                let begun = timeouts.request_came();
                if let Some(error) = refused.take() {
                    request.extensions_mut().insert(RefusedHead(error));
                }
                async move {
                    let arrival =
                        Arrival { origin, begun: begun.into_std(), timeouts: Arc::clone(&timeouts) };
                    Ok::<_, std::convert::Infallible>(layers::handle(state, arrival, request).await)
                }
            }
        });
        let gate = Gate::new(stream, Arc::clone(timeouts), refused);
        // hyper's own timer is off, because it has a single time for a head and for the pause before it; `timeouts`
        // has two.
        let connection = http1::Builder::new()
            .max_buf_size(BUFFER_MAX_BYTES)
            // Replies are queued as they are and not copied into hyper's buffer: see `layers::outgoing`.
            .writev(true)
            .serve_connection(TokioIo::new(gate), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = timeouts.drive(connection.as_mut()) => ended,
            () = async { tokio::select! { () = state.stop.cancelled() => {}, () = timeouts.sent_away() => {} } } => {
                // An idle connection closes now, any other one after the reply that is due.
                connection.as_mut().graceful_shutdown();
                let forced = async {
                    state.force.cancelled().await;
                    tokio::time::sleep(FORCE_AFTER).await;
                };
                tokio::select! {
                    ended = timeouts.drive(connection.as_mut()) => ended,
                    () = forced => return,
                }
            }
        };
        match ended {
            None => tracing::debug!("connection closed: its client took too long"),
            Some(Err(error)) => tracing::debug!(%error, "connection ended early"),
            Some(Ok(())) => {}
        }
    }
}

/// Writes a reply as bytes, for a connection that ends without hyper.
fn written(reply: Response<Bytes>) -> Vec<u8> {
    let (head, body) = reply.into_parts();
    let mut bytes = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes
        .extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}
