//! Which paths are found, and under which template they are counted.

use super::*;

#[test]
fn whatever_is_asked_for_is_counted_under_a_known_template() {
    let templates: Vec<&str> = templates().collect();
    let distinct: std::collections::BTreeSet<&str> = templates.iter().copied().collect();
    assert_eq!(distinct.len(), templates.len(), "a template twice");
    for (path, expected) in [
        ("/v1/jobs/job_1", "/v1/jobs/{id}"),
        ("/submit_job", "/submit_job"),
        ("/node_points/http%3A%2F%2F192.0.2.1%2F", "/node_points/{id}"),
        ("/node_points/http://192.0.2.1/", "unmatched"),
        ("/v1/jobs/", "unmatched"),
        ("/v1/jobs", "/v1/jobs"),
        ("/v1/jobs/results", "/v1/jobs/results"),
        ("/v1/jobs/cancel", "/v1/jobs/cancel"),
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
    for (method, path) in [
        (Method::POST, "/v1/jobs"),
        (Method::GET, "/v1/jobs"),
        (Method::GET, "/v1/jobs/results"),
        (Method::POST, "/v1/jobs/cancel"),
    ] {
        assert_eq!(found(method, path), Ok((path, String::new())));
    }
    for (path, allowed) in
        [("/v1/jobs", "GET, HEAD, POST"), ("/v1/jobs/results", "GET, HEAD"), ("/v1/jobs/cancel", "POST")]
    {
        assert_eq!(found(Method::DELETE, path), Err(ApiError::MethodNotAllowed(allowed)), "{path}");
    }
    assert_eq!(found(Method::GET, "/v1/models/a/b"), Ok(("/v1/models/{model}", "a/b".to_owned())));
    for path in
        ["//", "", "/v1/jobs/", "/v1/models/", "/v1/jobs/a/b", "/healthz/", "//healthz", "/%68ealthz", "*"]
    {
        assert_eq!(found(Method::GET, path), Err(ApiError::NoRoute), "{path}");
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
