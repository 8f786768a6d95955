//! RabbitMQ's list of connections, read over the HTTP API of its management plugin.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};

use infera_broker::connections::{Connection, Connections, ConnectionsError};
use infera_types::causes::causes;
use infera_types::secret::Secret;
use infera_types::time::Timestamp;

/// How long an answer may take. Usually it takes milliseconds; under a flood of connections it takes seconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// The most bytes of an answer. A connection takes some 200 bytes, so this is more than a broker can hold.
const ANSWER_MAX_BYTES: usize = 32 * 1024 * 1024;

/// How to reach the management plugin.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `http(s)://user:password@host:15672`, of a user with the tag `administrator`. It is hidden because of the
    /// password. Empty: connections are not checked, and revoked nodes stay connected until they hang up.
    pub url: Secret,
    /// With `https://`: a PEM file of CAs to trust in addition to the system's. None: the system's alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// The configuration cannot be used; the operator has to mend it. The URL is never quoted, because it holds a
/// password.
#[derive(Debug, thiserror::Error)]
#[error("management.{0}")]
pub struct ConfigError(String);

/// The management API of one RabbitMQ cluster.
#[derive(Debug)]
pub struct ManagementApi {
    client: Client,
    base: Url,
    user: String,
    password: Secret,
}

/// A connection as the API lists it. One that is still being opened has no user yet.
#[derive(Deserialize)]
struct Listed {
    name: String,
    user: Option<String>,
    peer_host: Option<String>,
    connected_at: Option<u64>,
}

impl ManagementApi {
    /// Makes the client of the configured API; none without a URL. The API is contacted when it is first used.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(config: &Config) -> Result<Option<Arc<Self>>, ConfigError> {
        if config.url.expose().is_empty() {
            return Ok(None);
        }
        let form = || ConfigError("url isn't of the form http(s)://user:password@host:port".to_owned());
        let mut base: Url = config.url.expose().parse().map_err(|_| form())?;
        let user = percent_decoded(base.username()).ok_or_else(form)?;
        let password = percent_decoded(base.password().unwrap_or_default()).ok_or_else(form)?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() || user.is_empty() {
            return Err(form());
        }
        // The password must not appear in an error's text.
        base.set_username("").and_then(|()| base.set_password(None)).map_err(|()| form())?;
        let trusted = infera_tls::client_of_http(config.ca_file.as_deref(), base.scheme() == "https");
        let client = Client::builder()
            .timeout(ANSWERS_WITHIN)
            .no_proxy()
            .tls_backend_preconfigured(trusted.map_err(|error| ConfigError(error.to_string()))?)
            .build()
            .map_err(|error| ConfigError(format!("url: no client for HTTP: {error}")))?;
        Ok(Some(Arc::new(Self { client, base, user, password: Secret::new(password) })))
    }

    async fn ask(
        &self,
        method: Method,
        segments: &[&str],
        reason: &str,
    ) -> Result<Response, ConnectionsError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| ConnectionsError::Refused("management.url has no path".to_owned()))?
            .pop_if_empty()
            .extend(segments);
        if method == Method::GET {
            url.set_query(Some("columns=name,user,peer_host,connected_at"));
        }
        let request = self.client.request(method, url).basic_auth(&self.user, Some(self.password.expose()));
        let answer = request.header("X-Reason", reason).send().await;
        let answer = answer.map_err(|error| ConnectionsError::Away(causes(&error)))?;
        match answer.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(answer),
            status if status.is_server_error() => {
                Err(ConnectionsError::Away(format!("the API answers {status}")))
            }
            status => Err(ConnectionsError::Refused(format!("the API answers {status}"))),
        }
    }
}

#[async_trait]
impl Connections for ManagementApi {
    async fn list(&self) -> Result<Vec<Connection>, ConnectionsError> {
        let away = |error: reqwest::Error| ConnectionsError::Away(causes(&error));
        let mut answer = self.ask(Method::GET, &["api", "connections"], "").await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Err(ConnectionsError::Refused("there is no /api/connections".to_owned()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(away)? {
            if body.len() + chunk.len() > ANSWER_MAX_BYTES {
                return Err(ConnectionsError::Away(format!(
                    "the list of connections has more than {ANSWER_MAX_BYTES} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        let listed: Vec<Listed> = serde_json::from_slice(&body).map_err(|error| {
            ConnectionsError::Refused(format!("the list of connections cannot be parsed: {error}"))
        })?;
        if listed.is_empty() {
            return Err(ConnectionsError::Unlisted);
        }
        Ok(listed.into_iter().filter_map(connection).collect())
    }

    async fn close(&self, name: &str, reason: &str) -> Result<(), ConnectionsError> {
        self.ask(Method::DELETE, &["api", "connections", name], reason).await.map(|_| ())
    }
}

/// Converts a listed connection; none before it has logged in. A RabbitMQ that collects no metrics for its management
/// (which a coming release will not by default) reports neither address nor beginning, but its name for a connection
/// begins with the address.
fn connection(listed: Listed) -> Option<Connection> {
    let told = listed.peer_host.and_then(|host| host.parse::<IpAddr>().ok());
    Some(Connection {
        peer: told.or_else(|| peer_in(&listed.name)),
        name: listed.name,
        user: listed.user?,
        since: Timestamp::from_millis(listed.connected_at.unwrap_or(0)),
    })
}

/// Returns the address in a name such as `203.0.113.9:41260 -> 10.0.0.9:5672`.
fn peer_in(name: &str) -> Option<IpAddr> {
    let (peer, _) = name.split_once(" -> ")?;
    peer.parse::<SocketAddr>().ok().map(|address| address.ip())
}

/// Decodes a part of a URL; none if the result is not text.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = match after.split_at_checked(2) {
            Some((digits, after)) if first == b'%' => {
                bytes.push(hex::decode(digits).ok()?.first().copied()?);
                after
            }
            _ => {
                bytes.push(first);
                after
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists as of RabbitMQ 4.0.5, with and without `management_metrics_collection`.
    #[test]
    fn an_address_is_known_whatever_the_broker_collects() {
        for (listed, peer, since_ms) in [
            (r#"{"connected_at":7,"name":"x","peer_host":"127.0.0.1","user":"n"}"#, Some("127.0.0.1"), 7),
            (r#"{"name":"127.0.0.1:38260 -> 127.0.0.1:6223","user":"n"}"#, Some("127.0.0.1"), 0),
            (r#"{"name":"[fd00::1]:38260 -> [fd00::2]:5672","user":"n"}"#, Some("fd00::1"), 0),
            (r#"{"name":"a client's own name","user":"n"}"#, None, 0),
        ] {
            let read = connection(serde_json::from_str(listed).unwrap()).unwrap();
            let expected = (peer.map(|peer| peer.parse().unwrap()), Timestamp::from_millis(since_ms));
            assert_eq!((read.peer, read.since), expected, "{listed}");
        }
    }

    #[test]
    fn configurations_are_used_or_refused_without_the_password() {
        let open = |url: &str, ca_file: Option<&str>| {
            let config = Config { url: Secret::new(url), ca_file: ca_file.map(PathBuf::from) };
            ManagementApi::open(&config)
                .map(|api| api.map(|api| (api.user.clone(), api.password.expose().to_owned())))
        };
        assert_eq!(open("", None).unwrap(), None);
        let decoded = Some(("u".to_owned(), "p@:/".to_owned()));
        assert_eq!(open("http://u:p%40%3A%2f@127.0.0.1:15672", None).unwrap(), decoded);
        for (url, ca_file) in [
            ("127.0.0.1", None),
            ("amqp://u:hunter2@h", None),
            ("http://h:1", None),
            ("https://u:hunter2@h", Some("/nowhere")),
        ] {
            let error = open(url, ca_file).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && error.starts_with("management."), "{error}");
        }
    }
}
