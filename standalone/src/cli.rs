//! The command line: what can be typed, and what is printed back. What happens then is `network`'s.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use infera_core::config::{self, ConfigErrors, Sources};

use crate::calibrate::Calibrate;
use crate::config::Config;
use crate::network::Network;

/// The network for LLM inference on strangers' machines whose answers are checked, on this machine.
#[derive(Debug, Parser)]
#[command(name = "infera", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run gateway, verifier and three nodes in this process until Ctrl-C.
    #[command(after_help = "Example:\n  infera up --set nodes.count=5 --set verifier.retention_ms=60000")]
    Up(Settings),
    /// Print the configuration that `up` would run with, as TOML.
    Config(Settings),
    /// Measure honest replicas of the bundled model's exports and write the thresholds file.
    Calibrate(Calibrate),
}

/// Where settings come from, beside the environment (`INFERA_LISTEN=…`, two underscores for a dot).
#[derive(Debug, Args)]
pub struct Settings {
    /// A TOML file; `infera.toml` in this folder is read if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of everything durable; short for `--set data=DIR`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What the nodes' engines run on, `cpu` or `cuda`, and never another; short for `--set engine.device=DEVICE`.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// One setting, as `key=value`; may be repeated. `infera config` lists the keys.
    #[arg(long, value_name = "KEY=VALUE", value_parser = config::parse_flag)]
    set: Vec<(String, String)>,
}

impl Settings {
    /// The configuration; `INFERA_LOG` overrides the log's filter.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(self) -> Result<Config, ConfigErrors> {
        let mut flags = self.set;
        flags.extend(self.data.map(|folder| ("data".to_owned(), folder.display().to_string())));
        flags.extend(self.device.map(|device| ("engine.device".to_owned(), device)));
        let sources = Sources::from_process(self.config, flags);
        let mut config: Config = config::load(&sources)?;
        if let Some(filter) = sources.log_filter() {
            filter.clone_into(&mut config.log.filter);
        }
        Ok(config)
    }
}

/// Prints text for whoever called, where a closed pipe is no fault.
///
/// # Errors
/// The output can't be written to.
pub fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Says on standard error why the program ends: each cause once, the outermost first. Nothing can be done if nobody
/// reads it.
pub fn complain(error: &dyn std::error::Error) {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let text = deeper.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = deeper.source();
    }
    let _ = writeln!(io::stderr().lock(), "infera: {message}");
}

/// What a newcomer needs when the network is ready: where it is, the key, and a request to paste.
#[must_use]
pub fn welcome(network: &Network, config: &Config) -> String {
    let (url, key, model) = (format!("http://{}", network.address), network.key.expose(), &network.model);
    let (nodes, note) = (config.nodes.count, config.data.join("local.env"));
    format!(
        r#"
Infera is ready: {nodes} nodes of {nodes} owners serve {model}.

  address  {url}
  key      {key}   (both are in {note})

Paste this into another terminal:

  curl -s {url}/v1/chat/completions \
    -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "What is 47 + 38?"}}], "verification": {{"quorum": 3}}}}'

Ctrl-C ends it; what was accepted is kept."#,
        note = note.display(),
    )
}
