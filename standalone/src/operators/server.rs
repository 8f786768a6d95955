//! The end that answers: a few connections at a time, one request each, each bounded in time.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use infera_archive::record::RecordError;
use infera_gateway::access::ApiKey;
use infera_ledger_sqlite::SqliteLedger;
use infera_program::{Failure, REFUSED, SETTINGS};
use infera_types::ids::{Digest, JobId, ModelName};
use infera_types::shutdown::Shutdown;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::wire::{
    ARCHIVE, Addition, LEDGER, MISTYPED, MODELS, ModelOrder, NotDone, ORDER_MAX_BYTES, Ordered,
};
use crate::ledger_orders::LedgerOrder;
use crate::records::Records;

/// A person and a script or two; each may hold one record of some MiB.
const CONNECTIONS_MAX: usize = 8;

/// How long a request's head may take to come.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// How long a connection may last. A record is read from this machine's disk within milliseconds; a client that takes
/// longer to read it is gone.
const CONNECTION_MAX: Duration = Duration::from_secs(30);

/// After a failed accept: closing connections frees descriptors, so wait instead of spinning.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A server that has its socket and doesn't serve yet.
#[derive(Debug)]
pub struct OperatorServer {
    listener: UnixListener,
    socket: PathBuf,
    desk: Desk,
}

/// What answers a request.
#[derive(Clone, Debug)]
struct Desk {
    /// The hash of the one key that opens it.
    key: Digest,
    records: Records,
    /// Takes orders about models.
    orders: mpsc::Sender<Ordered>,
    /// What the other orders are carried out on.
    ledger: Arc<SqliteLedger>,
}

impl OperatorServer {
    /// Makes the socket, in a data folder that the caller holds locked. Only `key` opens it.
    ///
    /// # Errors
    /// What the operating system says; a path of more than some hundred bytes can't be a socket's.
    pub fn bind(
        socket: &Path,
        key: &ApiKey,
        records: Records,
        orders: mpsc::Sender<Ordered>,
        ledger: Arc<SqliteLedger>,
    ) -> io::Result<Self> {
        // One that is there was left by a process that was killed: the lock shows that it is gone.
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        fs::set_permissions(socket, Permissions::from_mode(0o600))?;
        let desk = Desk { key: key.hash(), records, orders, ledger };
        Ok(Self { listener, socket: socket.to_owned(), desk })
    }

    /// Serves until shutdown, and removes the socket.
    pub async fn serve(self, shutdown: Shutdown) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    // Beyond the limit a connection is closed at once: the command says so and can be repeated.
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                    let (desk, shutdown) = (self.desk.clone(), shutdown.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            _ = tokio::time::timeout(CONNECTION_MAX, connection(stream, desk)) => {}
                            () = shutdown.cancelled() => {}
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection of a command could be accepted; tried again");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
        if let Err(error) = fs::remove_file(&self.socket) {
            tracing::debug!(%error, "the socket for commands could not be removed");
        }
    }
}

async fn connection(stream: UnixStream, desk: Desk) {
    let service = service_fn(|request: Request<Incoming>| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a command's connection ended early");
    }
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if !self.opens(request.headers().get(AUTHORIZATION)) {
            return said(StatusCode::UNAUTHORIZED, "the key for local use opens this, and no other");
        }
        if let Some(name) = request.uri().path().strip_prefix(MODELS) {
            let name = ModelName::new(name);
            return self.order(name, request).await;
        }
        if request.uri().path() == LEDGER && request.method() == Method::POST {
            return self.order_of_ledger(request).await;
        }
        if request.method() != Method::GET {
            return said(StatusCode::METHOD_NOT_ALLOWED, "GET only");
        }
        let Some(job) = request.uri().path().strip_prefix(ARCHIVE) else {
            return said(
                StatusCode::BAD_REQUEST,
                "GET /archive/{job}, PUT and DELETE /models/{name}, POST /ledger",
            );
        };
        let Ok(job) = job.parse::<JobId>() else {
            return said(StatusCode::BAD_REQUEST, "no job has such an id");
        };
        match self.records.find(job).await {
            Ok(line) => respond(StatusCode::OK, "application/json", line),
            Err(error) => said(status(&error), &error.to_string()),
        }
    }

    /// Hands an order about a model to those who carry it out.
    async fn order(&self, name: ModelName, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let method = request.method().clone();
        let order = match method {
            Method::DELETE => ModelOrder::Remove(name),
            Method::PUT => {
                let body = Limited::new(request.into_body(), ORDER_MAX_BYTES).collect().await;
                let Ok(body) = body else {
                    return said(StatusCode::BAD_REQUEST, "the order is cut or too long");
                };
                match serde_json::from_slice::<Addition>(&body.to_bytes()) {
                    Ok(addition) if addition.entry.name == name && addition.model.name == name => {
                        ModelOrder::Add(Box::new(addition))
                    }
                    Ok(_) => return said(StatusCode::BAD_REQUEST, "the order is about another model"),
                    Err(error) => return said(StatusCode::BAD_REQUEST, &format!("no order: {error}")),
                }
            }
            _ => return said(StatusCode::METHOD_NOT_ALLOWED, "PUT and DELETE only"),
        };
        let (answer, answered) = oneshot::channel();
        let ended = || said(StatusCode::SERVICE_UNAVAILABLE, "this infera is ending");
        if self.orders.send(Ordered { order, answer }).await.is_err() {
            return ended();
        }
        match answered.await {
            Ok(Ok(sentence)) => said(StatusCode::OK, &sentence),
            Ok(Err(NotDone { sentence, may_pass: true })) => said(StatusCode::SERVICE_UNAVAILABLE, &sentence),
            Ok(Err(NotDone { sentence, may_pass: false })) => said(StatusCode::CONFLICT, &sentence),
            Err(_) => ended(),
        }
    }

    /// Carries out an order of the ledger.
    async fn order_of_ledger(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = Limited::new(request.into_body(), ORDER_MAX_BYTES).collect().await;
        let Ok(body) = body else {
            return said(StatusCode::BAD_REQUEST, "the order is cut or too long");
        };
        let order: LedgerOrder = match serde_json::from_slice(&body.to_bytes()) {
            Ok(order) => order,
            Err(error) => {
                let problem =
                    format!("no order that this infera knows: {error}; both must be of one version");
                return said(StatusCode::BAD_REQUEST, &problem);
            }
        };
        match order.carry_out(&self.ledger).await {
            Ok(sentence) => said(StatusCode::OK, &sentence),
            Err(failure) => said(status_of(&failure), &failure.to_string()),
        }
    }

    fn opens(&self, authorization: Option<&HeaderValue>) -> bool {
        let given = authorization.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        // Hashes are compared, so that the time it takes tells nothing of the key.
        given.and_then(ApiKey::parse).is_some_and(|key| key.hash() == self.key)
    }
}

/// Returns the status from which the command tells whose fault a failure is.
const fn status_of(failure: &Failure) -> StatusCode {
    match failure.code() {
        SETTINGS => MISTYPED,
        REFUSED => StatusCode::CONFLICT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn status(error: &RecordError) -> StatusCode {
    match error {
        RecordError::NotEnded(_) | RecordError::NotArchived(_) => StatusCode::NOT_FOUND,
        RecordError::Removed { .. } => StatusCode::GONE,
        error if error.may_pass() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn said(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", text.to_owned())
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
