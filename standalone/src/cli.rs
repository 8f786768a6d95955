//! The command line: what can be typed, and what a newcomer is told (`welcome`). `network` does what is asked.

mod remedy;
mod welcome;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use infera_gateway::access::share_orders;
use infera_program::config::{ConfigErrors, Mistake};
use infera_program::group_command::{GroupCommand, Switch};
use infera_program::key_command::KeyCommand;
use infera_types::ids::JobId;

use crate::calibrate::Calibrate;
use crate::config::Config;
use crate::known_models::{self, Chosen};
use crate::models::StoreCommand;

pub use remedy::not_started;
pub use welcome::{Reader, welcome};

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
        after_help = "Example:\n  infera up --set nodes.count=5 --set verifier.retention_ms=60000\n  infera up --model smollm2\n  infera up --model infera-tiny,smollm2"
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
    /// Accounts: whether they are known, what they may spend, the weight of their jobs, and erasing their data; and ending a key
    /// that leaked. Where `up` runs on the folder, it is asked.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Single jobs.
    #[command(subcommand)]
    Job(JobCommand),
    /// Accounts' API keys: an operator's first one, and making, listing, rotating, revoking and blocking others. Where `up` runs, it
    /// is asked, and the API does the same.
    Key(KeyOptions),
    /// Groups of nodes, to which accounts' jobs may go. Where `up` runs, it is asked, and the API does the same.
    NodeGroup(GroupOptions),
    /// Single nodes. Where `up` runs on the folder, it is asked.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Measure how far apart honest replicas and scores of a model's exports are, and write their rows of the thresholds file.
    Calibrate(Calibrate),
    /// Be the second process of an engine's self-check, which another one starts.
    #[command(hide = true, name = infera_engine_onnx::check::ARGUMENT)]
    EngineCheck,
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
    /// Have the text of a job that has ended erased: request, answer and metadata, from the ledger and the archive. The `up` that runs
    /// on the folder does it, or the next one; DELETE /v1/jobs/{id}/data does the same.
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
    /// Set what a model costs, in the network's currency for a million tokens, also while `up` runs on the folder. A model is free
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
    /// Revoke the API key on standard input. On the command line it would stay in the shell's history. Its SHA-256 in hexadecimal will do.
    #[command(after_help = "Example:\n  infera account revoke-key < leaked-key.txt")]
    RevokeKey(Settings),
    /// Record that an account is one that is known: its jobs are counted by themselves,
    /// and no longer together with those of all unproven accounts of its network.
    Prove {
        /// The account's id, or the address that it signed up with.
        email: String,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
    /// Set the weight of an account, 1 if it was never set: one of weight 2 gets twice the
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
    /// Have the text of all jobs erased that an account has had: requests, answers and metadata, from the ledger and the archive. It
    /// can't be taken back. The `up` that runs on the folder does it, or the next one; the same again tells how far it has come.
    /// DELETE /v1/account/data does the same.
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
    /// Set the most that an account may spend in a calendar month (UTC). What was accepted
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
    /// Record that an account pays for what it owes. Jobs of other accounts earn their nodes
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
    /// Let the API key on standard input ask for `service_tier` priority. Its SHA-256 in
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
    /// The models that the nodes serve, with commas between them or one at a time: `infera-tiny`, `smollm2`, the name of one that
    /// `infera model fetch` brought, or a folder as the Hub lays it out, written with a slash; short for `--set engine.folder=…`,
    /// or `--set engine.models=…` for several, and what belongs to it.
    #[arg(long, value_name = "MODEL", value_delimiter = ',')]
    model: Vec<String>,
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
        if !self.model.is_empty() {
            // Where fetched models lie is a setting too.
            let models = load(self.settings.clone())?.models;
            let chosen = choose(&self.model, &models)?;
            let [chosen] = &chosen[..] else {
                self.settings.set_before("engine.models", list(&chosen));
                return load(self.settings);
            };
            // One takes the place of several that a file names.
            self.settings.set_before("engine.models", "[]");
            self.settings.set_before("engine.folder", chosen.folder.display());
            if let Some(variant) = &chosen.variant {
                self.settings.set_before("engine.variant", variant);
            }
            if let Some(known) = chosen.known {
                self.settings.set_before("reference_token_us", known.reference_token_us);
            }
        }
        load(self.settings)
    }
}

/// Returns what the words stand for. All that stand for nothing are reported at once.
fn choose(words: &[String], models: &Path) -> Result<Vec<Chosen>, ConfigErrors> {
    let (mut chosen, mut mistakes) = (Vec::new(), Vec::new());
    for word in words {
        match known_models::choose_in(word, models) {
            Ok(one) => chosen.push(one),
            Err(problem) => {
                mistakes.push(Mistake { source: "flag --model".to_owned(), key: String::new(), problem })
            }
        }
    }
    if mistakes.is_empty() { Ok(chosen) } else { Err(ConfigErrors { mistakes }) }
}

/// Writes several models as the setting `engine.models` takes them.
fn list(chosen: &[Chosen]) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let one = |one: &Chosen| {
        let folder = quoted(&one.folder.to_string_lossy());
        let variant = one.variant.as_ref().map(|variant| format!(", variant = {}", quoted(variant)));
        format!("{{folder = {folder}{}}}", variant.unwrap_or_default())
    };
    format!("[{}]", chosen.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn load(settings: infera_program::Settings) -> Result<Config, ConfigErrors> {
    settings.load("infera.toml", |config: &mut Config| &mut config.log)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn several_models_are_a_list_that_the_settings_take() {
        let words = ["infera-tiny".to_owned(), "./my \"models\"/x".to_owned()];
        let chosen = choose(&words, Path::new("nowhere")).expect("both are words");
        let flags = vec![("engine.models".to_owned(), list(&chosen))];
        let sources = infera_program::config::Sources { flags, ..Default::default() };
        let config: Config = infera_program::config::load(&sources).expect("a list");
        let each = config.engine.each();
        let names: Vec<String> = each.iter().map(|engine| engine.name().to_string()).collect();
        assert_eq!(
            (names, each[0].variant.as_str()),
            (vec!["infera-tiny".to_owned(), "x".to_owned()], "model")
        );
        let told = choose(&["a".to_owned(), "b".to_owned()], Path::new("nowhere")).expect_err("neither is");
        assert_eq!(told.mistakes.len(), 2);
    }

    /// Checks what the parser itself checks only at the first use: clashing names, duplicate flags.
    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// The first words of a command's help say what it alone is about.
    #[test]
    fn no_two_commands_are_headed_alike() {
        let command = Cli::command();
        let about =
            |command: &clap::Command| command.get_about().map(ToString::to_string).unwrap_or_default();
        let head =
            |command: &clap::Command| about(command).split([':', ',', '.']).next().unwrap_or("").to_owned();
        let mut heads: Vec<String> = command.get_subcommands().map(head).collect();
        let all = heads.len();
        heads.sort();
        heads.dedup();
        assert_eq!(heads.len(), all, "{heads:?}");
        assert!(!heads.contains(&String::new()));
    }
}
