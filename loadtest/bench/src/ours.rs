//! `infera up` as a process of the release build, with the stub engine and a data folder of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::Fault;
use crate::client::Ask;
use crate::fixtures::{body, streamed_body};
use crate::process::{Process, free_address, generous, with_settings};

/// What `infera up` prints when its nodes can answer.
const READY: &str = "Infera is ready";

/// Where a network's program is, its data folder is made, and its log goes.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The program.
    pub program: &'a Path,
    /// The folder in which the data folder is made, which is removed at the end.
    pub scratch: &'a Path,
    /// The folder of logs.
    pub logs: &'a Path,
}

/// A running network, and the key for local use.
#[derive(Debug)]
pub struct Ours {
    process: Process,
    address: SocketAddr,
    key: String,
    _data: TempDir,
}

impl Ours {
    /// Starts a network whose limits are checked and never reached, but for what `special` sets.
    ///
    /// # Errors
    /// It could not be started, or did not become ready.
    pub async fn start(place: Place<'_>, special: &[(&'static str, String)]) -> Result<Self, Fault> {
        std::fs::create_dir_all(place.scratch)?;
        let (data, address) = (tempfile::tempdir_in(place.scratch)?, free_address()?);
        let mut all = generous();
        all.extend([
            ("data", data.path().display().to_string()),
            ("listen", address.to_string()),
            ("engine.kind", "stub".to_owned()),
        ]);
        all.retain(|(name, _)| special.iter().all(|(other, _)| other != name));
        all.extend_from_slice(special);
        let mut command = with_settings(Command::new(place.program), &all);
        command.arg("up");
        let name = format!("infera-{}", address.port());
        let log = place.logs.join(format!("{name}.log"));
        let mut process = Process::spawn(command, &name, place.logs)?;
        process.wait_until(async || Ok(std::fs::read_to_string(&log)?.contains(READY))).await?;
        let text = std::fs::read_to_string(data.path().join("local.env"))?;
        let key = text.lines().find_map(|line| line.strip_prefix("INFERA_API_KEY="));
        let key = key.ok_or("no key in local.env")?.to_owned();
        Ok(Self { process, address, key, _data: data })
    }

    /// Returns the process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Makes a chat that waits for its verified answer.
    #[must_use]
    pub fn chat(&self) -> Ask {
        self.chat_by(&self.key).expecting(200, "\"status\":\"verified\"")
    }

    /// Makes a chat whose answer is streamed, with these words in `verification`, such as `"replicas":1`; its verdict must
    /// contain `expected`.
    #[must_use]
    pub fn streamed(&self, verification: &str, tokens_max: usize, expected: &'static str) -> Ask {
        let body = streamed_body(verification, tokens_max);
        Ask::post(self.address, "/v1/chat/completions", &self.key, &body, expected)
    }

    /// Makes the same chat under another key.
    #[must_use]
    pub fn chat_by(&self, key: &str) -> Ask {
        Ask::post(self.address, "/v1/chat/completions", key, &body("max_tokens"), "")
    }

    /// Makes a request for the list of models, which needs a key and no job.
    #[must_use]
    pub fn models(&self) -> Ask {
        let key = format!("Bearer {}", self.key);
        Ask::request(self.address, "GET /v1/models", &[("authorization", &key)], "")
            .expecting(200, "\"list\"")
    }

    /// Asks the network to end, and waits.
    ///
    /// # Errors
    /// It did not end, or not without an error.
    pub async fn end(self) -> Result<(), Fault> {
        self.process.end().await
    }
}
