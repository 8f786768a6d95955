//! The command line: what can be typed, and what a newcomer is told. `network` does what is asked.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use infera_gateway::access::share_orders;
use infera_program::config::{ConfigErrors, Mistake};
use infera_program::group_command::{GroupCommand, Switch};
use infera_program::key_command::KeyCommand;
use infera_types::ids::{JobId, ModelName};

use crate::calibrate::Calibrate;
use crate::config::Config;
use crate::known_models;
use crate::models::StoreCommand;
use crate::network::Network;

/// Runs a network for LLM inference on strangers' machines, with checked answers, on this machine.
#[derive(Debug, Parser)]
#[command(name = "infera", version = env!("PROGRAM_VERSION"), about)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run gateway, verifier and three nodes in this process until Ctrl-C.
    #[command(
        after_help = "Example:\n  infera up --set nodes.count=5 --set verifier.retention_ms=60000\n  infera up --model smollm2"
    )]
    Up(Settings),
    /// Print the configuration that `up` would run with, as TOML.
    Config(Settings),
    /// Shrink the ledger's file to its content, while nothing runs. Needed once, for a large file of a version that
    /// could not shrink it by itself.
    Compact(Settings),
    /// Archived records of jobs.
    #[command(subcommand)]
    Archive(ArchiveCommand),
    /// Models: those that are there, fetching more, whether they fit, and what they cost.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Accounts' API keys.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Single jobs.
    #[command(subcommand)]
    Job(JobCommand),
    /// Accounts' API keys: an operator's first one, and making, listing, rotating, revoking and blocking others, while nothing
    /// runs on the folder. Where `up` runs, the API does the same.
    Key(KeyOptions),
    /// Groups of nodes, to which accounts' jobs may go, while nothing runs on the folder. Where `up` runs, the API does the same.
    NodeGroup(GroupOptions),
    /// Single nodes, while nothing runs on the folder.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Measure how far apart honest replicas and scores of a model's exports are, and write their rows of the thresholds file.
    Calibrate(Calibrate),
}

/// About API keys.
#[derive(Debug, Args)]
pub struct KeyOptions {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
    /// Where settings come from.
    #[command(flatten)]
    pub settings: Settings,
}

/// About groups of nodes.
#[derive(Debug, Args)]
pub struct GroupOptions {
    /// What to do.
    #[command(subcommand)]
    pub command: GroupCommand,
    /// Where settings come from.
    #[command(flatten)]
    pub settings: Settings,
}

/// About single nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Make a node a backstop of the network, or an ordinary one: a backstop is asked only where others can't fill a group.
    #[command(after_help = "Example:\n  infera node backstop resident-3 on")]
    Backstop {
        /// Its name or id.
        node: String,
        /// Whether it is one.
        switch: Switch,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
}

/// About archived records.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Print the archived record of a job: one line of JSON as it lies in the archive, checked by the ledger's hash. Where
    /// `up` runs on the folder, it is asked.
    Show {
        /// The job's id.
        job: JobId,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
}

/// About single jobs.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Have the text of a job that has ended erased, while nothing runs on the folder: request, answer and metadata, from the
    /// ledger and the archive. The next `up` does it. Where `up` runs, DELETE /v1/jobs/{id}/data does the same.
    Erase {
        /// The job's id.
        job: JobId,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
}

/// About models.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Those about models' folders.
    #[command(flatten)]
    Store(StoreCommand),
    /// Set what a model costs, in the network's currency for a million tokens, while nothing runs on the folder. A model is free
    /// until then, and with two zeros again. Jobs keep the price at which they were accepted.
    #[command(after_help = "Example:\n  infera model price infera-tiny 0.15 0.60")]
    Price {
        /// The model's name.
        #[arg(value_name = "MODEL")]
        name: String,
        /// For a million tokens of prompts.
        prompt: String,
        /// For a million tokens of answers.
        completion: String,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
}

/// About accounts.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Revoke the API key on standard input, while nothing runs on the folder. On the command line it would stay in the
    /// shell's history. Its SHA-256 in hexadecimal will do.
    #[command(after_help = "Example:\n  infera account revoke-key < leaked-key.txt")]
    RevokeKey(Settings),
    /// Record that an account is one that is known, while nothing runs on the folder: its jobs are counted by themselves,
    /// and no longer together with those of all unproven accounts of its network.
    Prove {
        /// The account's id, or the address that it signed up with.
        email: String,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
    /// Set the weight of an account, 1 if it was never set, while nothing runs on the folder: one of weight 2 gets twice the
    /// tokens of one of weight 1 while both wait.
    Weigh {
        /// The account's id, or the address that it signed up with.
        email: String,
        /// The weight.
        #[arg(value_parser = clap::value_parser!(u32).range(share_orders::WEIGHTS))]
        weight: u32,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
    /// Have the text of all jobs erased that an account has had, while nothing runs on the folder: requests, answers and
    /// metadata, from the ledger and the archive. It can't be taken back. The next `up` does it; the same again tells how far it
    /// has come. Where `up` runs, DELETE /v1/account/data does the same.
    Erase {
        /// The account's id, or the address that it signed up with.
        account: String,
        /// Say that it is meant.
        #[arg(long)]
        yes: bool,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
    /// Set the most that an account may spend in a calendar month (UTC), while nothing runs on the folder. What was accepted
    /// already goes on.
    #[command(after_help = "Example:\n  infera account limit client@example.com 25.50")]
    Limit {
        /// The account's id, or the address that it signed up with.
        email: String,
        /// The amount in the network's currency, or `none` for no limit.
        amount: String,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
    /// Record that an account pays for what it owes, while nothing runs on the folder. Jobs of other accounts earn their nodes
    /// no points, where the model has a price.
    Pays {
        /// The account's id, or the address that it signed up with.
        email: String,
        /// It pays no more.
        #[arg(long)]
        no_more: bool,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
    /// Let the API key on standard input ask for `service_tier` priority, while nothing runs on the folder. Its SHA-256 in
    /// hexadecimal will do.
    #[command(after_help = "Example:\n  infera account allow-priority < key.txt")]
    AllowPriority {
        /// Take the right away instead.
        #[arg(long)]
        no_more: bool,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
}

/// Where settings come from, and short forms of some of them.
#[derive(Debug, Args)]
#[group(skip)] // the parser names groups by type, and the inner settings have the same name
pub struct Settings {
    #[command(flatten)]
    settings: infera_program::Settings,
    /// The folder for everything durable; short for `--set data=DIR`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The model that the nodes serve: `infera-tiny`, `smollm2`, the name of one that `infera model fetch` brought, or a folder as
    /// the Hub lays it out, written with a slash; short for `--set engine.folder=…` and what belongs to it.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// The device of the nodes' engines, `cpu` or `cuda`, without a fallback; short for `--set engine.device=DEVICE`.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

impl Settings {
    /// Loads the configuration; `INFERA_LOG` overrides the log's filter.
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
        if let Some(word) = self.model {
            // Where fetched models lie is a setting too.
            let models = load(self.settings.clone())?.models;
            let chosen = known_models::choose_in(&word, &models).map_err(|problem| ConfigErrors {
                mistakes: vec![Mistake { source: "flag --model".to_owned(), key: String::new(), problem }],
            })?;
            self.settings.set_before("engine.folder", chosen.folder.display());
            if let Some(variant) = chosen.variant {
                self.settings.set_before("engine.variant", variant);
            }
            if let Some(known) = chosen.known {
                self.settings.set_before("reference_token_us", known.reference_token_us);
            }
        }
        load(self.settings)
    }
}

fn load(settings: infera_program::Settings) -> Result<Config, ConfigErrors> {
    settings.load("infera.toml", |config: &mut Config| &mut config.log)
}

/// Returns the first line of the welcome for a network with this many built-in nodes: whether it can answer, and
/// what.
fn standing(nodes: u32, model: &ModelName) -> String {
    match nodes {
        0 => format!(
            "Infera runs and is not ready: nodes.count is 0, so no node serves {model}, and accepted jobs will not be answered."
        ),
        1 | 2 => format!(
            "Infera is ready for unverified answers alone: {nodes} of the 3 nodes that verification needs serve {model}."
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

/// Returns what a newcomer needs when the network is ready: the address, the key, and a request to paste. A journal
/// is not told the key, but the file that holds it and a request that reads it from there.
#[must_use]
pub fn welcome(network: &Network, config: &Config, reader: Reader) -> String {
    let (url, model) = (format!("http://{}", network.address), &network.model);
    let standing = standing(config.nodes.count, model);
    let (secret, note) = (network.key.expose(), config.data.join("local.env"));
    let note = note.display();
    let question = known_models::question(&config.engine.folder);
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
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "{question}"}}], "verification": {{"quorum": 3}}}}'

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

    /// Checks what the parser itself checks only at the first use: clashing names, duplicate flags.
    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
