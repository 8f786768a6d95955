//! The program `infera-worker`: reads the command line, runs and reports how it ended.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use infera_engine_onnx::check;
use infera_program::config;
use infera_program::{EXIT_CODES, Failure, Settings};
use infera_types::shutdown;
use infera_worker_program::rereading::Rereading;
use infera_worker_program::{Config, DEFAULT_FILE, run};

/// A node of the network on this machine: it registers at a gateway and answers assignments with its engine.
#[derive(Debug, Parser)]
#[command(name = "infera-worker", version = env!("PROGRAM_VERSION"), about, after_help = EXIT_CODES)]
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
    /// Be the second process of an engine's self-check, which another one starts.
    #[command(hide = true, name = check::ARGUMENT)]
    EngineCheck,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    infera_program::ended("infera-worker", act(cli))
}

fn act(cli: Cli) -> Result<(), Failure> {
    if let Some(Command::EngineCheck) = cli.command {
        return Ok(check::answer()?);
    }
    let load = move || cli.settings.clone().load(DEFAULT_FILE, |config: &mut Config| &mut config.log);
    let config = load().map_err(Failure::settings)?;
    if let Some(Command::Config) = cli.command {
        return Ok(infera_program::print(&config::dump(&config)?)?);
    }
    // One thread is enough: the engine takes most of the time and has a thread of its own, and passing messages
    // between threads costs more than reading them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (shutdown, rereading) =
            (shutdown::on_signals()?, Rereading::on_signal(move || Ok(load()?.engine))?);
        Box::pin(run(config, Some(rereading), shutdown)).await
    })
}
