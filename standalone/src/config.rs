//! What one `infera up` can be told: where its folders are, how many built-in nodes run, and each role's own settings.

use std::path::PathBuf;

use infera_engine_onnx::config::EngineConfig;
use infera_program::listen::ListenAddress;
use serde::{Deserialize, Serialize};

/// The whole configuration of `infera up`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Everything durable lies here.
    pub data: PathBuf,
    /// Where the gateway listens. Loopback, because the key for local use opens it: an operator who opens it to a
    /// network puts TLS in front.
    pub listen: ListenAddress,
    /// Microseconds that a token takes on the reference machine: what points for the model are scaled by.
    pub reference_token_us: u64,
    /// Built-in nodes.
    pub nodes: NodesConfig,
    /// The engine that they run, each its own.
    pub engine: EngineConfig,
    /// HTTP in.
    pub gateway: infera_gateway::Config,
    /// Answers judged.
    pub verifier: infera_verifier::Config,
    /// Assignments answered.
    pub worker: infera_worker::Config,
    /// Logs.
    pub log: infera_telemetry::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            listen: ListenAddress::from(([127, 0, 0, 1], 8710)),
            // One step of infera-tiny at batch 1 on one thread, as `make bench` measured it (0.149 ms, 2026-11-22).
            reference_token_us: 150,
            nodes: NodesConfig::default(),
            engine: EngineConfig::default(),
            gateway: infera_gateway::Config::default(),
            verifier: infera_verifier::Config::default(),
            worker: infera_worker::Config::default(),
            log: infera_telemetry::Config::default(),
        }
    }
}

/// The nodes that this process runs itself, each under an owner of its own.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodesConfig {
    /// How many. Three make a replica group; more show how groups are drawn.
    pub count: u32,
}

impl Default for NodesConfig {
    fn default() -> Self {
        Self { count: 3 }
    }
}
