//! Every path, on one screen. A new route is one file under `routes/` and one line here.

use futures::future::BoxFuture;
use hyper::Method;

use crate::accept::Failure;
use crate::error::{ApiError, Face};
use crate::layers::Call;
use crate::reply::Reply;
use crate::routes::{chat, health, jobs, models, ping, signup, statistics, submit};

/// Who may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// Anybody, counted by address.
    SignUp,
    /// Whoever has a key, counted by it.
    Key,
}

/// A route's work.
pub type Handler = fn(Call) -> BoxFuture<'static, Result<Reply, Failure>>;

/// One line of the table.
#[derive(Debug)]
pub struct Route {
    method: Method,
    path: &'static str,
    /// Who may come.
    pub access: Access,
    /// What is done.
    pub handler: Handler,
}

const fn route(method: Method, path: &'static str, access: Access, handler: Handler) -> Route {
    Route { method, path, access, handler }
}

static ROUTES: [Route; 11] = [
    // The network's own face.
    route(Method::POST, "/chat/completions", Access::Key, |call| Box::pin(chat::seed(call))),
    route(Method::POST, "/submit_job", Access::Key, |call| Box::pin(submit::submit(call))),
    route(Method::GET, "/network_stats", Access::Key, |call| Box::pin(statistics::network(call))),
    route(Method::POST, "/signup_user", Access::SignUp, |call| Box::pin(signup::signup(call))),
    route(Method::GET, "/worker/ping", Access::Open, |call| Box::pin(ping::ping(call))),
    // OpenAI's face.
    route(Method::POST, "/v1/chat/completions", Access::Key, |call| Box::pin(chat::openai(call))),
    route(Method::GET, "/v1/models", Access::Key, |call| Box::pin(models::list(call))),
    route(Method::GET, "/v1/jobs/{id}", Access::Key, |call| Box::pin(jobs::show(call))),
    route(Method::DELETE, "/v1/jobs/{id}", Access::Key, |call| Box::pin(jobs::cancel(call))),
    // For whoever runs us.
    route(Method::GET, "/healthz", Access::Open, |call| Box::pin(health::alive(call))),
    route(Method::GET, "/readyz", Access::Open, |call| Box::pin(health::ready(call))),
];

/// The route, and what stands for `{id}` in its path.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::MethodNotAllowed`].
pub fn find(method: &Method, path: &str) -> Result<(&'static Route, String), ApiError> {
    let mut allowed = Vec::new();
    for route in &ROUTES {
        if let Some(id) = matches(route.path, path) {
            if route.method == method {
                return Ok((route, id.to_owned()));
            }
            allowed.push(route.method.as_str());
        }
    }
    Err(match allowed[..] {
        [] => ApiError::NotFound,
        ["POST"] => ApiError::MethodNotAllowed("POST"),
        ["GET"] => ApiError::MethodNotAllowed("GET"),
        _ => ApiError::MethodNotAllowed("GET, DELETE"),
    })
}

/// What stands for `{id}`, or nothing for a pattern without it; none if the path is another one.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    match pattern.strip_suffix("{id}") {
        None => (pattern == path).then_some(""),
        Some(before) => path.strip_prefix(before).filter(|id| !id.is_empty() && !id.contains('/')),
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
    fn paths_are_found_or_not() {
        let found = |method: Method, path: &str| find(&method, path).map(|(route, id)| (route.path, id));
        assert_eq!(found(Method::GET, "/v1/jobs/job_1"), Ok(("/v1/jobs/{id}", "job_1".to_owned())));
        for path in ["/", "", "/v1/jobs/", "/v1/jobs/a/b", "/healthz/", "//healthz", "/%68ealthz", "*"] {
            assert_eq!(found(Method::GET, path), Err(ApiError::NotFound), "{path}");
        }
        assert_eq!(found(Method::PUT, "/submit_job"), Err(ApiError::MethodNotAllowed("POST")));
        assert_eq!(found(Method::OPTIONS, "/healthz"), Err(ApiError::MethodNotAllowed("GET")));
        assert_eq!(found(Method::POST, "/v1/jobs/x"), Err(ApiError::MethodNotAllowed("GET, DELETE")));
    }
}
