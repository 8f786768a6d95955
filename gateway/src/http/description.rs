//! Makes the description of the API, an OpenAPI 3.1 document, from the table of paths (`router`), the tables by which
//! bodies are checked, the table of error codes, and what each route says of itself. A test fails for a route that isn't
//! listed in [`OPERATIONS`].

use hyper::Method;
use serde_json::{Map, Value, json};

use super::router::{self, Access, Route};
use crate::access::Work;
use crate::api::codes::{self, ErrorCode};
use crate::api::face::{Face, face};
use crate::api::operation::{
    Accepted, CLIENT_REQUEST_ID, Content, Group, Operation, Parameter, RequestBody, Shape,
};
use crate::api::schema::Schemas;
use crate::api::shapes;
use crate::config::Config;
use crate::routes::{
    account, accounts, chat, documents, erasures, health, job_batches, job_events, job_lists, jobs, keys,
    mapping, models, node_groups, nodes, ping, points, signup, statistics, submit, usage, worker,
};

/// The description of each route, in the order in which they are shown.
pub(super) static OPERATIONS: &[(Method, &str, &Operation)] = &[
    // OpenAI's face.
    (Method::POST, "/v1/chat/completions", &chat::OPENAI),
    (Method::GET, "/v1/models", &models::LIST),
    (Method::GET, "/v1/models/{model}", &models::SHOW),
    (Method::POST, "/v1/jobs", &job_batches::SUBMIT),
    (Method::GET, "/v1/jobs", &job_lists::LIST),
    (Method::GET, "/v1/jobs/results", &job_lists::RESULTS),
    (Method::POST, "/v1/jobs/cancel", &job_batches::CANCEL),
    (Method::GET, "/v1/jobs/{id}", &jobs::SHOW),
    (Method::DELETE, "/v1/jobs/{id}", &jobs::CANCEL),
    (Method::GET, "/v1/jobs/{id}/events", &job_events::EVENTS),
    (Method::GET, "/v1/jobs/{id}/data", &erasures::SHOW_JOB),
    (Method::DELETE, "/v1/jobs/{id}/data", &erasures::ERASE_JOB),
    (Method::GET, "/v1/account/data", &erasures::SHOW_ACCOUNT),
    (Method::DELETE, "/v1/account/data", &erasures::ERASE_ACCOUNT),
    // Accounts' keys.
    (Method::POST, "/v1/keys", &keys::CREATE),
    (Method::GET, "/v1/keys", &keys::LIST),
    (Method::GET, "/v1/keys/{id}", &keys::SHOW),
    (Method::PATCH, "/v1/keys/{id}", &keys::CHANGE),
    (Method::DELETE, "/v1/keys/{id}", &keys::END),
    (Method::POST, "/v1/keys/{id}/rotate", &keys::ROTATE),
    (Method::GET, "/v1/keys/{id}/nodes", &node_groups::KEY),
    (Method::POST, "/v1/keys/{id}/nodes", &node_groups::SET_KEY),
    (Method::POST, "/v1/keys/{id}/block", &keys::BLOCK),
    (Method::POST, "/v1/keys/{id}/unblock", &keys::UNBLOCK),
    (Method::POST, "/v1/accounts/{id}/block", &accounts::BLOCK),
    (Method::POST, "/v1/accounts/{id}/unblock", &accounts::UNBLOCK),
    (Method::GET, "/v1/account", &account::SHOW),
    (Method::POST, "/v1/account/address", &account::ADDRESS),
    (Method::POST, "/v1/account/proof", &account::PROVE),
    (Method::GET, "/v1/account/proof", &account::PAGE),
    (Method::POST, "/v1/account/recovery", &account::RECOVER),
    (Method::POST, "/v1/account/recovery/key", &account::RECOVER_KEY),
    (Method::GET, "/v1/usage", &usage::SHOW),
    // The network's own face.
    (Method::POST, "/chat/completions", &chat::OWN),
    (Method::POST, "/submit_job", &submit::SUBMIT),
    (Method::GET, "/network_stats", &statistics::NETWORK),
    (Method::POST, "/signup_user", &signup::SIGNUP),
    (Method::GET, "/worker/ping", &ping::PING),
    (Method::POST, "/register_node_secret", &nodes::REGISTER),
    (Method::POST, "/check_node_secret", &nodes::CHECK),
    (Method::POST, "/worker/register_node", &worker::REGISTER),
    (Method::POST, "/worker/deregister_node", &worker::DEREGISTER),
    (Method::POST, "/worker/update_models", &worker::UPDATE_MODELS),
    (Method::POST, "/worker/update_result", &worker::UPDATE_RESULT),
    (Method::POST, "/daily_points", &points::DAILY_POINTS),
    (Method::GET, "/node_points/{id}", &points::OF_NODE),
    (Method::POST, "/node_jobs_stats", &points::JOBS),
    (Method::GET, "/node_model_mapping", &mapping::SHOW),
    (Method::POST, "/v1/node-groups", &node_groups::CREATE),
    (Method::GET, "/v1/node-groups", &node_groups::LIST),
    (Method::GET, "/v1/node-groups/{id}", &node_groups::SHOW),
    (Method::DELETE, "/v1/node-groups/{id}", &node_groups::DELETE),
    (Method::POST, "/v1/node-groups/{id}/add_node", &node_groups::ADD),
    (Method::POST, "/v1/node-groups/{id}/remove_node", &node_groups::REMOVE),
    (Method::POST, "/v1/node-groups/{id}/allow_account", &node_groups::ALLOW),
    (Method::POST, "/v1/node-groups/{id}/disallow_account", &node_groups::DISALLOW),
    // For operators.
    (Method::GET, "/healthz", &health::ALIVE),
    (Method::GET, "/readyz", &health::READY),
    // The description.
    (Method::GET, "/", &documents::WELCOME),
    (Method::GET, "/docs", &documents::DOCS),
    (Method::GET, "/openapi.json", &documents::OPENAPI),
];

/// Errors of every operation: what the layers refuse before a route sees the request.
const OF_ALL: [&str; 8] = [
    "bad_request",
    "headers_timeout",
    "body_timeout",
    "request_too_large",
    "encoding_not_supported",
    "wrong_host",
    "headers_too_large",
    "internal_error",
];
/// Errors of operations that take a body.
const OF_BODIES: [&str; 4] = ["invalid_json", "missing_field", "invalid_value", "overloaded"];

/// Errors of operations that need a key, whatever they ask for.
const OF_KEYS: [&str; 9] = [
    "connection_limit_exceeded",
    "missing_api_key",
    "invalid_api_key",
    "key_revoked",
    "key_expired",
    "key_blocked",
    "account_blocked",
    "insufficient_scope",
    "ledger_unavailable",
];

/// Returns the errors that follow from who is admitted.
fn of_access(route: &Route) -> impl Iterator<Item = &'static &'static str> {
    let (of_keys, own): (&[_], &[_]) = match (route.access, route.work()) {
        (Access::Open, _) => (&[], &["connection_limit_exceeded"]),
        (Access::SignUp, _) => {
            (&[], &["connection_limit_exceeded", "signup_limit_exceeded", "ledger_unavailable"])
        }
        (Access::Node, _) => {
            (&[], &["connection_limit_exceeded", "node_limit_exceeded", "ledger_unavailable"])
        }
        (Access::Key | Access::Runner | Access::Admin, Work::Request) => {
            (&OF_KEYS, &["rate_limit_exceeded", "token_limit_exceeded", "concurrency_limit_exceeded"])
        }
        (Access::Key | Access::Runner | Access::Admin, Work::Follow) => {
            (&OF_KEYS, &["look_limit_exceeded", "concurrency_limit_exceeded"])
        }
        (Access::Key | Access::Runner | Access::Admin, Work::Look) => (&OF_KEYS, &["look_limit_exceeded"]),
    };
    of_keys.iter().chain(own)
}

/// Makes the document for a gateway with these settings.
pub(crate) fn openapi(config: &Config) -> Value {
    let mut schemas = Schemas::new(config);
    let mut paths = Map::new();
    for (method, path, operation) in OPERATIONS {
        // A test finds an operation without a route.
        let Some(route) = router::routes().find(|route| route.method == *method && route.path == *path)
        else {
            continue;
        };
        let described = describe(route, operation, config, &mut schemas);
        let verbs = paths.entry((*path).to_owned()).or_insert_with(|| json!({}));
        verbs[method.as_str().to_ascii_lowercase()] = described;
    }
    let groups = Group::ALL.map(|group| json!({ "name": group.name(), "description": group.about() }));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Infera",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "LLM inference on other people's machines, with every answer checked.",
            "description": about(config),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "The gateway that serves this document." }],
        "tags": groups,
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "The API key, as OpenAI's clients send it." },
                "api_key": { "type": "apiKey", "in": "header", "name": "api_key", "description": "The API key in the network's own header." },
            },
            "schemas": schemas.into_named(),
        },
    })
}

/// Returns what holds for the whole API, with the limits in figures.
fn about(config: &Config) -> String {
    let limit =
        |value: u64, of: &str| if value == 0 { format!("no limit of {of}") } else { format!("{value} {of}") };
    format!(
        "Requests become jobs. Nodes of three different owners answer each job, and their answers are compared before one is \
         returned.\n\n\
         **Limits of one key here:** {}, {}, {}, {}. **Limits of one account:** {}. Every reply to a request with a key has the \
         headers `x-ratelimit-*`, `RateLimit` and `RateLimit-Policy`; a refusal has `Retry-After` and `retry-after-ms`.\n\n\
         **Errors** have a code in the body and in the header `x-error-code`, and every reply has an `x-request-id`.",
        limit(config.requests_per_minute.into(), "requests per minute"),
        limit(config.tokens_per_minute, "tokens per minute"),
        limit(config.looks_per_minute.into(), "looks and cancels per minute"),
        limit(config.in_flight_max.into(), "requests at once"),
        limit(config.waiting_max.into(), "jobs that wait or run"),
    )
}

fn describe(route: &Route, operation: &Operation, config: &Config, schemas: &mut Schemas) -> Value {
    let mut parameters: Vec<Value> = operation.parameters.iter().map(|one| parameter(one, schemas)).collect();
    parameters.push(parameter(&CLIENT_REQUEST_ID, schemas));
    let mut described = json!({
        "operationId": operation.id,
        "tags": [operation.group.name()],
        "summary": operation.summary,
        "description": operation.about,
        "parameters": parameters,
        "responses": replies(route, operation, schemas),
        "security": match route.access {
            Access::Open | Access::SignUp | Access::Node => json!([]),
            Access::Key | Access::Runner | Access::Admin => json!([{ "bearer": [] }, { "api_key": [] }]),
        },
    });
    if let Some(RequestBody { shape, example, required }) = &operation.body {
        described["requestBody"] = json!({
            "required": required,
            "description": format!("At most {} bytes.", route.body_max_bytes(config.body_max_bytes)),
            "content": { "application/json": {
                "schema": schemas.of(*shape),
                "example": serde_json::from_str::<Value>(example).unwrap_or_default(),
            } },
        });
    }
    described
}

fn parameter(parameter: &Parameter, schemas: &mut Schemas) -> Value {
    let mut described = json!({
        "name": parameter.name,
        "in": parameter.place.word(),
        "required": parameter.place.is_required(),
        "description": parameter.about,
        "schema": schemas.of(parameter.shape),
        "example": parameter.example,
    });
    if matches!(parameter.shape, Shape::Pairs) {
        // Each pair is a parameter of its own, as `metadata[key]=value`.
        described["style"] = "deepObject".into();
        described["explode"] = true.into();
        described["schema"]["type"] = "object".into();
        described["schema"]["minProperties"] = 1.into();
        described["example"] = serde_json::from_str(parameter.example).unwrap_or_default();
    }
    described
}

fn replies(route: &Route, operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut replies = Map::new();
    let good = &operation.reply;
    if !matches!(good.content, Content::Never) {
        let contents = contents(&good.content, schemas);
        replies.insert(good.status.to_string(), good_reply(good.about, good.names_job, contents));
    }
    if matches!(good.content, Content::Events) {
        let about = "Nothing comes after the event that `Last-Event-ID` names.";
        replies.insert("204".to_owned(), good_reply(about, false, Map::new()));
    }
    if let Some(Accepted { about, shape }) = &good.accepted {
        let contents = contents(&Content::Json(*shape), schemas);
        replies.insert("202".to_owned(), good_reply(about, good.names_job, contents));
    }
    for (status, codes) in by_status(route, operation) {
        replies.insert(status.to_string(), error(face(route.path), status, &codes, schemas));
    }
    if let Some(meaning) = good.unready {
        // An unready gateway shows the same content, and this is the operation's only 503.
        let mut unready = replies.get(&good.status.to_string()).cloned().unwrap_or_default();
        unready["description"] = meaning.into();
        replies.insert("503".to_owned(), unready);
    }
    Value::Object(replies)
}

/// Returns the contents of a good reply by their types.
fn contents(content: &Content, schemas: &mut Schemas) -> Map<String, Value> {
    const JSON: &str = "application/json";
    let text = || json!({ "schema": { "type": "string" } });
    // The shape of each event, as readers of server-sent events take it apart.
    let event = || json!({ "schema": { "type": "object", "required": ["data"], "properties": { "data": { "type": "string" } } } });
    let named_event = || {
        let text = json!({ "type": "string" });
        let kinds = json!({ "type": "string", "enum": ["status", "text", "end", "error"] });
        let properties = json!({ "id": text, "event": kinds, "data": text });
        json!({ "schema": { "type": "object", "required": ["id", "event", "data"], "properties": properties } })
    };
    let mut json_of = |shape: &Shape| (JSON, json!({ "schema": schemas.of(*shape) }));
    let all = match content {
        Content::Page => vec![("text/html", text())],
        Content::Json(shape) => vec![json_of(shape)],
        Content::JsonOrPage(shape) => vec![json_of(shape), ("text/html", text())],
        Content::JsonOrTable(shape) => vec![json_of(shape), ("text/csv", text())],
        Content::JsonOrEvents(shape) => vec![json_of(shape), ("text/event-stream", event())],
        Content::Events => vec![("text/event-stream", named_event())],
        Content::Lines => vec![("application/x-ndjson", text())],
        Content::Never => Vec::new(),
    };
    all.into_iter().map(|(kind, schema)| (kind.to_owned(), schema)).collect()
}

fn good_reply(about: &str, names_job: bool, contents: Map<String, Value>) -> Value {
    let mut headers =
        json!({ "x-request-id": header("The request's id, under which the gateway logs it.", true) });
    if names_job {
        // Several jobs have none that all of the reply is about.
        headers["x-job-id"] = header("The job's id, if the reply is about one.", false);
    }
    let mut reply = json!({ "description": about, "headers": headers, "content": contents });
    if names_job {
        let to = |operation: &Operation| json!({ "operationId": operation.id, "parameters": { "id": "$response.body#/job_id" } });
        reply["links"] = json!({ "job": to(&jobs::SHOW), "cancellation": to(&jobs::CANCEL) });
    }
    reply
}

/// Returns the codes of an operation's errors by their statuses, in ascending order.
fn by_status(
    route: &Route,
    operation: &Operation,
) -> std::collections::BTreeMap<u16, Vec<&'static ErrorCode>> {
    let of_body: &[&str] = if operation.body.is_some() { &OF_BODIES } else { &[] };
    let all = OF_ALL.iter().chain(of_access(route)).chain(of_body).chain(operation.errors);
    let mut by_status = std::collections::BTreeMap::<u16, Vec<&ErrorCode>>::new();
    // A test finds a code that the table lacks.
    for line in all.filter_map(|code| codes::of(code)) {
        for status in line.statuses(face(route.path)) {
            by_status.entry(status).or_default().push(line);
        }
    }
    by_status
}

fn error(face: Face, status: u16, codes: &[&ErrorCode], schemas: &mut Schemas) -> Value {
    let told = |line: &&ErrorCode| {
        let ErrorCode { code, remedy, fault, retry, .. } = line;
        format!("- `{code}`: {remedy} At fault: {}. Retry: {}.", fault.word(), retry.words())
    };
    let lines: Vec<String> = codes.iter().map(told).collect();
    let schema = match (face, status) {
        (Face::OpenAi, _) => schemas.of(Shape::Named(&shapes::ERROR)),
        (Face::Seed, 422) => json!({ "anyOf": [
            schemas.of(Shape::Named(&shapes::MISTAKES)),
            schemas.of(Shape::Named(&shapes::DETAIL)),
        ] }),
        (Face::Seed, _) => schemas.of(Shape::Named(&shapes::DETAIL)),
    };
    let mut headers = json!({
        "x-request-id": header("The request's id, under which the gateway logs it.", true),
        "x-error-code": header("The error's code.", true),
    });
    if matches!(status, 429 | 503) {
        headers["retry-after"] = header("Seconds after which a retry may help.", false);
        headers["retry-after-ms"] = header("The same in milliseconds.", false);
    }
    json!({
        "description": lines.join("\n"),
        "headers": headers,
        "content": { "application/json": { "schema": schema } },
    })
}

fn header(about: &str, required: bool) -> Value {
    json!({ "description": about, "required": required, "schema": { "type": "string" } })
}

#[cfg(test)]
#[path = "description/tests.rs"]
mod tests;
