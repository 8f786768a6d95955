//! What one `infera up` can be told: where its folders are, how many built-in nodes run, and each role's own settings.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The whole configuration of `infera up`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Everything durable lies here.
    pub data: PathBuf,
    /// Where the gateway listens. Loopback, because the key for local use opens it: an operator who opens it to a
    /// network puts TLS in front.
    pub listen: SocketAddr,
    /// Built-in nodes.
    pub nodes: NodesConfig,
    /// The engine that they run.
    pub engine: EngineConfig,
    /// HTTP in.
    pub gateway: infera_gateway::Config,
    /// Answers judged.
    pub verifier: infera_verifier::Config,
    /// Assignments answered.
    pub worker: infera_worker::Config,
    /// Logs.
    pub log: infera_core::telemetry::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 8710)),
            nodes: NodesConfig::default(),
            engine: EngineConfig::default(),
            gateway: infera_gateway::Config::default(),
            verifier: infera_verifier::Config::default(),
            worker: infera_worker::Config::default(),
            log: infera_core::telemetry::Config::default(),
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

/// Which engine the built-in nodes run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// `onnx`: the model in `folder`. `stub`: no model at all, to price everything else.
    pub kind: EngineKind,
    /// The model's folder, as the Hub lays it out. The folder's name is the model's name.
    pub folder: PathBuf,
    /// Which ONNX file of the folder: `model`, or `q4` for `model_q4.onnx` and the like.
    pub variant: String,
    /// ONNX Runtime's shared library.
    pub library: PathBuf,
    /// `cpu` or `cuda`; never another than the one asked for.
    pub device: infera_core::engine::onnx::Device,
    /// Threads within one engine. One: three nodes share this machine's cores, and the bundled model is too small to
    /// be worth splitting.
    pub threads: usize,
    /// Sequences that one engine holds at once.
    pub sequences_max: usize,
    /// What the GPU is, where its driver doesn't say; part of the numeric class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_model: Option<String>,
    /// Microseconds that a token takes on the reference machine: what points for this model are scaled by.
    pub reference_token_us: u64,
    /// How the stub behaves.
    pub stub: infera_core::engine::stub::StubConfig,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            kind: EngineKind::Onnx,
            folder: PathBuf::from("models/infera-tiny"),
            variant: "model".to_owned(),
            library: PathBuf::from(LIBRARY),
            device: infera_core::engine::onnx::Device::Cpu,
            threads: 1,
            // As many as the worker's slots, the largest batch that the engine's properties are tried at.
            sequences_max: 16,
            gpu_model: None,
            // One step of infera-tiny at batch 1 on one thread, as `make bench` measured it (0.149 ms, 2026-11-22).
            reference_token_us: 150,
            stub: infera_core::engine::stub::StubConfig::default(),
        }
    }
}

/// Where `make setup` puts the library.
#[cfg(target_os = "macos")]
const LIBRARY: &str = ".runtime/onnxruntime/libonnxruntime.1.31.1.dylib";
/// Where `make setup` puts the library.
#[cfg(not(target_os = "macos"))]
const LIBRARY: &str = ".runtime/onnxruntime/libonnxruntime.so.1.31.1";

/// Kinds of engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// A real model on ONNX Runtime.
    Onnx,
    /// Canned tokens after a fixed service time.
    Stub,
}
