//! The command line of `infera-verifier`: the commands, and the parts of the program that carry them out.

use clap::{Parser, Subcommand};
use infera_program::config;
use infera_program::{EXIT_CODES, Failure, Settings};
use infera_types::shutdown;

use super::models::{self, ModelCommand};
use super::records::{self, ArchiveCommand};
use super::{Config, DEFAULT_FILE, run};

/// A verifier: owns jobs, judges the answers, settles. Without a command it works until it is told to end.
#[derive(Debug, Parser)]
#[command(name = "infera-verifier", version = env!("PROGRAM_VERSION"), about, after_help = after_help())]
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
    /// Archived records of jobs.
    #[command(subcommand)]
    Archive(ArchiveCommand),
    /// The models that the network serves: they come and go while it runs.
    #[command(subcommand)]
    Model(ModelCommand),
}

fn after_help() -> String {
    format!(
        "Examples:
  infera-verifier --config /etc/infera/verifier.toml
  infera-verifier --set verifier.distinct=node
  infera-verifier --config /etc/infera/verifier.toml archive show JOB
  infera-verifier model add sea-poet ./models/sea-poet --reference-token-us 14000
  infera-verifier model remove sea-poet

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
        let loaded = self.settings.load(DEFAULT_FILE, |config: &mut Config| &mut config.log);
        let config = loaded.map_err(Failure::settings)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        match self.command {
            None => runtime.block_on(async { run(config, shutdown::on_signals()?).await }),
            Some(Command::Config) => Ok(infera_program::print(&config::dump(&config)?)?),
            Some(command) => {
                infera_telemetry::start(&config.log).map_err(Failure::settings)?;
                runtime.block_on(operate(command, &config))
            }
        }
    }
}

/// Carries out an operator's command. No command needs a running verifier.
async fn operate(command: Command, config: &Config) -> Result<(), Failure> {
    let shutdown = shutdown::on_signals()?;
    match command {
        Command::Config => Ok(()),
        Command::Archive(command) => records::act(&command, config, &shutdown).await,
        Command::Model(command) => models::act(command, config, &shutdown).await,
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
}
