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
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use infera_telemetry::trace::{TARGET, continue_from};
use tracing::{Instrument as _, Span, field};

use super::client_address::client_address;
use super::router::{self, Access, Route};
use crate::access::{self, Caller, Limits, Turn};
use crate::api::denied::Denied;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::reply::{Content, Reply};
use crate::api::too_many_requests::Limit;
use crate::config::Config;
use crate::http::timeouts::Timeouts;
use crate::routes::Call;
use crate::state::State;
use body::Bounds;
use outgoing::Outgoing;
pub(super) use outgoing::ReplyBody;

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

/// Where a request came from, and since when it is worked on.
#[derive(Debug)]
pub(super) struct Arrival {
    /// What its connection says.
    pub(crate) origin: Origin,
    /// When the gateway had its head.
    pub(crate) begun: Instant,
    /// The connection's clock, which knows when its body came.
    pub(crate) timeouts: Arc<Timeouts>,
}

/// The mark of a request that replaces one with a refused head, with the reason.
#[derive(Clone, Debug)]
pub(super) struct RefusedHead(pub ApiError);

/// What the fuzz targets read as the layers do.
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzed {
    pub(crate) use super::body::inflated;
    pub(crate) use super::cors::{Shared, preflight};
    pub(crate) use super::hosts::check as check_host;
    pub(crate) use super::limits::check_head;
}

/// Returns the reply to a connection that is refused before any request was read from it.
pub(super) fn refuse(error: ApiError) -> Response<Bytes> {
    let trace = trace::begin(&Request::new(()), Instant::now(), true);
    let (mut response, timing) = trace.finish(Err(error.into()), HeaderMap::new());
    timing.tell(Duration::ZERO, response.headers_mut());
    response.map(|content| match content {
        Content::Whole(bytes) => bytes,
        // No error is one.
        Content::Events(_) => Bytes::new(),
    })
}

/// Answers a request.
pub(super) async fn handle(
    state: Arc<State>,
    arrival: Arrival,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
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
        let Arrival { origin, begun, timeouts } = arrival;
        let trace = trace::begin(&request, begun, router::is_timed(request.uri().path()));
        let mut headers = HeaderMap::new();
        let shared = cors::Shared::of(request.headers(), &state.config.cors_origins);
        let preflight = cors::preflight(&request, shared.as_ref());
        let passed = match preflight {
            Some(permitted) => Passed::at_once(permit(&state, origin, request, permitted).await),
            None => pass(Arc::clone(&state), (origin, &*timeouts), request, &mut headers).await,
        };
        let Passed { outcome, turn, for_body } = passed;
        let refusal = outcome.as_ref().err().map(|failure| failure.error.code());
        let (mut response, timing) = trace.finish(outcome, headers);
        if let Some(shared) = shared {
            shared.tell(response.headers_mut());
        }
        let mut response = response.map(|content| match content {
            Content::Whole(body) => ReplyBody::whole(Outgoing::new(body, turn, &state.memory), &timeouts),
            Content::Events(events) => ReplyBody::events(events, turn, &timeouts),
        });
        Span::current().record("http.response.status_code", response.status().as_u16());
        state.requests.answered(route, response.status(), refusal, begun.elapsed());
        // Told last, so that it holds all that is done for the reply but writing it.
        timing.tell(for_body, response.headers_mut());
        response
    };
    answering.instrument(span).await
}

/// What became of a request.
struct Passed {
    outcome: Result<Reply, Failure>,
    /// The turn that it had.
    turn: Option<Turn>,
    /// For how long its client was waited for, to send the body.
    for_body: Duration,
}

impl Passed {
    /// Makes the outcome of a request whose client wasn't waited for.
    const fn at_once(outcome: Result<Reply, Failure>) -> Self {
        Self { outcome, turn: None, for_body: Duration::ZERO }
    }
}

/// Returns what became of a request. `headers` get what every reply shows, refusals included.
async fn pass(
    state: Arc<State>,
    (origin, timeouts): (Origin, &Timeouts),
    request: Request<Incoming>,
    headers: &mut HeaderMap,
) -> Passed {
    let (head, mut body) = request.into_parts();
    let mut known = Known::default();
    let admitted = match admit(&state, origin, &head, &mut known).await {
        Ok(admitted) => admitted,
        Err(error) => {
            let since = tokio::time::Instant::now();
            limits::discard(&head, &mut body).await;
            let for_body = timeouts.waited_for_body(since);
            known.tell(&state.limits, headers);
            return Passed { outcome: Err(error.into()), turn: None, for_body };
        }
    };
    let Admitted { route, id, caller, turn } = admitted;
    let limits = Arc::clone(&state.limits);
    let max_bytes = route.body_max_bytes(state.config.body_max_bytes);
    let bounds = Bounds { max_bytes, within: state.config.body_timeout() };
    let since = tokio::time::Instant::now();
    let body = body::read(&head, body, bounds, &state.memory).await;
    let for_body = timeouts.waited_for_body(since);
    let outcome = match body {
        Ok(body) => {
            let address = origin.client(&head.headers, &state.config);
            (route.handler)(state, Call { head, body, caller, address, id }).await
        }
        Err(error) => Err(error.into()),
    };
    // What is left is told as it is now, when the request's tokens are known.
    known.tell(&limits, headers);
    Passed { outcome, turn, for_body }
}

/// What is known of a client by its limits, refused or not.
#[derive(Default)]
struct Known {
    caller: Option<Arc<Caller>>,
    /// The address under which it is counted where it needs no key.
    address: Option<(Limit, IpAddr)>,
}

impl Known {
    /// Writes into `headers` what is left.
    fn tell(&self, limits: &Limits, headers: &mut HeaderMap) {
        if let Some(caller) = &self.caller {
            limits.tell(caller, headers);
        }
        if let Some((limit, address)) = self.address {
            limits.tell_address(limit, address, headers);
        }
    }
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
    limits::check_head(head)?;
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

/// Decides whether a request's body may be read. The client becomes `known` even if the request is then refused.
async fn admit(state: &State, origin: Origin, head: &Parts, known: &mut Known) -> Result<Admitted, ApiError> {
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
        Access::SignUp => {
            let address = origin.client(&head.headers, &state.config);
            known.address = Some((Limit::Signups, address));
            state.limits.admit_signup(address)?;
        }
        Access::Node => {
            let address = origin.client(&head.headers, &state.config);
            known.address = Some((Limit::Nodes, address));
            state.limits.admit_node(address)?;
        }
        Access::Open | Access::Key | Access::Runner | Access::Admin => {}
    }
    known.caller.clone_from(&caller);
    if let (Some(caller), Some(scope)) = (&caller, route.access.scope())
        && !caller.scopes.permits(scope)
    {
        return Err(ApiError::NotPermitted(Denied::Scope { needed: scope, has: caller.scopes }));
    }
    let turn = match &caller {
        Some(caller) => Some(state.limits.admit(caller, route.work(), access::attempt(&head.headers)).await?),
        None => None,
    };
    Ok(Admitted { route, id, caller, turn })
}
