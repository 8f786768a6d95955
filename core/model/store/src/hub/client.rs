//! HTTP to one endpoint: GET alone, redirects followed within bounds, the token kept to the endpoint's own origin.

use std::fmt;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, IF_RANGE, LOCATION, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use infera_types::causes::causes;
use tokio::time::timeout;
use url::Url;

use super::answers::Place;
use super::endpoint::{Endpoint, EndpointError};
use crate::names::shown;
use crate::source::{SourceError, Waits};

/// The redirects of one request. The Hub needs two: a renamed repository, and the network that sends large files.
const REDIRECTS_MAX: usize = 5;

/// A file from one of its bytes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranged<'a> {
    pub(super) from: u64,
    pub(super) tag: Option<&'a str>,
}

/// A client of one endpoint.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    endpoint: Url,
    token: Option<HeaderValue>,
    pub(super) waits: Waits,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("endpoint", &self.endpoint.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(endpoint: &Endpoint, waits: Waits) -> Result<Self, EndpointError> {
        let is_tls = endpoint.url.scheme() == "https";
        let trusted = infera_tls::client_of_http(None, is_tls);
        let trusted =
            trusted.map_err(|error| EndpointError::Client(format!("{}: {error}", endpoint.address())))?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(waits.answer));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trusted)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
        let bearer = |token: &infera_types::secret::Secret| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose().trim()))
                .map_err(|_| EndpointError::Token)?;
            value.set_sensitive(true);
            Ok::<_, EndpointError>(value)
        };
        let token = endpoint.token.as_ref().map(bearer).transpose()?;
        Ok(Self { http, endpoint: endpoint.url.clone(), token, waits })
    }

    /// Returns the address of these words behind the endpoint's; each word is one part of the path.
    pub(super) fn url<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        // An endpoint has a host, so it has a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(words);
        }
        url
    }

    /// Returns whether the token may be sent to `url`: only to the endpoint's own scheme, host and port.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    /// Asks, follows redirects, and returns the first answer that is none.
    pub(super) async fn get(
        &self,
        url: Url,
        range: Option<Ranged<'_>>,
        place: &Place,
    ) -> Result<Response<Incoming>, SourceError> {
        let mut url = url;
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.get_once(&url, range).await?;
            match answer.status() {
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                    url = redirected(&url, location).map_err(|problem| place.refused(problem))?;
                }
                _ => return Ok(answer),
            }
        }
        Err(place.refused(format!("it redirects more than {REDIRECTS_MAX} times; check HF_ENDPOINT")))
    }

    async fn get_once(
        &self,
        url: &Url,
        range: Option<Ranged<'_>>,
    ) -> Result<Response<Incoming>, SourceError> {
        let host = || url.host_str().unwrap_or_default().to_owned();
        let mut request = Request::get(url.as_str())
            .header(USER_AGENT, concat!("infera/", env!("CARGO_PKG_VERSION")))
            // Ranges are of the bytes as they are.
            .header(ACCEPT_ENCODING, "identity");
        if let Some(token) = self.token.as_ref().filter(|_| self.is_own(url)) {
            request = request.header(AUTHORIZATION, token);
        }
        if let Some(Ranged { from, tag }) = range {
            request = request.header(RANGE, format!("bytes={from}-"));
            if let Some(tag) = tag {
                request = request.header(IF_RANGE, tag);
            }
        }
        let request = request
            .body(Empty::new())
            .map_err(|error| SourceError::Refused { place: host(), said: error.to_string() })?;
        let answered = timeout(self.waits.answer, self.http.request(request)).await;
        let answered = answered.map_err(|_| {
            SourceError::away(format!("{} gave no answer in {} s", host(), self.waits.answer.as_secs_f32()))
        })?;
        answered.map_err(|error| SourceError::away(format!("{}: {}", host(), causes(&error))))
    }
}

/// Returns where a redirect leads, if it may be followed.
fn redirected(from: &Url, location: Option<&str>) -> Result<Url, String> {
    let location = location.ok_or("it redirects to nowhere")?;
    let to = from
        .join(location)
        .map_err(|_| format!("it redirects to {:?}, which is no address", shown(location)))?;
    let may = matches!((from.scheme(), to.scheme()), (_, "https") | ("http", "http"));
    if !may || !to.has_host() || !to.username().is_empty() || to.password().is_some() {
        return Err(format!("it redirects to {:?}, which isn't followed", shown(location)));
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use infera_types::secret::Secret;

    use super::*;

    #[test]
    fn redirects_keep_tls_and_the_token_keeps_to_its_origin() {
        let from: Url = "https://hub.example/a/b".parse().expect("an address");
        for (location, to) in [
            ("/c", "https://hub.example/c"),
            ("c", "https://hub.example/a/c"),
            ("//cdn.example/c", "https://cdn.example/c"),
            ("https://cdn.example/c?x=%2F", "https://cdn.example/c?x=%2F"),
        ] {
            assert_eq!(redirected(&from, Some(location)).expect("may").as_str(), to);
        }
        for evil in
            ["http://hub.example/c", "file:///etc/passwd", "https://u:p@cdn.example/", "http://127.0.0.1/"]
        {
            assert!(redirected(&from, Some(evil)).is_err(), "{evil}");
        }
        assert!(redirected(&from, None).is_err());
        let plain: Url = "http://127.0.0.1:1/".parse().expect("an address");
        assert!(
            redirected(&plain, Some("https://x/")).is_ok() && redirected(&plain, Some("http://x/")).is_ok()
        );

        let endpoint =
            Endpoint::new(Some("http://127.0.0.1:1/hf"), Some(Secret::new("hf_x"))).expect("sound");
        let client = Client::new(&endpoint, Waits::default()).expect("a client");
        assert_eq!(
            client.url(["o", "m", "resolve", "refs/pr/1", "a b"]).as_str(),
            "http://127.0.0.1:1/hf/o/m/resolve/refs%2Fpr%2F1/a%20b"
        );
        for (url, own) in [
            ("http://127.0.0.1:1/x", true),
            ("http://127.0.0.1:2/x", false),
            ("https://127.0.0.1:1/x", false),
            ("http://localhost:1/x", false),
        ] {
            assert_eq!(client.is_own(&url.parse().expect("an address")), own, "{url}");
        }
        assert!(!format!("{client:?}{endpoint:?}").contains("hf_x"));
    }
}
