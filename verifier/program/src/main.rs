//! The `infera-verifier` program: reads the command line, acts, and reports how it ended.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use infera_program::config;
use infera_program::{EXIT_CODES, Failure, Settings};
use infera_types::shutdown;
use infera_verifier_program::records::{self, ArchiveCommand};
use infera_verifier_program::{Config, DEFAULT_FILE, run};

/// A verifier: owns jobs, judges the answers, settles. Without a command it works until it is told to end.
#[derive(Debug, Parser)]
#[command(name = "infera-verifier", version = env!("PROGRAM_VERSION"), about, after_help = after_help())]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the configuration that it would run with, as TOML.
    Config,
    /// Archived records of jobs.
    #[command(subcommand)]
    Archive(ArchiveCommand),
}

fn after_help() -> String {
    format!(
        "Examples:
  infera-verifier --config /etc/infera/verifier.toml
  infera-verifier --set verifier.distinct=node
  infera-verifier --config /etc/infera/verifier.toml archive show JOB

Settings come from the file, then the environment (INFERA_LEDGER__URL is the key ledger.url), then --set.
{EXIT_CODES}"
    )
}

fn main() -> ExitCode {
    infera_program::ended("infera-verifier", act(Cli::parse()))
}

fn act(cli: Cli) -> Result<(), Failure> {
    let config =
        cli.settings.load(DEFAULT_FILE, |config: &mut Config| &mut config.log).map_err(Failure::settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match cli.command {
        None => runtime.block_on(async { run(config, shutdown::on_signals()?).await }),
        Some(Command::Config) => Ok(infera_program::print(&config::dump(&config)?)?),
        Some(Command::Archive(command)) => {
            infera_telemetry::start(&config.log).map_err(Failure::settings)?;
            runtime.block_on(async { records::act(&command, &config, &shutdown::on_signals()?).await })
        }
    }
}
