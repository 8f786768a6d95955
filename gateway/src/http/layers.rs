//! The layers that every request passes, the outermost first. The order has reasons:
//!
//! 1. `trace` is outermost, so that every reply has an id and a time, including refusals.
//! 2. `limits` checks the head, and `hosts` the name that was asked for: requests that must not be read are refused
//!    before anything is looked up.
//! 3. The router finds the path: an unknown path costs no look-up of a key.
//! 4. The key (`access`) is checked before the limits by key, which need it, and before the body is read, so that
//!    strangers can't make the gateway read one.
//! 5. Limits by key and address (`access`) are checked before the body is read, so that a refused request costs only
//!    its head.
//! 6. `body` reads the body, within a size and a time. It is last, because from here on the gateway holds memory for
//!    the client.
//!
//! Then comes the route. It gets a [`Call`] and knows of none of these. A large reply keeps its key's turn until it
//! is written (`outgoing`).

mod body;
mod cors;
mod hosts;
mod limits;
mod outgoing;
mod trace;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use infera_telemetry::trace::{TARGET, continue_from};
use tracing::{Instrument as _, Span, field};

use super::client_address::client_address;
use super::router::{self, Access, Route};
use crate::access::{self, Caller, Turn};
use crate::api::denied::Denied;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::reply::Reply;
use crate::config::Config;
use crate::routes::Call;
use crate::state::State;
use body::Bounds;
use outgoing::Outgoing;

/// What a connection says about all of its requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// The address at the connection's other end, or the address that a proxy told by the PROXY protocol.
    pub(crate) peer: IpAddr,
    /// Whether that is a trusted proxy, which tells its clients' addresses in each request.
    pub(crate) is_proxy: bool,
    /// Whether the connection came to a loopback address of this machine.
    pub(crate) is_loopback: bool,
}

impl Origin {
    /// Returns the client's address, by which its requests are counted.
    fn client(self, headers: &HeaderMap, config: &Config) -> IpAddr {
        if !self.is_proxy {
            return self.peer;
        }
        client_address(&config.trusted_proxies, self.peer, config.client_address_from, headers)
    }
}

/// The mark of a request that replaces one with a refused head, with the reason.
#[derive(Clone, Debug)]
pub(super) struct RefusedHead(pub ApiError);

/// Returns the reply to a connection that is refused before any request was read from it.
pub(super) fn refuse(error: ApiError) -> Response<Bytes> {
    trace::begin(&Request::new(()), true).finish(Err(error.into()), HeaderMap::new())
}

/// Answers a request.
pub(super) async fn handle(
    state: Arc<State>,
    origin: Origin,
    request: Request<Incoming>,
) -> Response<Full<Outgoing>> {
    let route = router::template(request.uri().path());
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.kind = "server",
        http.route = route,
        http.response.status_code = field::Empty,
        job = field::Empty,
        trace_id = field::Empty,
    );
    let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    continue_from(&span, parent);
    let answering = async move {
        let begun = Instant::now();
        let trace = trace::begin(&request, router::is_timed(request.uri().path()));
        let mut headers = HeaderMap::new();
        let shared = cors::Shared::of(request.headers(), &state.config.cors_origins);
        let preflight = cors::preflight(&request, shared.as_ref());
        let (outcome, turn) = match preflight {
            Some(permitted) => (permit(&state, origin, request, permitted).await, None),
            None => pass(Arc::clone(&state), origin, request, &mut headers).await,
        };
        let refusal = outcome.as_ref().err().map(|failure| failure.error.code());
        let mut response = trace.finish(outcome, headers);
        if let Some(shared) = shared {
            shared.tell(response.headers_mut());
        }
        let response = response.map(|body| Full::new(Outgoing::new(body, turn, &state.memory)));
        Span::current().record("http.response.status_code", response.status().as_u16());
        state.requests.answered(route, response.status(), refusal, begun.elapsed());
        response
    };
    answering.instrument(span).await
}

/// Returns the outcome of a request and the turn that it had. `headers` get what every reply shows, refusals
/// included.
async fn pass(
    state: Arc<State>,
    origin: Origin,
    request: Request<Incoming>,
    headers: &mut HeaderMap,
) -> (Result<Reply, Failure>, Option<Turn>) {
    let (head, mut body) = request.into_parts();
    let mut known = None;
    let admitted = match admit(&state, origin, &head, &mut known).await {
        Ok(admitted) => admitted,
        Err(error) => {
            limits::discard(&head, &mut body).await;
            if let Some(caller) = known {
                state.limits.tell(&caller, headers);
            }
            return (Err(error.into()), None);
        }
    };
    let Admitted { route, id, caller, turn } = admitted;
    let limits = Arc::clone(&state.limits);
    let max_bytes = route.body_max_bytes(state.config.body_max_bytes);
    let bounds = Bounds { max_bytes, within: state.config.body_timeout() };
    let outcome = match body::read(&head, body, bounds, &state.memory).await {
        Ok(body) => {
            let address = origin.client(&head.headers, &state.config);
            (route.handler)(state, Call { head, body, caller, address, id }).await
        }
        Err(error) => Err(error.into()),
    };
    // What is left is told as it is now, when the request's tokens are known.
    if let Some(caller) = known {
        limits.tell(&caller, headers);
    }
    (outcome, turn)
}

/// A request whose body may be read.
struct Admitted {
    route: &'static Route,
    id: String,
    caller: Option<Arc<Caller>>,
    turn: Option<Turn>,
}

/// Refuses requests that the head alone shows to be wrong, or that are for another host.
fn check(state: &State, origin: Origin, head: &Parts) -> Result<(), ApiError> {
    if let Some(RefusedHead(error)) = head.extensions.get() {
        return Err(error.clone());
    }
    limits::check_head(head, &state.config)?;
    hosts::check(&head.uri, &head.headers, origin.is_loopback, &state.config.hosts)
}

/// Returns the reply to a browser that asks whether a page may send a request. It needs no key and no route.
async fn permit(
    state: &State,
    origin: Origin,
    request: Request<Incoming>,
    asked: HeaderValue,
) -> Result<Reply, Failure> {
    let (head, mut body) = request.into_parts();
    if let Err(error) = check(state, origin, &head) {
        limits::discard(&head, &mut body).await;
        return Err(error.into());
    }
    Ok(cors::reply(asked)?)
}

/// Decides whether a request's body may be read. The caller becomes `known` even if the request is then refused.
async fn admit(
    state: &State,
    origin: Origin,
    head: &Parts,
    known: &mut Option<Arc<Caller>>,
) -> Result<Admitted, ApiError> {
    check(state, origin, head)?;
    let (route, id) = router::find(&head.method, head.uri.path())?;
    limits::check_length(head, route.body_max_bytes(state.config.body_max_bytes))?;
    let caller = match route.access {
        Access::Key | Access::Runner | Access::Admin => {
            Some(access::caller(&state.keys, &head.headers).await?)
        }
        Access::Open | Access::SignUp | Access::Node => None,
    };
    match route.access {
        Access::SignUp => state.limits.admit_signup(origin.client(&head.headers, &state.config))?,
        Access::Node => state.limits.admit_node(origin.client(&head.headers, &state.config))?,
        Access::Open | Access::Key | Access::Runner | Access::Admin => {}
    }
    known.clone_from(&caller);
    if let (Some(caller), Some(scope)) = (&caller, route.access.scope())
        && !caller.scopes.permits(scope)
    {
        return Err(ApiError::NotPermitted(Denied::Scope(scope)));
    }
    let turn = match &caller {
        Some(caller) => Some(state.limits.admit(caller, route.work(), access::attempt(&head.headers)).await?),
        None => None,
    };
    Ok(Admitted { route, id, caller, turn })
}
