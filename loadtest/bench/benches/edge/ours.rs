//! `infera up` as a process of the release build, with the stub engine and a data folder of its own.

use std::net::SocketAddr;
use std::process::Command;

use infera_bench::Fault;
use infera_bench::client::Ask;
use infera_bench::fixtures::body;
use infera_bench::process::{Process, free_address, generous, with_settings};
use tempfile::TempDir;

use crate::settings::Settings;

/// What `infera up` prints when its nodes can answer.
const READY: &str = "Infera is ready";

/// A running network, and the key for local use.
pub(crate) struct Ours {
    process: Process,
    address: SocketAddr,
    key: String,
    _data: TempDir,
}

impl Ours {
    /// Starts a network whose limits are checked and never reached, but for what `special` sets.
    pub(crate) async fn start(
        settings: &Settings,
        special: &[(&'static str, String)],
    ) -> Result<Self, Fault> {
        let (data, address) = (settings.scratch()?, free_address()?);
        let mut all = generous();
        all.extend([
            ("data", data.path().display().to_string()),
            ("listen", address.to_string()),
            ("engine.kind", "stub".to_owned()),
        ]);
        all.retain(|(name, _)| special.iter().all(|(other, _)| other != name));
        all.extend_from_slice(special);
        let mut command = with_settings(Command::new(settings.infera()), &all);
        command.arg("up");
        let name = format!("infera-{}", address.port());
        let log = settings.logs().join(format!("{name}.log"));
        let mut process = Process::spawn(command, &name, settings.logs())?;
        process.wait_until(async || Ok(std::fs::read_to_string(&log)?.contains(READY))).await?;
        let text = std::fs::read_to_string(data.path().join("local.env"))?;
        let key = text.lines().find_map(|line| line.strip_prefix("INFERA_API_KEY="));
        let key = key.ok_or("no key in local.env")?.to_owned();
        Ok(Self { process, address, key, _data: data })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Makes a chat that waits for its verified answer.
    pub(crate) fn chat(&self) -> Ask {
        self.chat_by(&self.key).expecting(200, "\"status\":\"verified\"")
    }

    /// Makes the same chat under another key.
    pub(crate) fn chat_by(&self, key: &str) -> Ask {
        Ask::post(self.address, "/v1/chat/completions", key, &body("max_tokens"), "")
    }

    /// Makes a request for the list of models, which needs a key and no job.
    pub(crate) fn models(&self) -> Ask {
        let key = format!("Bearer {}", self.key);
        Ask::request(self.address, "GET /v1/models", &[("authorization", &key)], "")
            .expecting(200, "\"list\"")
    }

    pub(crate) async fn end(self) -> Result<(), Fault> {
        self.process.end().await
    }
}
