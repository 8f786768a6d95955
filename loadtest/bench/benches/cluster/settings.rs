//! What a run is told: how long to measure, and where servers and programs are. Not what is measured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use crate::Fault;

/// The benchmark's command line. Addresses come from the environment that `infra/services.py` writes: there are
/// passwords in them.
#[derive(Debug, Parser)]
pub(crate) struct Settings {
    /// Few and short rounds: tries the harness within three minutes, measures nothing worth quoting.
    #[arg(long)]
    quick: bool,
    /// Only these sections, by their letters.
    #[arg(long, value_delimiter = ',', value_name = "LETTER")]
    only: Vec<String>,
    /// The folder of the release build's programs.
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// Logs of the programs go here.
    #[arg(long, value_name = "DIR")]
    scratch: PathBuf,
    /// Where the figures go.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// RabbitMQ's process.
    #[arg(long, value_name = "PID")]
    pub(crate) broker_pid: u32,
    /// PostgreSQL's first process.
    #[arg(long, value_name = "PID")]
    pub(crate) database_pid: u32,
    /// Given by cargo to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How long is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Rounds of (a), each of which measures every row once.
    pub(crate) accept_rounds: usize,
    /// How long a row of (a) is measured per round.
    pub(crate) accept_span: Duration,
    /// The same at half the rate: a percentile of 1 % wants some thousand arrivals.
    pub(crate) paced_span: Duration,
    /// Rounds of (b), (c) and (f).
    pub(crate) life_rounds: usize,
    /// How long a row of those is measured per round.
    pub(crate) life_span: Duration,
    /// What isn't counted before either: connections open, caches fill.
    pub(crate) warm_up: Duration,
    /// Queued jobs at which memory is read, first and last.
    pub(crate) queued: [usize; 2],
    /// Starts of a gateway.
    pub(crate) starts: usize,
    /// Memory is read so long after the last event.
    pub(crate) idle: Duration,
}

/// Five rounds, or three where a round takes half a minute: the median of them stands a disturbed round.
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

    /// One of our programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// RabbitMQ's address.
    pub(crate) fn broker(&self) -> Result<String, Fault> {
        told("TEST_RABBITMQ_URL")
    }

    /// The address of one of the server's databases.
    pub(crate) fn database(&self, name: &str) -> Result<String, Fault> {
        let url = told("TEST_POSTGRES_URL")?;
        let server = url.rsplit_once('/').ok_or("TEST_POSTGRES_URL names no database")?.0;
        Ok(format!("{server}/{name}"))
    }

    /// The database that is always there, from which others are made.
    pub(crate) fn first_database(&self) -> Result<String, Fault> {
        told("TEST_POSTGRES_URL")
    }
}

/// A variable of `data/services.env`.
pub(crate) fn told(variable: &str) -> Result<String, Fault> {
    std::env::var(variable).map_err(|_| format!("{variable} is not set: run `make services` first").into())
}
