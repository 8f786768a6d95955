//! The program `infera-gateway`: reads the command line, carries out the command and reports how it ended.

use std::process::ExitCode;

use clap::Parser as _;
use infera_gateway_program::cli::Cli;

fn main() -> ExitCode {
    infera_program::ended("infera-gateway", Cli::parse().act())
}
