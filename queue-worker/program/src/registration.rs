//! Registers a node at a gateway, which records the node, checks its secret, and tells it its token, its queue and
//! the broker's address. This file makes one visit; `membership` makes all later ones, and `readmitting` visits again
//! when the queue is gone. It knows nothing of assignments.

mod answer;
pub mod membership;
pub mod readmitting;
mod removed;

use std::path::PathBuf;
use std::time::Duration;

use infera_types::causes::causes;
use infera_types::ids::Digest;
use infera_types::retry::Backoff;
use infera_types::secret::Secret;
use infera_types::shutdown::Shutdown;
use reqwest::{Client, Url, redirect};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

pub use answer::Admitted;
use answer::Heard;
use removed::Removed;

/// How long a gateway may take to answer. It answers within milliseconds, and one that is cut off never does, while
/// another gateway may.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The largest answer of a gateway, in bytes. A longer one is cut.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// The wait between two rounds of visits while no gateway answers. It doubles from the first time to the last, and up
/// to the same time is added at random, so that the nodes of a fleet don't all come back at once.
const BACKOFF: Backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(30));

/// How long a gateway is waited for at start. After that, an operator should look into it.
const START_PATIENCE: Duration = Duration::from_secs(600);

/// The identity of a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// The node's name, which its runner chooses. No other runner's node may have the same.
    pub name: String,
    /// The secret that proves the node's identity: at least sixteen random characters.
    pub secret: Secret,
    /// The API key of the account that owns the node. It is needed once, to register the node; the account needs the
    /// scope `fleet`.
    pub api_key: Secret,
    /// A PEM file of certificates that are trusted for gateways, in addition to the system's. Without it, only the
    /// system's are trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// The reason why a node isn't let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// The runner's settings can't be used.
    #[error("{0}")]
    Settings(String),
    /// A gateway refused the node, and would refuse it again. The message is the gateway's own and says whose fault
    /// it is.
    #[error("{gateway} doesn't let node {name:?} in ({code}): {message}")]
    Refused {
        /// The gateway's URL.
        gateway: String,
        /// The node's name.
        name: String,
        /// The gateway's code for the refusal.
        code: String,
        /// The gateway's sentence.
        message: String,
    },
    /// No gateway can let the node in now. A retry may help.
    #[error("no gateway lets this node in: {0}")]
    Away(String),
}

/// Visits gateways for a node.
#[derive(Debug)]
pub struct Registrar {
    client: Client,
    gateways: Vec<Url>,
    node: NodeConfig,
    removed: Removed,
}

impl Registrar {
    /// Makes a registrar for `node` at the gateways with these URLs, which are tried in turn.
    ///
    /// # Errors
    /// [`RegistrationError::Settings`] with all mistakes at once.
    pub fn new(gateways: &[String], node: NodeConfig) -> Result<Self, RegistrationError> {
        let mut mistakes = Vec::new();
        let mut urls = Vec::new();
        for gateway in gateways {
            match gateway.parse::<Url>() {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => urls.push(url),
                _ => mistakes.push(format!("gateway: {gateway:?} is no http(s) URL")),
            }
        }
        if gateways.is_empty() {
            mistakes.push("gateway: name at least one, such as [\"https://gateway.example\"]".to_owned());
        }
        if node.name.is_empty() {
            mistakes.push("node.name: give the node a name of its own".to_owned());
        }
        if node.secret.expose().chars().count() < 16 {
            mistakes.push(
                "node.secret: at least 16 random characters, such as of `openssl rand -hex 16`".to_owned(),
            );
        }
        let ca_file = node.ca_file.as_deref();
        mistakes.extend(infera_tls::mistake_in(ca_file).map(|mistake| format!("node.{mistake}")));
        if !mistakes.is_empty() {
            return Err(RegistrationError::Settings(mistakes.join("; ")));
        }
        let unusable =
            |problem: String| RegistrationError::Settings(format!("no client for HTTP: {problem}"));
        let is_tls = urls.iter().any(|url| url.scheme() == "https");
        let trusted =
            infera_tls::client_of_http(ca_file, is_tls).map_err(|error| unusable(error.to_string()))?;
        let client = Client::builder()
            .timeout(ANSWERS_WITHIN)
            .redirect(redirect::Policy::none())
            .tls_backend_preconfigured(trusted)
            // Visits are minutes apart, so a connection that was kept would have been closed.
            .pool_max_idle_per_host(0)
            // A node that needs a proxy to reach a gateway couldn't reach the broker either.
            .no_proxy()
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { client, gateways: urls, node, removed: Removed::default() })
    }

    /// Notes the digests of all models that the node serves now: if the network serves one no more, the log says so at the next
    /// visit.
    pub fn serves(&self, digests: impl IntoIterator<Item = Digest>) {
        self.removed.serves(digests);
    }

    /// Makes one round of visits. The first gateway that lets the node in, or refuses it for good, decides. A gateway
    /// that doesn't know the node registers it first, if there is an API key for that.
    ///
    /// # Errors
    /// [`RegistrationError`].
    pub async fn check_in(&self) -> Result<Admitted, RegistrationError> {
        let mut away = Vec::new();
        for gateway in &self.gateways {
            let mut heard = self.ask(gateway, "check_node_secret", None).await;
            if heard.is_unknown() && !self.node.api_key.expose().is_empty() {
                let key = Some(self.node.api_key.expose());
                heard = match self.ask(gateway, "register_node_secret", key).await {
                    Heard::Done(_) => {
                        tracing::info!(%gateway, name = self.node.name, "the node is on record");
                        self.ask(gateway, "check_node_secret", None).await
                    }
                    otherwise => otherwise,
                };
            }
            match heard.admission(Instant::now()) {
                Heard::Done(admitted) => {
                    self.removed.heard(&admitted.removed_models);
                    return Ok(admitted);
                }
                Heard::No { code, message } => {
                    let (gateway, name) = (gateway.to_string(), self.node.name.clone());
                    return Err(RegistrationError::Refused { gateway, name, code, message });
                }
                Heard::NotNow(why) => away.push(format!("{gateway} {why}")),
            }
        }
        Err(RegistrationError::Away(away.join("; ")))
    }

    /// Makes rounds until the node is let in. Returns none if `shutdown` came first.
    ///
    /// # Errors
    /// [`RegistrationError`]; [`RegistrationError::Away`] only after ten minutes.
    pub async fn until_admitted(&self, shutdown: &Shutdown) -> Result<Option<Admitted>, RegistrationError> {
        let began = Instant::now();
        let mut failures = 0;
        loop {
            let checked = tokio::select! {
                () = shutdown.cancelled() => return Ok(None),
                checked = self.check_in() => checked,
            };
            match checked {
                Err(RegistrationError::Away(why)) if began.elapsed() < START_PATIENCE => {
                    if failures == 0 {
                        tracing::warn!(why, "not let in yet; trying again");
                    }
                }
                checked => return checked.map(Some),
            }
            failures += 1;
            tokio::select! {
                () = shutdown.cancelled() => return Ok(None),
                () = tokio::time::sleep(BACKOFF.spread(failures)) => {}
            }
        }
    }

    async fn ask(&self, gateway: &Url, path: &str, api_key: Option<&str>) -> Heard<Vec<u8>> {
        let Ok(url) = gateway.join(path) else { return Heard::NotNow("has no such path".to_owned()) };
        let body = json!({ "node_id": self.node.name, "secret": self.node.secret.expose() }).to_string();
        let mut request = self.client.post(url).header("Content-Type", "application/json").body(body);
        if let Some(key) = api_key {
            request = request.header("api_key", key);
        }
        let answered = async {
            let mut response = request.send().await?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() > ANSWER_MAX_BYTES {
                    break;
                }
            }
            Ok::<_, reqwest::Error>((response.status().as_u16(), body))
        };
        match answered.await {
            Ok((status, body)) => answer::read(status, body),
            // The error's text has the URL, which contains no secret, and the cause.
            Err(error) => Heard::NotNow(format!("doesn't answer: {}", causes(&error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_all_at_once() {
        let node = NodeConfig {
            ca_file: Some("/nowhere".into()),
            secret: Secret::new("hunter2"),
            ..NodeConfig::default()
        };
        let error = Registrar::new(&["ftp://x".to_owned()], node).unwrap_err().to_string();
        for word in ["ftp://x", "node.name", "node.secret", "/nowhere"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
        let node = NodeConfig {
            name: "a".to_owned(),
            secret: Secret::new("0123456789abcdef"),
            ..NodeConfig::default()
        };
        assert!(Registrar::new(&[], node.clone()).unwrap_err().to_string().contains("at least one"));
        assert!(Registrar::new(&["http://127.0.0.1:1".to_owned()], node).is_ok());
    }

    #[test]
    fn waiting_grows_to_its_limit() {
        let all: Vec<u128> = (1..60).map(|failures| BACKOFF.spread(failures).as_millis()).collect();
        assert!((1_000..2_000).contains(&all[0]) && (4_000..8_000).contains(&all[2]), "{all:?}");
        assert!(all.iter().all(|wait| *wait < 60_000) && all[58] >= 30_000, "{all:?}");
    }
}
