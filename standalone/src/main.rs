//! The `infera` program: reads the command line, composes, runs, and reports how it ended.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::Parser as _;
use infera::cli::{self, Cli, Command, Reader, Settings};
use infera::config::Config;
use infera::network::Network;
use infera::{calibrate, commands, groups, keys};
use infera_program::{Failure, config, print};
use infera_types::shutdown;
use tokio::runtime::{Builder, Runtime};

type Done = Result<(), Failure>;

fn main() -> ExitCode {
    infera_program::ended("infera", act(Cli::parse().command))
}

fn act(command: Command) -> Done {
    let said = match command {
        Command::Up(settings) => return up(load(settings)?),
        Command::Calibrate(options) => return Ok(calibrate::run(&Config::default(), &options)?),
        Command::EngineCheck => return Ok(infera_engine_onnx::check::answer()?),
        Command::Config(settings) => config::dump(&settings.load().map_err(Failure::settings)?)?,
        Command::Compact(settings) => commands::compact(&load(settings)?.data).map_err(Failure::refused)?,
        Command::Archive(command) => alone()?.block_on(commands::archive(command, load))?,
        Command::Key(key) => alone()?.block_on(keys::act(&load(key.settings)?.data, &key.command))?,
        Command::NodeGroup(group) => alone()?.block_on(groups::of_group(group, load))?,
        Command::Node(node) => alone()?.block_on(groups::of_node(node, load))?,
        Command::Job(command) => alone()?.block_on(commands::job(command, load))?,
        Command::Model(command) => alone()?.block_on(commands::model(command, load))?,
        Command::Account(command) => alone()?.block_on(commands::account(command, load))?,
    };
    Ok(print(&said)?)
}

fn alone() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// The settings; from now on its log is written as they say.
fn load(settings: Settings) -> Result<Config, Failure> {
    let config = settings.load().map_err(Failure::settings)?;
    infera_telemetry::start(&config.log)?;
    Ok(config)
}

fn up(config: Config) -> Done {
    config.gateway.check().map_err(Failure::settings)?;
    config.mail.check().map_err(Failure::settings)?;
    Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let shutdown = shutdown::on_signals()?;
        let network = Network::start(config.clone()).await.map_err(cli::not_started)?;
        let reader = if io::stdout().is_terminal() { Reader::Person } else { Reader::Journal };
        print(&cli::welcome(&network, &config, reader))?;
        Ok(network.run(shutdown).await?)
    })
}
