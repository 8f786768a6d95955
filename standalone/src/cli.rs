//! The command line: what can be typed, and what a newcomer is told. What happens then is `network`'s.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use infera_program::config::ConfigErrors;
use infera_types::ids::ModelName;

use crate::calibrate::Calibrate;
use crate::config::Config;
use crate::network::Network;

/// The network for LLM inference on strangers' machines whose answers are checked, on this machine.
#[derive(Debug, Parser)]
#[command(name = "infera", version = env!("PROGRAM_VERSION"), about)]
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
    /// Make the ledger's file as small as what is in it, while nothing runs. Needed once, for a large one that was made before
    /// it became smaller by itself.
    Compact(Settings),
    /// Measure honest replicas of the bundled model's exports and write the thresholds file.
    Calibrate(Calibrate),
}

/// Where settings come from, and short ways to say two of them.
#[derive(Debug, Args)]
#[group(skip)] // the parser names groups by type, and the settings within are called the same
pub struct Settings {
    #[command(flatten)]
    settings: infera_program::Settings,
    /// The folder of everything durable; short for `--set data=DIR`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What the nodes' engines run on, `cpu` or `cuda`, and never another; short for `--set engine.device=DEVICE`.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

impl Settings {
    /// The configuration; `INFERA_LOG` overrides the log's filter.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(mut self) -> Result<Config, ConfigErrors> {
        if let Some(folder) = self.data {
            self.settings.set("data", folder.display());
        }
        if let Some(device) = self.device {
            self.settings.set("engine.device", device);
        }
        self.settings.load("infera.toml", |config: &mut Config| &mut config.log)
    }
}

/// Returns what the first line says of a network with this many built-in nodes: whether it can answer, and what.
fn standing(nodes: u32, model: &ModelName) -> String {
    match nodes {
        0 => format!(
            "Infera runs and is not ready: nodes.count is 0, so no node serves {model}, and nothing that is accepted will be answered."
        ),
        1 | 2 => format!(
            "Infera is ready for unverified answers alone: {nodes} of the three owners' nodes that check each other serve {model}."
        ),
        _ => format!("Infera is ready: {nodes} nodes of {nodes} owners serve {model}."),
    }
}

/// The reader of the welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A person in front of a terminal.
    Person,
    /// A journal, a file or a program, which keeps what it reads.
    Journal,
}

/// What a newcomer needs when the network is ready: where it is, the key, and a request to paste. No journal is told the
/// key, but where it lies, and a request that reads it from there.
#[must_use]
pub fn welcome(network: &Network, config: &Config, reader: Reader) -> String {
    let (url, model) = (format!("http://{}", network.address), &network.model);
    let standing = standing(config.nodes.count, model);
    let (secret, note) = (network.key.expose(), config.data.join("local.env"));
    let note = note.display();
    let (key, shell) = match reader {
        Reader::Person => {
            let curl =
                format!("curl -s {url}/v1/chat/completions \\\n    -H 'Authorization: Bearer {secret}'");
            (format!("{secret}   (both are in {note})"), curl)
        }
        Reader::Journal => {
            let curl = "curl -s $INFERA_URL/v1/chat/completions \\\n    -H \"Authorization: Bearer $INFERA_API_KEY\"";
            (format!("in {note}, with the address"), format!(". {note}\n  {curl}"))
        }
    };
    format!(
        r#"
{standing}

  address  {url}
  key      {key}

Paste this into another terminal:

  {shell} -H 'Content-Type: application/json' \
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "What is 47 + 38?"}}], "verification": {{"quorum": 3}}}}'

Ctrl-C ends it; what was accepted is kept."#
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn a_network_without_nodes_is_not_called_ready() {
        let model = ModelName::new("m");
        for (nodes, begins) in [
            (0, "Infera runs and is not ready: nodes.count is 0"),
            (2, "Infera is ready for unverified answers alone: 2 "),
            (3, "Infera is ready: 3 nodes of 3 owners serve m."),
        ] {
            assert!(standing(nodes, &model).starts_with(begins), "{}", standing(nodes, &model));
        }
    }

    /// What the parser checks at the first use only: names that clash, flags that are given twice.
    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
