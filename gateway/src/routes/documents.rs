//! `GET /`, `/docs` and `/openapi.json`: what this API is, for people and for programs. Everything is made at start and
//! served from memory; the pages load nothing from elsewhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{
    ACCEPT, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use infera_types::ids::Digest;
use serde_json::{Value, json};

use super::call::Call;
use crate::api::failure::Failure;
use crate::api::operation::{Content, GoodReply, Group, Operation, Shape, always, json as in_json};
use crate::api::reply::Reply;

const SCRIPT: &str = include_str!("documents/docs.js");
const STYLE: &str = include_str!("documents/style.css");

const WELCOME_SHAPE: Shape = Shape::Members(&[
    always("name", Shape::Text, "What this is."),
    always("about", Shape::Text, "What it does, in a sentence."),
    always("version", Shape::Text, "The gateway's version."),
    always("base_url", Shape::Text, "The path that OpenAI's clients take as their base URL."),
    always("docs", Shape::Text, "The path of the description for people."),
    always("openapi", Shape::Text, "The path of the description for programs."),
    always("readme", Shape::Text, "The file of the source that says how to begin."),
]);

/// `GET /`.
pub(crate) static WELCOME: Operation = Operation {
    id: "welcome",
    group: Group::Description,
    summary: "Say what this is",
    about: "A page for browsers, which accept `text/html`, and JSON for all others.",
    parameters: &[],
    body: None,
    reply: GoodReply { content: Content::JsonOrPage(WELCOME_SHAPE), ..in_json("What this is.", Shape::Any) },
    errors: &[],
};

/// `GET /docs`.
pub(crate) static DOCS: Operation = Operation {
    id: "docs",
    group: Group::Description,
    summary: "Show this description as a page",
    about: "A page that shows every operation with its parameters, its body and a request to copy.",
    parameters: &[],
    body: None,
    reply: GoodReply { content: Content::Page, ..in_json("The page.", Shape::Any) },
    errors: &[],
};

/// `GET /openapi.json`.
pub(crate) static OPENAPI: Operation = Operation {
    id: "openapi",
    group: Group::Description,
    summary: "Show this description as an OpenAPI document",
    about: "OpenAPI 3.1, made from the tables by which this gateway finds its routes and checks bodies.",
    parameters: &[],
    body: None,
    reply: in_json("The document.", Shape::Map(&Shape::Any)),
    errors: &[],
};

/// The pages and documents, as they are sent.
#[derive(Debug)]
pub(crate) struct Documents {
    openapi: Bytes,
    docs: Bytes,
    welcome_page: Bytes,
    welcome: Bytes,
    policy: HeaderValue,
}

impl Documents {
    /// Makes the documents around an OpenAPI document.
    pub(crate) fn new(openapi: &Value) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let welcome = json!({
            "name": "Infera",
            "about": "LLM inference on other people's machines, with every answer checked before it is returned.",
            "version": version,
            "base_url": "/v1",
            "docs": "/docs",
            "openapi": "/openapi.json",
            "readme": "README.md",
        });
        let page = |body: &str| {
            Bytes::from(format!(
                "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
                 <meta name=\"viewport\" content=\"width=device-width\">\n<title>Infera</title>\n\
                 <link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
            ))
        };
        Self {
            openapi: openapi.to_string().into(),
            docs: page(&format!("{}<script>{SCRIPT}</script>\n", include_str!("documents/docs.html"))),
            welcome_page: page(&include_str!("documents/welcome.html").replace("{version}", version)),
            welcome: welcome.to_string().into(),
            policy: policy(),
        }
    }

    fn page(&self, body: &Bytes) -> Reply {
        let mut reply = Reply::of(body.clone(), HeaderValue::from_static("text/html; charset=utf-8"));
        reply.headers.extend([
            (CONTENT_SECURITY_POLICY, self.policy.clone()),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ]);
        reply
    }
}

/// Returns the policy of the pages: their own script and style, named by their hashes, requests to this gateway, and
/// nothing else.
fn policy() -> HeaderValue {
    let hash = |text: &str| STANDARD.encode(Digest::of(text.as_bytes()).as_bytes());
    let text = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    // The text is ASCII; if it weren't, the pages would show without script and style.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// Says what this is.
///
/// # Errors
/// None.
pub(crate) fn welcome(documents: &Documents, call: &Call) -> Result<Reply, Failure> {
    let mut reply = if accepts_pages(&call.head.headers) {
        documents.page(&documents.welcome_page)
    } else {
        in_bytes(&documents.welcome)
    };
    reply.headers.push((VARY, HeaderValue::from_static("accept")));
    Ok(reply)
}

/// Shows the page of the description.
pub(crate) fn docs(documents: &Documents) -> Reply {
    documents.page(&documents.docs)
}

/// Shows the OpenAPI document.
pub(crate) fn openapi(documents: &Documents) -> Reply {
    in_bytes(&documents.openapi)
}

fn in_bytes(json: &Bytes) -> Reply {
    Reply::of(json.clone(), HeaderValue::from_static("application/json"))
}

/// Returns whether a client names `text/html` among what it accepts. Browsers do, and most programs don't.
fn accepts_pages(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|list| list.split(','))
        .any(|range| range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/html"))
}
