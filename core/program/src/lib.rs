//! What our programs do alike, whatever their role: where settings come from, how they print and how they end. Which settings there are, and what runs, is each program's own.
//!
//! A program ends with one of four codes, which scripts may rely on:
//!
//! * 0: it was asked to end, or did what it was asked.
//! * 1: it failed at its work; the message says what, and trying again may help.
//! * [`SETTINGS`]: the command line or the configuration is wrong.
//! * [`REFUSED`]: something that it stands on won't have it as it is (a password, a bucket, an address); trying again
//!   without changing something is pointless.

pub mod config;
pub mod descriptors;
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

/// The exit code of a wrong command line or configuration; the one that the command line's parser ends with.
pub const SETTINGS: u8 = 2;
/// The exit code where something that the program stands on has to be changed by its operator.
pub const REFUSED: u8 = 3;

/// What a program's `--help` says last about how it ends.
pub const EXIT_CODES: &str = "Exit codes: 0 done or ended as asked, 1 failed, 2 wrong command line or setting, 3 refused by what it stands on.";

/// Where settings come from, beside the environment (`INFERA_LISTEN=…`, two underscores for a dot).
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
    /// Sets one key, as if it had been typed last.
    pub fn set(&mut self, key: &str, value: impl fmt::Display) {
        self.set.push((key.to_owned(), value.to_string()));
    }

    /// The configuration, from `default_file` if none was named; `log` finds its logs' settings, whose filter
    /// `INFERA_LOG` overrides.
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
            // Logs begin when their settings are known. If this can't be written, there is nowhere else to say it.
            let _ = writeln!(
                io::stderr().lock(),
                "passed over, as what Kubernetes tells of a service and no settings: {} (a pod's enableServiceLinks: \
                 false keeps them away)",
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

/// Why a program ends, and with which code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    cause: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// The command line or the configuration is wrong.
    pub fn settings(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { code: SETTINGS, cause: cause.into() }
    }

    /// Something must be changed by an operator first.
    pub fn refused(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { code: REFUSED, cause: cause.into() }
    }

    /// The exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    /// Each cause once, the outermost first.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&causes(&*self.cause))
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    /// A failure at work.
    fn from(cause: E) -> Self {
        Self { code: 1, cause: cause.into() }
    }
}

/// Ends `program`: says on standard error why, if it failed. If that can't be written, there is nowhere else to say it.
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

/// Prints text for whoever called, where a closed pipe is no fault.
///
/// # Errors
/// The output can't be written to.
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
