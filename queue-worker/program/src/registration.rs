//! Registers a node at its gateway, which puts it on record, checks it, and tells it its token, its queue and where the
//! broker is. This file makes one visit; `membership` makes all later ones, and `readmitting` asks again when the queue is
//! gone. It knows no assignment.

mod answer;
pub mod membership;
pub mod readmitting;

use std::path::PathBuf;
use std::time::Duration;

use infera_types::causes::causes;
use infera_types::retry::Backoff;
use infera_types::secret::Secret;
use infera_types::shutdown::Shutdown;
use reqwest::{Client, Url, redirect};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

pub use answer::Admitted;
use answer::Heard;

/// A gateway answers within milliseconds; one that is cut off never does, and another may.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// No answer of a gateway is larger.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// Between two rounds of visits while no gateway answers: doubled from the first to the last, with up to as much again
/// drawn by chance, so that a fleet doesn't come back all at once.
const BACKOFF: Backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(30));

/// At start no gateway is waited for longer: then an operator should look.
const START_PATIENCE: Duration = Duration::from_secs(600);

/// The node's identity.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// What its runner calls it; no other runner's node may have the name.
    pub name: String,
    /// Proves that it is this node: sixteen random characters or more.
    pub secret: Secret,
    /// The key of the account that owns it. Needed once, to put the node on record; the account needs the scope `fleet`.
    pub api_key: Secret,
    /// A PEM file of certificates that gateways are trusted by, beside the system's. None: the system's alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// Why a node isn't let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// The runner's settings.
    #[error("{0}")]
    Settings(String),
    /// A gateway said no, and would say it again. The message is its own and says whose fault it is.
    #[error("{gateway} doesn't let node {name:?} in ({code}): {message}")]
    Refused {
        /// Which gateway.
        gateway: String,
        /// The node's name.
        name: String,
        /// The gateway's word for it.
        code: String,
        /// The gateway's sentence.
        message: String,
    },
    /// No gateway could let it in now; a retry may help.
    #[error("no gateway lets this node in: {0}")]
    Away(String),
}

/// Visits gateways.
#[derive(Debug)]
pub struct Registrar {
    client: Client,
    gateways: Vec<Url>,
    node: NodeConfig,
}

impl Registrar {
    /// Makes a registrar for `node` at the gateways of these URLs, tried in turn.
    ///
    /// # Errors
    /// [`RegistrationError::Settings`], all mistakes at once.
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
            // Visits are minutes apart: a connection kept would be found closed.
            .pool_max_idle_per_host(0)
            // A node that needs a proxy for this couldn't reach the broker either.
            .no_proxy()
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { client, gateways: urls, node })
    }

    /// Makes one round: the first gateway that lets the node in, or refuses it for good, decides. A gateway that never heard of
    /// the node puts it on record first, if there is a key to do it with.
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
                Heard::Done(admitted) => return Ok(admitted),
                Heard::No { code, message } => {
                    let (gateway, name) = (gateway.to_string(), self.node.name.clone());
                    return Err(RegistrationError::Refused { gateway, name, code, message });
                }
                Heard::NotNow(why) => away.push(format!("{gateway} {why}")),
            }
        }
        Err(RegistrationError::Away(away.join("; ")))
    }

    /// Makes rounds until the node is in. Returns `None` if the shutdown came first.
    ///
    /// # Errors
    /// [`RegistrationError`]; away only after ten minutes.
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
            // Its words name the URL, which has no secret in it, and the cause.
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
