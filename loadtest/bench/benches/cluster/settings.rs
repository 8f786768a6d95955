//! The settings of a run: how long to measure, and where servers and programs are. It does not decide what is
//! measured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use infera_bench::Fault;

/// The benchmark's command line. Addresses come from the environment that `infra/services.py` writes, because they
/// hold passwords.
#[derive(Debug, Parser)]
pub(crate) struct Settings {
    /// Few and short rounds: tests the harness within three minutes; the figures are not worth quoting.
    #[arg(long)]
    quick: bool,
    /// Only these sections, by their letters.
    #[arg(long, value_delimiter = ',', value_name = "LETTER")]
    only: Vec<String>,
    /// The folder of the release build's programs.
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// The folder for the programs' logs.
    #[arg(long, value_name = "DIR")]
    scratch: PathBuf,
    /// The file for the figures.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// RabbitMQ's process.
    #[arg(long, value_name = "PID")]
    pub(crate) broker_pid: u32,
    /// PostgreSQL's first process.
    #[arg(long, value_name = "PID")]
    pub(crate) database_pid: u32,
    /// Passed by cargo to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How long each part is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Rounds of (a), each of which measures every row once.
    pub(crate) accept_rounds: usize,
    /// How long a row of (a) is measured per round.
    pub(crate) accept_span: Duration,
    /// The same at half the rate: a percentile of 1 % needs some thousand arrivals.
    pub(crate) paced_span: Duration,
    /// Rounds of (b), (c) and (f).
    pub(crate) life_rounds: usize,
    /// How long a row of (b), (c) and (f) is measured per round.
    pub(crate) life_span: Duration,
    /// The uncounted time before either: connections open and caches fill.
    pub(crate) warm_up: Duration,
    /// The numbers of queued jobs at which memory is read, first and last.
    pub(crate) queued: [usize; 2],
    /// Starts of a gateway.
    pub(crate) starts: usize,
    /// How long after the last event memory is read.
    pub(crate) idle: Duration,
    /// Streams that are open at once, and the tokens of each.
    pub(crate) open_streams: (usize, usize),
}

/// Five rounds, or three if a round takes half a minute: their median tolerates a disturbed round.
const FULL: Pace = Pace {
    accept_rounds: 5,
    accept_span: Duration::from_secs(3),
    paced_span: Duration::from_secs(5),
    life_rounds: 3,
    life_span: Duration::from_secs(10),
    warm_up: Duration::from_secs(2),
    queued: [1_000, 100_000],
    starts: 5,
    idle: Duration::from_secs(3),
    open_streams: (1_000, 150),
};
const QUICK: Pace = Pace {
    accept_rounds: 2,
    accept_span: Duration::from_secs(1),
    paced_span: Duration::from_secs(1),
    life_rounds: 1,
    life_span: Duration::from_secs(3),
    warm_up: Duration::from_secs(1),
    queued: [500, 5_000],
    starts: 2,
    idle: Duration::from_secs(1),
    open_streams: (40, 25),
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

    pub(crate) fn json(&self) -> &Path {
        &self.json
    }

    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Returns the path of one of our programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Returns RabbitMQ's address.
    pub(crate) fn broker(&self) -> Result<String, Fault> {
        told("TEST_RABBITMQ_URL")
    }

    /// Returns the address of one of the server's databases.
    pub(crate) fn database(&self, name: &str) -> Result<String, Fault> {
        let url = told("TEST_POSTGRES_URL")?;
        let server = url.rsplit_once('/').ok_or("TEST_POSTGRES_URL names no database")?.0;
        Ok(format!("{server}/{name}"))
    }

    /// Returns the database that always exists, from which others are made.
    pub(crate) fn first_database(&self) -> Result<String, Fault> {
        told("TEST_POSTGRES_URL")
    }
}

/// Returns a variable of `data/services.env`.
pub(crate) fn told(variable: &str) -> Result<String, Fault> {
    std::env::var(variable).map_err(|_| format!("{variable} is not set: run `make services` first").into())
}
