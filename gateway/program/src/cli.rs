//! The command line of `infera-gateway`: the commands, and the parts of the program that carry them out.

use std::time::Duration;

use clap::{Parser, Subcommand};
use infera_ledger_postgres::waiting;
use infera_program::config;
use infera_program::group_command::GroupCommand;
use infera_program::key_command::KeyCommand;
use infera_program::{EXIT_CODES, Failure, Settings};
use infera_types::shutdown;

use super::operator::{self, AccountCommand, JobCommand, ModelCommand, NodeCommand};
use super::poison::{self, PoisonCommand};
use super::{Config, DEFAULT_FILE, run};
use super::{groups, keys};

/// A gateway: HTTP in, jobs accepted. Without a command it serves until it is told to end.
#[derive(Debug, Parser)]
#[command(name = "infera-gateway", version = env!("PROGRAM_VERSION"), about, after_help = after_help())]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

/// The commands beside serving.
#[derive(Debug, Subcommand)]
enum Command {
    /// Print the configuration that it would run with, as TOML.
    Config,
    /// Accounts: whether their nodes may come in, whether they are known, what they may spend, the weight of their jobs, and erasing
    /// their data; and ending a key that leaked.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Accounts' API keys: the first one of an operator, and making, listing, rotating, revoking and blocking others.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Single jobs.
    #[command(subcommand)]
    Job(JobCommand),
    /// Models' prices.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Single nodes.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Groups of nodes, to which accounts' jobs may go.
    #[command(subcommand)]
    NodeGroup(GroupCommand),
    /// Jobs that were given up because their verifiers kept dying with them.
    #[command(subcommand)]
    Poison(PoisonCommand),
}

fn after_help() -> String {
    format!(
        "Examples:
  infera-gateway --config /etc/infera/gateway.toml
  INFERA_LEDGER__URL_FILE=/run/secrets/ledger infera-gateway --set listen=0.0.0.0:8710
  infera-gateway account fleet runner@example.com
  infera-gateway account revoke-key < leaked-key.txt
  infera-gateway account prove client@example.com
  infera-gateway key create-admin
  infera-gateway key block acct0123456789abcdef0123456789abcdef
  infera-gateway node revoke n0123456789abcdef
  infera-gateway node backstop basement-1 on
  infera-gateway node-group create client@example.com lab
  infera-gateway account erase client@example.com --yes
  infera-gateway poison list

Settings come from the file, then the environment (INFERA_LEDGER__URL is the key ledger.url), then --set.
{EXIT_CODES}"
    )
}

impl Cli {
    /// Carries out the command.
    ///
    /// # Errors
    /// The reason of the failure, with its exit code.
    pub fn act(self) -> Result<(), Failure> {
        let config = self
            .settings
            .load(DEFAULT_FILE, |config: &mut Config| &mut config.log)
            .map_err(Failure::settings)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        match self.command {
            None => runtime.block_on(async { run(config, shutdown::on_signals()?).await }),
            Some(Command::Config) => Ok(infera_program::print(&config::dump(&config)?)?),
            Some(command) => {
                infera_telemetry::start(&config.log).map_err(Failure::settings)?;
                runtime.block_on(operate(&command, &config))
            }
        }
    }
}

/// Carries out an operator's command on the ledger. No command needs the broker or a running gateway.
async fn operate(command: &Command, config: &Config) -> Result<(), Failure> {
    let shutdown = shutdown::on_signals()?;
    let Some(ledger) = waiting::ledger(&config.ledger, &shutdown).await.map_err(Failure::refused)? else {
        return Ok(());
    };
    match command {
        Command::Config => Ok(()),
        Command::Account(command) => {
            let key_ttl = Duration::from_millis(config.gateway.key_ttl_ms);
            operator::account(command, ledger.as_ref(), key_ttl).await
        }
        Command::Key(command) => keys::act(command, ledger.as_ref()).await,
        Command::Job(command) => operator::job(command, ledger.as_ref()).await,
        Command::Model(command) => {
            let refresh = Duration::from_millis(config.gateway.catalogue_refresh_ms);
            operator::model(command, ledger.as_ref(), refresh).await
        }
        Command::Node(command) => operator::node(command, ledger.as_ref()).await,
        Command::NodeGroup(command) => groups::act(command, ledger.as_ref()).await,
        Command::Poison(command) => poison::act(command, ledger.as_ref(), &config.gateway).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Has clap check what it otherwise checks only at first use: names that clash, flags that are given twice.
    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// `account` does much else than keys, which have a command of their own.
    #[test]
    fn accounts_and_keys_are_headed_apart() {
        let command = Cli::command();
        let head =
            |name| command.find_subcommand(name).and_then(clap::Command::get_about).map(ToString::to_string);
        let (account, key) = (head("account").unwrap_or_default(), head("key").unwrap_or_default());
        assert!(account.starts_with("Accounts: ") && !account.contains("API keys"), "{account}");
        assert!(key.starts_with("Accounts' API keys: "), "{key}");
    }
}
