//! Every path, on one screen. A new route is one file under `routes/` and one line here.

use futures::future::BoxFuture;
use hyper::Method;

use crate::accept::Failure;
use crate::error::{ApiError, Face};
use crate::layers::Call;
use crate::memory::SMALL_MAX_BYTES;
use crate::reply::Reply;
use crate::routes::{chat, health, jobs, models, nodes, ping, signup, statistics, submit};

/// Says which callers a route admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Everybody, counted by address.
    SignUp,
    /// Nodes, which have a secret instead of a key, counted by address.
    Node,
    /// Those that have a key, counted by it.
    Key,
}

/// What requests for no path of the table are counted as.
const UNMATCHED: &str = "unmatched";

/// A route's work.
pub type Handler = fn(Call) -> BoxFuture<'static, Result<Reply, Failure>>;

/// One line of the table.
#[derive(Debug)]
pub struct Route {
    method: Method,
    path: &'static str,
    /// The callers that the route admits.
    pub access: Access,
    /// What is done.
    pub handler: Handler,
}

const fn route(method: Method, path: &'static str, access: Access, handler: Handler) -> Route {
    Route { method, path, access, handler }
}

impl Route {
    /// The largest body that it takes. Only conversations are long; what needs no key, or reads no body, gets little.
    #[must_use]
    pub fn body_max_bytes(&self, conversation_max_bytes: usize) -> usize {
        let is_conversation = self.access == Access::Key && self.method == Method::POST;
        if is_conversation { conversation_max_bytes } else { conversation_max_bytes.min(SMALL_MAX_BYTES) }
    }
}

static ROUTES: [Route; 14] = [
    // The network's own face.
    route(Method::POST, "/chat/completions", Access::Key, |call| Box::pin(chat::seed(call))),
    route(Method::POST, "/submit_job", Access::Key, |call| Box::pin(submit::submit(call))),
    route(Method::GET, "/network_stats", Access::Key, |call| Box::pin(statistics::network(call))),
    route(Method::POST, "/signup_user", Access::SignUp, |call| Box::pin(signup::signup(call))),
    route(Method::GET, "/worker/ping", Access::Open, |call| Box::pin(ping::ping(call))),
    route(Method::POST, "/register_node_secret", Access::Node, |call| Box::pin(nodes::register(call))),
    route(Method::POST, "/check_node_secret", Access::Node, |call| Box::pin(nodes::admit(call))),
    // OpenAI's face.
    route(Method::POST, "/v1/chat/completions", Access::Key, |call| Box::pin(chat::openai(call))),
    route(Method::GET, "/v1/models", Access::Key, |call| Box::pin(models::list(call))),
    route(Method::GET, "/v1/models/{model}", Access::Key, |call| Box::pin(models::show(call))),
    route(Method::GET, "/v1/jobs/{id}", Access::Key, |call| Box::pin(jobs::show(call))),
    route(Method::DELETE, "/v1/jobs/{id}", Access::Key, |call| Box::pin(jobs::cancel(call))),
    // For whoever runs us.
    route(Method::GET, "/healthz", Access::Open, |call| Box::pin(health::alive(call))),
    route(Method::GET, "/readyz", Access::Open, |call| Box::pin(health::ready(call))),
];

/// The route, and what stands for the variable end of its path, if it has one.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::MethodNotAllowed`].
pub fn find(method: &Method, path: &str) -> Result<(&'static Route, String), ApiError> {
    // HEAD is GET without the body, which hyper leaves out.
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let mut allowed = Vec::new();
    for route in &ROUTES {
        if let Some(id) = matches(route.path, path) {
            if route.method == wanted {
                return Ok((route, id.to_owned()));
            }
            allowed.push(route.method.as_str());
        }
    }
    Err(match allowed[..] {
        [] => ApiError::NotFound,
        ["POST"] => ApiError::MethodNotAllowed("POST"),
        ["GET"] => ApiError::MethodNotAllowed("GET, HEAD"),
        _ => ApiError::MethodNotAllowed("GET, HEAD, DELETE"),
    })
}

/// Every path once, as the table has it, and what all others are counted as.
pub fn templates() -> impl Iterator<Item = &'static str> {
    let first = |index: &usize| !ROUTES.iter().take(*index).any(|route| route.path == ROUTES[*index].path);
    let paths = (0..ROUTES.len()).filter(first).map(|index| ROUTES[index].path);
    paths.chain([UNMATCHED])
}

/// The table's path that a request's path fits: for counting, where the path itself would have no bound.
#[must_use]
pub fn template(path: &str) -> &'static str {
    let found = ROUTES.iter().find(|route| matches(route.path, path).is_some());
    found.map_or(UNMATCHED, |route| route.path)
}

/// Whether a reply on this path may say how long it took. On the paths where nodes show a secret and get a token signed, it
/// would help to find out the secret or the key.
#[must_use]
pub fn is_timed(path: &str) -> bool {
    !ROUTES.iter().any(|route| route.path == path && route.access == Access::Node)
}

/// What stands for the variable end of a pattern, as it is in the path, or nothing for a pattern without one; none if the path
/// is another one. `{id}` is one segment; `{model}` is all the rest, because models' names may have slashes.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let after = |end: &str| path.strip_prefix(pattern.strip_suffix(end)?).filter(|rest| !rest.is_empty());
    match () {
        () if pattern.ends_with("{id}") => after("{id}").filter(|id| !id.contains('/')),
        () if pattern.ends_with("{model}") => after("{model}"),
        () => (pattern == path).then_some(""),
    }
}

/// Which shape a path speaks, known or not.
#[must_use]
pub fn face(path: &str) -> Face {
    if path.starts_with("/v1/") { Face::OpenAi } else { Face::Seed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_for_is_counted_under_a_known_template() {
        let templates: Vec<&str> = templates().collect();
        let distinct: std::collections::BTreeSet<&str> = templates.iter().copied().collect();
        assert_eq!(distinct.len(), templates.len(), "a template twice");
        for (path, expected) in [
            ("/v1/jobs/job_1", "/v1/jobs/{id}"),
            ("/submit_job", "/submit_job"),
            ("/v1/jobs/", "unmatched"),
            ("/v1/models", "/v1/models"),
            ("/v1/models/a%2Fb", "/v1/models/{model}"),
            ("/v1/models/a/b", "/v1/models/{model}"),
            ("/v1/models/", "unmatched"),
            ("/etc/passwd", "unmatched"),
        ] {
            assert_eq!(template(path), expected);
            assert!(templates.contains(&expected), "{expected}");
        }
    }

    #[test]
    fn paths_are_found_or_not() {
        let found = |method: Method, path: &str| find(&method, path).map(|(route, id)| (route.path, id));
        assert_eq!(found(Method::GET, "/v1/jobs/job_1"), Ok(("/v1/jobs/{id}", "job_1".to_owned())));
        assert_eq!(found(Method::GET, "/v1/models/a/b"), Ok(("/v1/models/{model}", "a/b".to_owned())));
        for path in
            ["/", "", "/v1/jobs/", "/v1/models/", "/v1/jobs/a/b", "/healthz/", "//healthz", "/%68ealthz", "*"]
        {
            assert_eq!(found(Method::GET, path), Err(ApiError::NotFound), "{path}");
        }
        assert_eq!(found(Method::PUT, "/submit_job"), Err(ApiError::MethodNotAllowed("POST")));
        assert_eq!(found(Method::HEAD, "/submit_job"), Err(ApiError::MethodNotAllowed("POST")));
        assert_eq!(found(Method::OPTIONS, "/healthz"), Err(ApiError::MethodNotAllowed("GET, HEAD")));
        assert_eq!(found(Method::POST, "/v1/jobs/x"), Err(ApiError::MethodNotAllowed("GET, HEAD, DELETE")));
        for route in ROUTES.iter().filter(|route| route.method == Method::GET) {
            let path = route.path.replace("{id}", "job_1");
            assert_eq!(found(Method::HEAD, &path), found(Method::GET, &path), "{path}");
        }
    }
}
