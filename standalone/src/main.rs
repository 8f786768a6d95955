//! The `infera` program: reads the command line, composes, runs, and reports how it ended.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::Parser as _;
use infera::calibrate;
use infera::cli::{self, Cli, Command, Reader, Settings};
use infera::config::Config;
use infera::data_folder;
use infera::network::Network;
use infera_ledger_sqlite::SqliteLedger;
use infera_program::Failure;
use infera_program::config;
use infera_types::shutdown;

type Done = Result<(), Failure>;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Up(settings) => up(settings),
        Command::Config(settings) => show(settings),
        Command::Compact(settings) => compact(settings),
        Command::Calibrate(options) => calibrate::run(&Config::default(), &options).map_err(Into::into),
    };
    infera_program::ended("infera", done)
}

fn show(settings: Settings) -> Done {
    let config = settings.load().map_err(Failure::settings)?;
    Ok(infera_program::print(&config::dump(&config)?)?)
}

fn compact(settings: Settings) -> Done {
    let config = settings.load().map_err(Failure::settings)?;
    infera_telemetry::start(&config.log)?;
    let path = data_folder::ledger_in(&config.data);
    let (before, after) = SqliteLedger::compact(&path).map_err(Failure::refused)?;
    Ok(infera_program::print(&format!("{}: {before} bytes before, {after} after", path.display()))?)
}

fn up(settings: Settings) -> Done {
    let config = settings.load().map_err(Failure::settings)?;
    config.gateway.check().map_err(Failure::settings)?;
    infera_telemetry::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = shutdown::on_signals()?;
        let network = Network::start(config.clone()).await?;
        let reader = if io::stdout().is_terminal() { Reader::Person } else { Reader::Journal };
        infera_program::print(&cli::welcome(&network, &config, reader))?;
        Ok(network.run(shutdown).await?)
    })
}
