//! What all our programs do alike, whatever their role: where settings come from, how output is printed, and how a
//! program ends. Each program decides which settings it has and what it runs.
//!
//! A program ends with one of four codes, on which scripts may rely:
//!
//! * 0: it was asked to end, or completed its task.
//! * 1: it failed while working; the message says why, and a retry may help.
//! * [`SETTINGS`]: the command line or the configuration is wrong.
//! * [`REFUSED`]: a service or resource that it needs refuses it (a password, a bucket, an address); a retry without
//!   a change is pointless.

pub mod config;
pub mod descriptors;
pub mod group_command;
pub mod key_command;
pub mod listen;

use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::de::DeserializeOwned;

use infera_types::causes::causes;

use crate::config::{ConfigErrors, Sources};

/// The exit code of a wrong command line or configuration; the command line's parser uses the same.
pub const SETTINGS: u8 = 2;
/// The exit code if an operator has to change something that the program needs.
pub const REFUSED: u8 = 3;

/// The last lines of a program's `--help`, about its exit codes.
pub const EXIT_CODES: &str = "Exit codes: 0 done or ended as asked, 1 failed, 2 wrong command line or setting, 3 refused by a service or resource that it needs.";

/// Where settings come from, besides the environment (`INFERA_LISTEN=…`, two underscores for a dot).
#[derive(Clone, Debug, Default, Args)]
pub struct Settings {
    /// A TOML file; without it, the program's own in this folder (its name and .toml) is read if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as `key=value`; may be repeated. The subcommand `config` lists the keys.
    #[arg(long, value_name = "KEY=VALUE", value_parser = config::parse_flag)]
    set: Vec<(String, String)>,
}

impl Settings {
    /// Sets one key, as if it had been typed last on the command line.
    pub fn set(&mut self, key: &str, value: impl fmt::Display) {
        self.set.push((key.to_owned(), value.to_string()));
    }

    /// Sets one key, as if it had been typed first on the command line: what was typed for the same key wins.
    pub fn set_before(&mut self, key: &str, value: impl fmt::Display) {
        self.set.insert(0, (key.to_owned(), value.to_string()));
    }

    /// Loads the configuration, from `default_file` if no file was named. `log` returns the settings of its logs,
    /// whose filter `INFERA_LOG` overrides.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load<T: DeserializeOwned>(
        self,
        default_file: &str,
        log: impl FnOnce(&mut T) -> &mut infera_telemetry::Config,
    ) -> Result<T, ConfigErrors> {
        let sources = Sources::from_process(default_file, self.config, self.set);
        let links: Vec<&str> = sources.service_links().collect();
        if !links.is_empty() {
            // Logs start once their settings are known. If this cannot be written, there is nowhere else to report
            // it.
            let _ = writeln!(
                io::stderr().lock(),
                "ignored, because Kubernetes set them for a service: {} (enableServiceLinks: false in the pod's \
                 specification removes them)",
                links.join(", ")
            );
        }
        let mut loaded = config::load(&sources)?;
        if let Some(filter) = sources.log_filter() {
            filter.clone_into(&mut log(&mut loaded).filter);
        }
        Ok(loaded)
    }
}

/// Why a program ends with an error, and with which code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    cause: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// Makes a failure that is due to the command line or the configuration.
    pub fn settings(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { code: SETTINGS, cause: cause.into() }
    }

    /// Makes a failure that an operator has to remedy first.
    pub fn refused(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { code: REFUSED, cause: cause.into() }
    }

    /// Returns the exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    /// Writes each cause once, the outermost first.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&causes(&*self.cause))
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    /// Makes a failure at work.
    fn from(cause: E) -> Self {
        Self { code: 1, cause: cause.into() }
    }
}

/// Ends `program`, and reports on standard error why it failed, if it did. If that cannot be written, there is
/// nowhere else to report it.
#[must_use]
pub fn ended(program: &str, outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr().lock(), "{program}: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// Prints text for the caller of the program; a closed pipe is not an error.
///
/// # Errors
/// The output cannot be written.
pub fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the door: {0}")]
    struct Door(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("no way in")]
    struct NoWay(#[source] Door);

    #[test]
    fn a_failure_says_each_cause_once() {
        let failure: Failure = NoWay(Door(io::Error::other("locked"))).into();
        assert_eq!((failure.to_string().as_str(), failure.code()), ("no way in: the door: locked", 1));
        assert_eq!(Failure::settings("x").code(), 2);
        assert_eq!(Failure::refused("x").code(), 3);
    }
}
