//! The settings of a run: how long to measure, and where files are. It does not decide what is measured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use infera_bench::ours::Place;
use infera_bench::{Fault, root};
use tempfile::TempDir;

/// The benchmark's command line.
#[derive(Debug, Parser)]
pub(crate) struct Settings {
    /// Two rounds of a fraction of a second: tests the harness; the figures are not worth quoting.
    #[arg(long)]
    quick: bool,
    /// Only these sections, by name.
    #[arg(long, value_delimiter = ',', value_name = "SECTION")]
    only: Vec<String>,
    /// The release build of `infera`.
    #[arg(long, value_name = "FILE")]
    infera: PathBuf,
    /// A release build of another commit, beside which jobs that don't stream are measured.
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// The folder of the generated 135M model.
    #[arg(long, value_name = "DIR")]
    large: PathBuf,
    /// The parent of scratch folders: on a disk, because commits in memory would cost nothing.
    #[arg(long, value_name = "DIR")]
    scratch: PathBuf,
    /// The file for the figures.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// Passed by cargo to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How long each part is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Rounds, each of which measures every row once.
    pub(crate) rounds: usize,
    /// How long a timed row is measured per round.
    pub(crate) span: Duration,
    /// The uncounted time before a row: connections open and caches fill.
    pub(crate) warm_up: Duration,
    /// Jobs per round, in rows that time a number of jobs.
    pub(crate) jobs: usize,
    /// How long after ready memory is read.
    pub(crate) idle: Duration,
    /// Streams of each kind, of which the first token is timed.
    pub(crate) first_tokens: usize,
    /// Streams that are open at once, and the tokens of each.
    pub(crate) open_streams: (usize, usize),
    /// Runs of each binary, of jobs that don't stream.
    pub(crate) binary_runs: usize,
}

/// Five rounds: their median tolerates one disturbed round on either side.
const FULL: Pace = Pace {
    rounds: 5,
    span: Duration::from_secs(3),
    warm_up: Duration::from_millis(500),
    jobs: 2_000,
    idle: Duration::from_secs(5),
    // A p99 of 2,000 is made of the 20 slowest.
    first_tokens: 2_000,
    open_streams: (1_000, 150),
    binary_runs: 10,
};
const QUICK: Pace = Pace {
    rounds: 2,
    span: Duration::from_millis(500),
    warm_up: Duration::from_millis(100),
    jobs: 200,
    idle: Duration::from_millis(500),
    first_tokens: 20,
    open_streams: (50, 15),
    binary_runs: 2,
};

impl Settings {
    pub(crate) const fn is_quick(&self) -> bool {
        self.quick
    }

    pub(crate) const fn pace(&self) -> Pace {
        if self.quick { QUICK } else { FULL }
    }

    pub(crate) fn wants(&self, section: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == section)
    }

    pub(crate) fn infera(&self) -> &Path {
        &self.infera
    }

    /// Returns where a program of ours is run from.
    pub(crate) fn place_of<'a>(&'a self, program: &'a Path) -> Place<'a> {
        Place { program, scratch: &self.scratch, logs: &self.scratch }
    }

    /// Returns the program of another commit, if one is given.
    pub(crate) fn base(&self) -> Option<&Path> {
        self.base.as_deref()
    }

    pub(crate) fn json(&self) -> &Path {
        &self.json
    }

    /// Returns the model folders to decode with, and which of their files: the bundled one, the generated one, and SmolLM2's
    /// where `make model-smollm2` has made it.
    pub(crate) fn models(&self) -> Vec<(PathBuf, &'static str)> {
        let mut models = vec![(root().join("models/infera-tiny"), "model"), (self.large.clone(), "model")];
        let real = root().join(".runtime/models/smollm2-135m-instruct");
        if real.is_dir() {
            models.push((real, "q4"));
        }
        models
    }

    /// Makes a folder that is removed after its section.
    pub(crate) fn scratch(&self) -> Result<TempDir, Fault> {
        std::fs::create_dir_all(&self.scratch)?;
        Ok(tempfile::tempdir_in(&self.scratch)?)
    }
}
