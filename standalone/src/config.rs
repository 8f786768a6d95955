//! The settings of one `infera up`: where its folders are, how many built-in nodes run, and each role's own settings.

use std::path::PathBuf;

use infera_engine_onnx::config::EngineConfig;
use infera_mail::MailConfig;
use infera_program::listen::ListenAddress;
use serde::{Deserialize, Serialize};

/// The whole configuration of `infera up`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder for everything durable.
    pub data: PathBuf,
    /// The folder of fetched models, each in a folder of its own name. It lies where `make` puts models, outside of `data`,
    /// because several data folders may share it.
    pub models: PathBuf,
    /// The address on which the gateway listens. Loopback by default, because the key for local use opens it: an
    /// operator who exposes it to a network puts TLS in front.
    pub listen: ListenAddress,
    /// Microseconds that a token of the model takes on the reference machine: what the time for an answer is reckoned by, and points
    /// are scaled by. Without it, what is known of the model, or what the bytes of its weights come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_token_us: Option<u64>,
    /// The built-in nodes.
    pub nodes: NodesConfig,
    /// The engine of the built-in nodes; each has its own instance.
    pub engine: EngineConfig,
    /// The gateway's settings.
    pub gateway: infera_gateway::Config,
    /// The verifier's settings.
    pub verifier: infera_verifier::Config,
    /// The settings of the nodes' workers.
    pub worker: infera_worker::Config,
    /// The settings of mail. Without them none is sent.
    pub mail: MailConfig,
    /// The settings of logs.
    pub log: infera_telemetry::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            models: PathBuf::from(".runtime/models"),
            listen: ListenAddress::from(([127, 0, 0, 1], 8710)),
            // Each model has its own; a constant would be taken for whichever is served.
            reference_token_us: None,
            nodes: NodesConfig::default(),
            engine: EngineConfig::default(),
            gateway: infera_gateway::Config::default(),
            verifier: infera_verifier::Config::default(),
            worker: infera_worker::Config::default(),
            mail: MailConfig::default(),
            log: infera_telemetry::Config::default(),
        }
    }
}

/// The nodes that this process runs itself, each under an owner of its own.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodesConfig {
    /// The number of nodes. Three make a replica group; more show how groups are drawn.
    pub count: u32,
}

impl Default for NodesConfig {
    fn default() -> Self {
        Self { count: 3 }
    }
}
