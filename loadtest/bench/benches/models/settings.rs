//! The settings of a run: how long to measure, and where files are. It does not decide what is measured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

/// The benchmark's command line.
#[derive(Debug, Parser)]
pub(crate) struct Settings {
    /// One round with short spans and answers: tests the harness; the figures are not worth quoting.
    #[arg(long)]
    quick: bool,
    /// Only these sections, by their letters: a, b.
    #[arg(long, value_delimiter = ',', value_name = "LETTER")]
    only: Vec<String>,
    /// No further round begins that would end later, counted from the start. Eight minutes are what one keeps a machine
    /// quiet for; five rounds take some twenty.
    #[arg(long, default_value_t = 8)]
    minutes: u64,
    /// Threads of each engine.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// `engine.chunk_tokens` of ours; what ships by default.
    #[arg(long, value_name = "TOKENS")]
    chunk_tokens: Option<usize>,
    /// The folder of the model that is served here.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The file that says which engines take part and how they are started.
    #[arg(long, value_name = "FILE")]
    peers: PathBuf,
    /// The folder for the programs' logs.
    #[arg(long, value_name = "DIR")]
    logs: PathBuf,
    /// The file for the figures.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// Serves this variant of the model on standard input and output, as a child of the benchmark.
    #[arg(long, hide = true)]
    serve: Option<String>,
    /// Serves the engine's steps alone, without the worker around it.
    #[arg(long, hide = true)]
    bare: bool,
    /// Passed by cargo to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How long each row is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The most rounds, each of which measures every row once.
    pub(crate) rounds_max: usize,
    /// How long a rate is measured in a round.
    pub(crate) span: Duration,
    /// The uncounted time before it: all clients' first prompts are computed then.
    pub(crate) warm_up: Duration,
    /// By what the tokens of answers, and of the long prompt, are divided.
    pub(crate) shrink: usize,
}

/// As many rounds as fit, five at most: their median tolerates one disturbed round on either side.
const FULL: Pace =
    Pace { rounds_max: 5, span: Duration::from_secs(2), warm_up: Duration::from_secs(1), shrink: 1 };
const QUICK: Pace =
    Pace { rounds_max: 1, span: Duration::from_secs(1), warm_up: Duration::from_secs(1), shrink: 4 };

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

    pub(crate) const fn within(&self) -> Duration {
        Duration::from_secs(60 * self.minutes)
    }

    pub(crate) const fn threads(&self) -> usize {
        self.threads
    }

    pub(crate) const fn chunk_tokens(&self) -> Option<usize> {
        self.chunk_tokens
    }

    pub(crate) fn model(&self) -> &Path {
        &self.model
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

    /// Returns the variant to serve; none if this process is the benchmark itself.
    pub(crate) fn serve(&self) -> Option<&str> {
        self.serve.as_deref()
    }

    pub(crate) const fn is_bare(&self) -> bool {
        self.bare
    }
}
