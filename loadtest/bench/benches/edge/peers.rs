//! The other gateways, as `infra/bench_edge.sh` installs them: each is a process that forwards to the mock.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use infera_bench::client::Ask;
use infera_bench::fixtures::{MODEL, body};
use infera_bench::process::{Process, free_address};
use infera_bench::{Fault, root};
use serde_json::json;
use tempfile::TempDir;

use crate::settings::Settings;

/// What every gateway's clients send as their key. LiteLLM refuses short ones.
const KEY: &str = "sk-bench-edge-5b1f0c9e7d3a48f2a6e4c8b7d9013f52";
/// The program of each gateway, in the folder that it is installed in.
const ONWARDS: &str = "onwards/bin/onwards";
const PORTKEY: &str = "portkey/node_modules/@portkey-ai/gateway/build/start-server.js";
const LITELLM: &str = "litellm/bin/litellm";
/// Makes Node's servers listen on loopback only. Portkey has no setting for it.
const LOOPBACK: &str = "loadtest/bench/benches/edge/loopback.cjs";

/// One other gateway.
pub(crate) struct Peer {
    /// Its name, as it is shown.
    pub(crate) name: &'static str,
    /// A chat through it to the mock.
    pub(crate) chat: Ask,
    /// How long it is asked before it is measured.
    pub(crate) warm_up: Duration,
    process: Process,
}

impl Peer {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// The mock, and the gateways before it.
pub(crate) struct Peers {
    /// The same chat to the mock itself.
    pub(crate) direct: Ask,
    /// onwards, which is also a Rust program that checks a key and counts limits.
    pub(crate) onwards: Option<Peer>,
    /// The gateways in JavaScript and Python.
    pub(crate) others: Vec<Peer>,
    /// What was left out, and why.
    pub(crate) missing: Vec<String>,
    /// The gateways' settings.
    _folder: TempDir,
}

impl Peers {
    /// Starts the gateways that are installed.
    pub(crate) async fn start(settings: &Settings, mock: SocketAddr) -> Result<Self, Fault> {
        let (folder, pace) = (settings.scratch()?, settings.pace());
        let starts: [(&'static str, &str, Duration, Start); 3] = [
            ("onwards", ONWARDS, pace.warm_up, onwards),
            ("Portkey", PORTKEY, pace.slow_warm_up, portkey),
            ("LiteLLM", LITELLM, pace.slow_warm_up, litellm),
        ];
        let (mut peers, mut missing) = (Vec::new(), Vec::new());
        for (name, program, warm_up, start) in starts {
            let (program, address) = (settings.peers().join(program), free_address()?);
            if !program.exists() {
                missing.push(left_out(name));
                continue;
            }
            let command = start(&Stage { program: &program, folder: folder.path(), address, mock })?;
            let process = Process::spawn(command, name, settings.logs())?;
            let mut peer = Peer { name, chat: chat(address, mock), warm_up, process };
            peer.process.wait_until(async || Ok(peer.chat.once().await.is_ok())).await?;
            peers.push(peer);
        }
        let onwards = peers.extract_if(.., |peer| peer.name == "onwards").next();
        Ok(Self { direct: chat(mock, mock), onwards, others: peers, missing, _folder: folder })
    }

    /// Returns all gateways.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Peer> {
        self.onwards.iter().chain(&self.others)
    }
}

fn left_out(name: &str) -> String {
    format!(
        "{name} is not installed, so its rows are missing: infra/bench_edge.sh (not quick) installs it and says \
         what went wrong."
    )
}

/// Makes a chat that any of the gateways forwards; Portkey is told by headers where to.
fn chat(address: SocketAddr, mock: SocketAddr) -> Ask {
    let headers = [
        ("authorization", format!("Bearer {KEY}")),
        ("x-portkey-provider", "openai".to_owned()),
        ("x-portkey-custom-host", format!("http://{mock}/v1")),
    ];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    Ask::request(address, "POST /v1/chat/completions", &headers, &body("max_tokens"))
        .expecting(200, "\"chat.completion\"")
}

/// Makes the command that starts a gateway, and writes its settings.
type Start = fn(&Stage<'_>) -> Result<Command, Fault>;

/// What a gateway's start needs.
struct Stage<'a> {
    program: &'a Path,
    folder: &'a Path,
    address: SocketAddr,
    mock: SocketAddr,
}

/// It checks the key and counts both of its limits, none of which is reached. Its pool keeps more connections than
/// are ever in use. Metrics can't be turned off.
fn onwards(stage: &Stage<'_>) -> Result<Command, Fault> {
    let target = json!({
        "url": format!("http://{}", stage.mock),
        "onwards_key": KEY,
        "onwards_model": MODEL,
        "rate_limit": { "requests_per_second": 1_000_000, "burst_size": 1_000_000 },
        "concurrency_limit": { "max_concurrent_requests": 10_000 },
    });
    let config = json!({
        "targets": { MODEL: target },
        "auth": { "global_keys": [KEY] },
        "http_pool": { "max_idle_per_host": 1000, "idle_timeout_secs": 90 },
    });
    let path = stage.folder.join("onwards.json");
    std::fs::write(&path, config.to_string())?;
    let mut command = Command::new(stage.program);
    command.arg("--targets").arg(path).args(["--port", &stage.address.port().to_string()]);
    command.args(["--metrics-port", &free_address()?.port().to_string()]).env("RUST_LOG", "warn");
    Ok(command)
}

fn portkey(stage: &Stage<'_>) -> Result<Command, Fault> {
    let mut command = Command::new("node");
    command.arg("--require").arg(root().join(LOOPBACK)).arg(stage.program);
    command.args(["--headless", &format!("--port={}", stage.address.port())]);
    Ok(command)
}

/// One worker, which asks nothing of the internet and tries nothing twice. The settings are JSON, which is YAML too.
fn litellm(stage: &Stage<'_>) -> Result<Command, Fault> {
    let parameters = json!({
        "model": format!("openai/{MODEL}"), "api_base": format!("http://{}/v1", stage.mock), "api_key": KEY,
    });
    let config = json!({
        "model_list": [{ "model_name": MODEL, "litellm_params": parameters }],
        "general_settings": { "master_key": KEY },
        "litellm_settings": { "telemetry": false, "num_retries": 0 },
    });
    let path = stage.folder.join("litellm.yaml");
    std::fs::write(&path, config.to_string())?;
    let mut command = Command::new(stage.program);
    command.arg("--config").arg(path).args(["--telemetry", "False", "--host", "127.0.0.1"]);
    command.args(["--port", &stage.address.port().to_string()]);
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LITELLM_LOG", "ERROR");
    Ok(command)
}
