//! The `infera-gateway` program: reads the command line, acts, says how it ended.

use std::process::ExitCode;

use clap::Parser as _;
use infera_core::program;
use infera_gateway::program::cli::Cli;

fn main() -> ExitCode {
    program::ended("infera-gateway", Cli::parse().act())
}
