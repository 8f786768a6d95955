//! The settings of a run: how long to measure, and where programs are. It does not decide what is measured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use infera_bench::Fault;
use infera_bench::ours::Place;
use tempfile::TempDir;

/// The benchmark's command line.
#[derive(Debug, Parser)]
pub(crate) struct Settings {
    /// Two rounds of a fraction of a second: tests the harness; the figures are not worth quoting.
    #[arg(long)]
    quick: bool,
    /// Only these sections, by their letters.
    #[arg(long, value_delimiter = ',', value_name = "LETTER")]
    only: Vec<String>,
    /// The release build of `infera`.
    #[arg(long, value_name = "FILE")]
    infera: PathBuf,
    /// The folder that the other gateways are installed in; those that are missing are left out.
    #[arg(long, value_name = "DIR")]
    peers: PathBuf,
    /// The parent of scratch folders: on a disk, because commits in memory would cost nothing.
    #[arg(long, value_name = "DIR")]
    scratch: PathBuf,
    /// The folder for the programs' logs.
    #[arg(long, value_name = "DIR")]
    logs: PathBuf,
    /// The file for the figures.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// Passed by cargo to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How long each row is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Rounds, each of which measures every row once.
    pub(crate) rounds: usize,
    /// How long a row is measured per round.
    pub(crate) span: Duration,
    /// The uncounted time before a row: connections open and caches fill.
    pub(crate) warm_up: Duration,
    /// The same for Python and JavaScript, which compile while they run. LiteLLM answers the first requests of 64
    /// connections only after seconds.
    pub(crate) slow_warm_up: Duration,
}

/// Five rounds: their median tolerates one disturbed round on either side.
const FULL: Pace = Pace {
    rounds: 5,
    span: Duration::from_secs(3),
    warm_up: Duration::from_millis(500),
    slow_warm_up: Duration::from_secs(3),
};
const QUICK: Pace = Pace {
    rounds: 2,
    span: Duration::from_millis(500),
    warm_up: Duration::from_millis(100),
    slow_warm_up: Duration::from_secs(1),
};

impl Settings {
    pub(crate) const fn is_quick(&self) -> bool {
        self.quick
    }

    pub(crate) const fn pace(&self) -> Pace {
        if self.quick { QUICK } else { FULL }
    }

    pub(crate) fn wants(&self, section: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|letter| letter == section)
    }

    /// Returns where our own program is, and what it writes goes.
    pub(crate) fn place(&self) -> Place<'_> {
        Place { program: &self.infera, scratch: &self.scratch, logs: &self.logs }
    }

    pub(crate) fn peers(&self) -> &Path {
        &self.peers
    }

    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    pub(crate) fn json(&self) -> &Path {
        &self.json
    }

    /// Makes a folder that is removed when it is no longer used.
    pub(crate) fn scratch(&self) -> Result<TempDir, Fault> {
        std::fs::create_dir_all(&self.scratch)?;
        Ok(tempfile::tempdir_in(&self.scratch)?)
    }
}
