//! The table of all paths, on one screen, and the parts that each handler is given. A new route is one file under
//! `routes/` and one line here.

use std::sync::Arc;

use futures::future::BoxFuture;
use hyper::Method;
use infera_ledger::Scope;

use super::absent;
use crate::access::Work;
use crate::api::chat_request::Form;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::reply::Reply;
use crate::memory::SMALL_MAX_BYTES;
use crate::routes::node_groups::Doing;
use crate::routes::{
    Blocking, Call, account, accounts, chat, documents, erasures, health, job_batches, job_events, job_lists,
    jobs, keys, mapping, models, node_groups, nodes, ping, points, signup, statistics, submit, usage, worker,
};
use crate::state::State;

/// The callers that a route admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anyone.
    Open,
    /// Anyone, counted by address.
    SignUp,
    /// Anyone without a key, such as nodes with a secret, counted by address.
    Node,
    /// Callers whose key has the scope `user`, counted by that key.
    Key,
    /// Callers whose key has the scope `node`, on routes for nodes' owners, whose bodies are short.
    Runner,
    /// Callers whose key has the scope `admin`, counted by that key.
    Admin,
}

impl Access {
    /// Returns the scope that a caller's key must have; none if the route asks for no key.
    #[must_use]
    pub(super) const fn scope(self) -> Option<Scope> {
        match self {
            Self::Open | Self::SignUp | Self::Node => None,
            Self::Key => Some(Scope::User),
            Self::Runner => Some(Scope::Node),
            Self::Admin => Some(Scope::Admin),
        }
    }
}

/// The path under which requests outside the table are counted.
const UNMATCHED: &str = "unmatched";

/// The function that does a route's work.
pub(crate) type Handler = fn(Arc<State>, Call) -> BoxFuture<'static, Result<Reply, Failure>>;

/// One line of the table.
#[derive(Debug)]
pub(super) struct Route {
    /// The method.
    pub(super) method: Method,
    /// The path, whose variable part stands in braces.
    pub(super) path: &'static str,
    /// The callers that the route admits.
    pub(crate) access: Access,
    /// The function that does the route's work.
    pub(crate) handler: Handler,
}

const fn route(method: Method, path: &'static str, access: Access, handler: Handler) -> Route {
    Route { method, path, access, handler }
}

impl Route {
    /// Returns what the route asks of the network. What posts a conversation or jobs is a request; managing keys and
    /// cancelling are looks.
    #[must_use]
    pub(super) fn work(&self) -> Work {
        let is_request = self.access == Access::Key
            && self.method == Method::POST
            && !self.path.starts_with(KEYS)
            && !self.path.starts_with(ACCOUNT)
            && !self.path.starts_with(NODE_GROUPS)
            && !self.path.ends_with("/cancel");
        match self.path {
            FOLLOW => Work::Follow,
            _ if is_request => Work::Request,
            _ => Work::Look,
        }
    }

    /// Returns the largest body that the route takes, in bytes. Only conversations and lists of jobs' ids are long; routes
    /// that need no key, or read no body, get little.
    #[must_use]
    pub(super) fn body_max_bytes(&self, conversation_max_bytes: usize) -> usize {
        if self.work() == Work::Request || self.path == CANCEL {
            conversation_max_bytes
        } else {
            conversation_max_bytes.min(SMALL_MAX_BYTES)
        }
    }
}

/// The path whose reply goes on until a job's end.
const FOLLOW: &str = "/v1/jobs/{id}/events";

/// The path that takes a thousand ids of jobs, which are some 40 kB.
const CANCEL: &str = "/v1/jobs/cancel";

/// The beginning of the paths that manage keys. Their bodies are short, and they are no work for the network.
const KEYS: &str = "/v1/keys";

/// The beginning of the paths of the caller's account, which are no work for the network either.
const ACCOUNT: &str = "/v1/account";

/// The beginning of the paths that manage groups of nodes, of which the same holds.
const NODE_GROUPS: &str = "/v1/node-groups";

static ROUTES: [Route; 61] = [
    // The network's own face.
    route(Method::POST, "/chat/completions", Access::Key, |s, call| {
        Box::pin(async move { chat::chat(&s.jobs, &s.conversations, &s.limits, call, Form::Chat).await })
    }),
    route(Method::POST, "/submit_job", Access::Key, |s, call| {
        Box::pin(async move { submit::submit(&s.jobs, &s.conversations, &s.limits, call).await })
    }),
    route(Method::GET, "/network_stats", Access::Key, |s, _| {
        Box::pin(async move { statistics::network(&s.counts).await })
    }),
    route(Method::POST, "/signup_user", Access::SignUp, |s, call| {
        Box::pin(async move { signup::signup(&*s.accounts, s.post.as_ref(), call).await })
    }),
    route(Method::GET, "/worker/ping", Access::Open, |_, _| Box::pin(async move { ping::ping() })),
    route(Method::POST, "/register_node_secret", Access::Node, |s, call| {
        Box::pin(async move { nodes::register(&s.nodes, &s.keys, call).await })
    }),
    route(Method::POST, "/check_node_secret", Access::Node, |s, call| {
        Box::pin(async move { nodes::admit(&s.nodes, &s.jobs.catalogue, call).await })
    }),
    // The network's own face, for nodes' owners.
    route(Method::POST, "/worker/register_node", Access::Runner, |s, call| {
        Box::pin(async move { worker::register(&s.runners, call).await })
    }),
    route(Method::POST, "/worker/deregister_node", Access::Runner, |s, call| {
        Box::pin(async move { worker::deregister(&s.runners, call).await })
    }),
    route(Method::POST, "/worker/update_models", Access::Runner, |s, call| {
        Box::pin(async move { worker::update_models(&s.runners, &s.jobs.catalogue, call).await })
    }),
    route(Method::POST, "/worker/update_result", Access::Node, |_, call| {
        Box::pin(async move { worker::update_result(&call) })
    }),
    route(Method::POST, "/daily_points", Access::Runner, |s, call| {
        Box::pin(async move { points::daily(&s.runners, call).await })
    }),
    route(Method::GET, "/node_points/{id}", Access::Runner, |s, call| {
        Box::pin(async move { points::of_node(&s.runners, call).await })
    }),
    route(Method::POST, "/node_jobs_stats", Access::Runner, |s, call| {
        Box::pin(async move { points::jobs(&s.runners, call).await })
    }),
    route(Method::GET, "/node_model_mapping", Access::Node, |s, call| {
        Box::pin(async move { mapping::show(&s.node_models, call).await })
    }),
    // OpenAI's face.
    route(Method::POST, "/v1/chat/completions", Access::Key, |s, call| {
        Box::pin(async move { chat::chat(&s.jobs, &s.conversations, &s.limits, call, Form::OpenAi).await })
    }),
    route(Method::GET, "/v1/models", Access::Key, |s, _| {
        Box::pin(async move { models::list(&s.jobs.catalogue, &s.jobs.capacity, &s.model_terms()) })
    }),
    route(Method::GET, "/v1/models/{model}", Access::Key, |s, call| {
        Box::pin(async move { models::show(&s.jobs.catalogue, &s.jobs.capacity, &s.model_terms(), &call) })
    }),
    route(Method::POST, "/v1/jobs", Access::Key, |s, call| {
        Box::pin(async move { job_batches::submit(&s.jobs, &s.conversations, &s.limits, call).await })
    }),
    route(Method::GET, "/v1/jobs", Access::Key, |s, call| {
        Box::pin(async move { job_lists::list(&s.jobs, call).await })
    }),
    route(Method::GET, "/v1/jobs/results", Access::Key, |s, call| {
        Box::pin(async move { job_lists::results(&s.jobs, &s.memory, call).await })
    }),
    route(Method::POST, "/v1/jobs/cancel", Access::Key, |s, call| {
        Box::pin(async move { job_batches::cancel(&s.jobs, &s.limits, call).await })
    }),
    route(Method::GET, "/v1/jobs/{id}", Access::Key, |s, call| {
        Box::pin(async move { jobs::show(&s.jobs, call).await })
    }),
    route(Method::DELETE, "/v1/jobs/{id}", Access::Key, |s, call| {
        Box::pin(async move { jobs::cancel(&s.jobs, &s.limits, call).await })
    }),
    route(Method::GET, FOLLOW, Access::Key, |s, call| {
        Box::pin(async move { job_events::events(&s.jobs, &s.stop, call).await })
    }),
    // The text of jobs.
    route(Method::GET, "/v1/jobs/{id}/data", Access::Key, |s, call| {
        Box::pin(async move { erasures::show_job(&*s.erasures, &call).await })
    }),
    route(Method::DELETE, "/v1/jobs/{id}/data", Access::Key, |s, call| {
        Box::pin(async move { erasures::erase_job(&*s.erasures, &call).await })
    }),
    route(Method::GET, "/v1/account/data", Access::Key, |s, call| {
        Box::pin(async move { erasures::show_account(&*s.erasures, &call).await })
    }),
    route(Method::DELETE, "/v1/account/data", Access::Key, |s, call| {
        Box::pin(async move { erasures::erase_account(&*s.erasures, &call).await })
    }),
    // Accounts' keys.
    route(Method::GET, "/v1/keys", Access::Key, |s, call| {
        Box::pin(async move { keys::list(&*s.key_book, &call).await })
    }),
    route(Method::POST, "/v1/keys", Access::Key, |s, call| {
        Box::pin(async move { keys::create(&*s.key_book, &call, s.config.retention_days_max).await })
    }),
    route(Method::GET, "/v1/keys/{id}", Access::Key, |s, call| {
        Box::pin(async move { keys::show(&*s.key_book, &call).await })
    }),
    route(Method::PATCH, "/v1/keys/{id}", Access::Key, |s, call| {
        Box::pin(
            async move { keys::change((&*s.key_book, &s.keys), &call, s.config.retention_days_max).await },
        )
    }),
    route(Method::DELETE, "/v1/keys/{id}", Access::Key, |s, call| {
        Box::pin(async move { keys::end(&*s.key_book, &s.keys, &call).await })
    }),
    route(Method::POST, "/v1/keys/{id}/rotate", Access::Key, |s, call| {
        Box::pin(async move { keys::rotate(&*s.key_book, &s.keys, &call).await })
    }),
    route(Method::GET, "/v1/keys/{id}/nodes", Access::Key, |s, call| {
        Box::pin(async move { node_groups::of_key(&*s.jobs.groups, &*s.key_book, &call).await })
    }),
    route(Method::POST, "/v1/keys/{id}/nodes", Access::Key, |s, call| {
        Box::pin(async move { node_groups::set_key(&*s.jobs.groups, &*s.key_book, &s.keys, &call).await })
    }),
    route(Method::POST, "/v1/keys/{id}/block", Access::Admin, |s, call| {
        Box::pin(async move { keys::block(&*s.key_book, &s.keys, &call, Blocking::Begin).await })
    }),
    route(Method::POST, "/v1/keys/{id}/unblock", Access::Admin, |s, call| {
        Box::pin(async move { keys::block(&*s.key_book, &s.keys, &call, Blocking::End).await })
    }),
    route(Method::POST, "/v1/accounts/{id}/block", Access::Admin, |s, call| {
        Box::pin(async move { accounts::block(&*s.key_book, &s.keys, &call, Blocking::Begin).await })
    }),
    route(Method::POST, "/v1/accounts/{id}/unblock", Access::Admin, |s, call| {
        Box::pin(async move { accounts::block(&*s.key_book, &s.keys, &call, Blocking::End).await })
    }),
    // The caller's account, and what mail does for it.
    route(Method::GET, "/v1/account", Access::Key, |s, call| {
        Box::pin(async move { account::show(s.post.as_ref(), &call).await })
    }),
    route(Method::POST, "/v1/account/address", Access::Key, |s, call| {
        Box::pin(async move { account::ask_for_proof(s.post.as_ref(), &call).await })
    }),
    route(Method::POST, "/v1/account/proof", Access::SignUp, |s, call| {
        Box::pin(async move { account::prove(s.post.as_ref(), &s.keys, &call).await })
    }),
    route(Method::GET, "/v1/account/proof", Access::Open, |s, call| {
        Box::pin(async move { account::page(s.post.as_ref(), &call) })
    }),
    route(Method::POST, "/v1/account/recovery", Access::SignUp, |s, call| {
        Box::pin(async move { account::ask_for_recovery(s.post.as_ref(), &call).await })
    }),
    route(Method::POST, "/v1/account/recovery/key", Access::SignUp, |s, call| {
        Box::pin(async move { account::recover(s.post.as_ref(), &s.keys, &call).await })
    }),
    route(Method::GET, "/v1/usage", Access::Key, |s, call| {
        Box::pin(async move { usage::show(&*s.key_book, &s.config.currency, &call).await })
    }),
    // Groups of nodes.
    route(Method::GET, "/v1/node-groups", Access::Runner, |s, call| {
        Box::pin(async move { node_groups::list(&*s.jobs.groups, &call).await })
    }),
    route(Method::POST, "/v1/node-groups", Access::Key, |s, call| {
        Box::pin(async move { node_groups::create(&*s.jobs.groups, &call).await })
    }),
    route(Method::GET, "/v1/node-groups/{id}", Access::Runner, |s, call| {
        Box::pin(async move { node_groups::show(&*s.jobs.groups, &call).await })
    }),
    route(Method::DELETE, "/v1/node-groups/{id}", Access::Key, |s, call| {
        Box::pin(async move { node_groups::delete(&*s.jobs.groups, &call).await })
    }),
    route(Method::POST, "/v1/node-groups/{id}/add_node", Access::Runner, |s, call| {
        Box::pin(async move { node_groups::change(&*s.jobs.groups, &call, Doing::AddNode).await })
    }),
    route(Method::POST, "/v1/node-groups/{id}/remove_node", Access::Runner, |s, call| {
        Box::pin(async move { node_groups::change(&*s.jobs.groups, &call, Doing::RemoveNode).await })
    }),
    route(Method::POST, "/v1/node-groups/{id}/allow_account", Access::Key, |s, call| {
        Box::pin(async move { node_groups::change(&*s.jobs.groups, &call, Doing::Allow).await })
    }),
    route(Method::POST, "/v1/node-groups/{id}/disallow_account", Access::Key, |s, call| {
        Box::pin(async move { node_groups::change(&*s.jobs.groups, &call, Doing::Disallow).await })
    }),
    // For operators.
    route(Method::GET, "/healthz", Access::Open, |_, _| Box::pin(async move { health::alive() })),
    route(Method::GET, "/readyz", Access::Open, |s, _| {
        Box::pin(async move { health::ready(&s.probe, &s.jobs.catalogue, &s.jobs.capacity).await })
    }),
    // The description of this API.
    route(Method::GET, "/", Access::Open, |s, call| {
        Box::pin(async move { documents::welcome(&s.documents, &call) })
    }),
    route(Method::GET, "/docs", Access::Open, |s, _| {
        Box::pin(async move { Ok(documents::docs(&s.documents)) })
    }),
    route(Method::GET, "/openapi.json", Access::Open, |s, _| {
        Box::pin(async move { Ok(documents::openapi(&s.documents)) })
    }),
];

/// Returns all routes.
pub(super) fn routes() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter()
}

/// Returns the route of a path, and the variable part at the path's end, if it has one.
///
/// # Errors
/// [`ApiError::NoRoute`], [`ApiError::NoEndpoint`], [`ApiError::MethodNotAllowed`].
pub(super) fn find(method: &Method, path: &str) -> Result<(&'static Route, String), ApiError> {
    // HEAD is GET without the body, which hyper leaves out.
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let mut allowed = Vec::new();
    let is_whole = ROUTES.iter().any(|route| route.path == path);
    for route in &ROUTES {
        // A path that stands in the table is no variable of another.
        if let Some(id) = matches(route.path, path).filter(|_| !is_whole || route.path == path) {
            if route.method == wanted {
                return Ok((route, id.to_owned()));
            }
            allowed.push(route.method.as_str());
        }
    }
    Err(match allowed[..] {
        [] => absent::error(path),
        ["POST"] => ApiError::MethodNotAllowed("POST"),
        ["GET"] => ApiError::MethodNotAllowed("GET, HEAD"),
        ["POST", "GET"] | ["GET", "POST"] => ApiError::MethodNotAllowed("GET, HEAD, POST"),
        ["GET", "PATCH", "DELETE"] => ApiError::MethodNotAllowed("GET, HEAD, PATCH, DELETE"),
        _ => ApiError::MethodNotAllowed("GET, HEAD, DELETE"),
    })
}

/// Returns each path of the table once, and the name under which all others are counted.
pub(crate) fn templates() -> impl Iterator<Item = &'static str> {
    let first = |index: &usize| !ROUTES.iter().take(*index).any(|route| route.path == ROUTES[*index].path);
    let paths = (0..ROUTES.len()).filter(first).map(|index| ROUTES[index].path);
    paths.chain([UNMATCHED])
}

/// Returns the path of the table that a request's path matches. It is used for counting, where the paths themselves
/// would have no bound.
#[must_use]
pub(super) fn template(path: &str) -> &'static str {
    let found = ROUTES.iter().find(|route| matches(route.path, path).is_some());
    found.map_or(UNMATCHED, |route| route.path)
}

/// Returns whether a reply on this path may show how long it took. On the paths where nodes show a secret and get a
/// signed token, that time would help to find out the secret or the key; where strangers name addresses, whose they are.
#[must_use]
pub(super) fn is_timed(path: &str) -> bool {
    !ROUTES.iter().any(|route| route.path == path && matches!(route.access, Access::Node | Access::SignUp))
}

/// Returns the part of a path that matches the variable end of a pattern, or an empty text for a pattern without one.
/// Returns none if the path doesn't match. `{id}` matches one segment; `{model}` matches all the rest, because
/// models' names may have slashes.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let between = |(before, after): (&str, &str)| {
        path.strip_prefix(before)?.strip_suffix(after).filter(|part| !part.is_empty())
    };
    if let Some(around) = pattern.split_once("{id}") {
        between(around).filter(|id| !id.contains('/'))
    } else if let Some(around) = pattern.split_once("{model}") {
        between(around)
    } else {
        (pattern == path).then_some("")
    }
}

#[cfg(test)]
#[path = "router/tests.rs"]
mod tests;
