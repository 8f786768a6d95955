//! The `infera-verifier` program: reads the command line, acts, and reports how it ended.

use std::process::ExitCode;

use clap::Parser as _;
use infera_verifier_program::cli::Cli;

fn main() -> ExitCode {
    infera_program::ended("infera-verifier", Cli::parse().act())
}
