//! Owns jobs: draws the group, judges the answers, settles.
//!
//! The decisions are pure functions of values: `harmonizer` (who is asked), `integrity` and `compare` (what the
//! replicas say), `quorum` (whether that is an answer), `verdicts`, `points` and `reputation` (what the nodes get
//! for it). They read no clock, no queue and no ledger; everything that does is around them.
//!
//! Read `job` first: the life of a job, top to bottom. `consumer` starts it, `asking` speaks with its nodes, `settler`
//! ends it, `scorer` closes its group. `trials` decides which may begin beside which. `tenure` is what keeps all of them
//! together, and `sweeper`, `projector` and `archiver` look after what no job does; `warden` after who is connected to the
//! broker.

pub mod catalogue;
pub mod compare;
pub mod config;
pub mod counters;
pub mod harmonizer;
pub mod integrity;
pub mod points;
pub mod quorum;
pub mod reputation;
pub mod thresholds;
pub mod verdicts;

mod archiver;
mod asking;
mod book;
mod capacity;
mod collector;
mod complaints;
mod consumer;
mod dispatch;
mod fleet;
mod group;
mod hearing;
mod in_flight;
mod job;
mod nodes;
mod parking;
mod peers;
mod projector;
mod prompt;
mod queues;
mod scorer;
mod settler;
mod sweeper;
mod tenure;
mod trials;
mod vitals;
pub mod warden;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use infera_archive::Archive;
use infera_broker::Broker;
use infera_ledger::{ArchiveIndex, JobOwner, JobReader, NetworkBook, Pruning, Standing, Sweeping};
use infera_model::chat::ChatModel;
use infera_types::ids::ModelName;
use infera_types::shutdown::Shutdown;
use tokio::time::Instant;

pub use crate::config::{Config, ConfigError};
use crate::counters::Counters;
use crate::nodes::NodeTable;
use crate::tenure::{Tenure, TenureEnd};
use crate::thresholds::{Thresholds, ThresholdsError};
pub use crate::vitals::VerifierHandle;
use crate::vitals::Vitals;
use crate::warden::Gate;

/// After a tenure that ended badly, before the next: most often the ledger was away for long.
const RETRY: Duration = Duration::from_secs(1);

/// Everything outside that a verifier touches.
#[derive(Clone, Debug)]
pub struct Seams {
    /// Takes, settles, posts.
    pub owner: Arc<dyn JobOwner>,
    /// Reads ends of jobs.
    pub reader: Arc<dyn JobReader>,
    /// Folds postings.
    pub standing: Arc<dyn Standing>,
    /// Leases, and what was left lying.
    pub sweeping: Arc<dyn Sweeping>,
    /// Catalogue, nodes, epochs.
    pub network: Arc<dyn NetworkBook>,
    /// Which record lies where.
    pub index: Arc<dyn ArchiveIndex>,
    /// Lets go of what is archived.
    pub pruning: Arc<dyn Pruning>,
    /// Where records lie.
    pub archive: Arc<dyn Archive>,
    /// What carries messages.
    pub broker: Arc<dyn Broker>,
}

/// Why a verifier can't be made.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    /// The operator's settings; all mistakes at once.
    #[error("{}", list(.0))]
    Config(Vec<ConfigError>),
    /// The thresholds that the program carries; a build's mistake.
    #[error(transparent)]
    Thresholds(#[from] ThresholdsError),
}

fn list(mistakes: &[ConfigError]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A verifier, ready to run.
pub struct Verifier {
    config: Config,
    seams: Seams,
    chats: Arc<HashMap<ModelName, Arc<ChatModel>>>,
    thresholds: Arc<Thresholds>,
    counters: Arc<Counters>,
    vitals: Arc<Vitals>,
    /// The broker's door, where this verifier looks after it.
    gate: Option<Arc<Gate>>,
    has_nodes_inside: bool,
    /// Which nodes live is no tenure's secret: a new one need not wait for their next heartbeats.
    nodes: Arc<NodeTable>,
    began: Instant,
}

impl Verifier {
    /// A verifier for the models of `chats`, by catalogue name. Nothing happens before [`Verifier::run`].
    ///
    /// # Errors
    /// [`VerifierError`]: says which settings are wrong.
    pub fn new(
        config: Config,
        seams: Seams,
        chats: HashMap<ModelName, Arc<ChatModel>>,
    ) -> Result<Self, VerifierError> {
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(VerifierError::Config(mistakes));
        }
        let thresholds = Arc::new(Thresholds::committed()?);
        Ok(Self {
            nodes: Arc::new(NodeTable::new(config.silence_max(), config.nodes_max)),
            began: Instant::now(),
            config,
            seams,
            chats: Arc::new(chats),
            thresholds,
            counters: Arc::default(),
            vitals: Arc::default(),
            gate: None,
            has_nodes_inside: false,
        })
    }

    /// The same verifier, which looks after nodes' connections to the broker.
    #[must_use]
    pub fn guarding(self, gate: Gate) -> Self {
        Self { gate: Some(Arc::new(gate)), ..self }
    }

    /// The same verifier in one process with nodes: what ends them ends it, so a job that may do so is tried alone up to
    /// its end, and not only until its nodes are asked.
    #[must_use]
    pub fn beside_nodes(self) -> Self {
        Self { has_nodes_inside: true, ..self }
    }

    /// What happened so far; stays readable while it runs.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Shows how it is doing; stays good when [`Verifier::run`] has taken it.
    #[must_use]
    pub fn handle(&self) -> VerifierHandle {
        let thresholds = self.thresholds.version().to_owned();
        VerifierHandle { vitals: Arc::clone(&self.vitals), counters: self.counters(), thresholds }
    }

    /// Owns jobs until `shutdown`, then drains. A lost lease, or a task that breaks, ends everything in hand; then it
    /// begins again under another id, for as long as it takes.
    pub async fn run(self, shutdown: Shutdown) {
        loop {
            let tenure = Arc::new(Tenure::new(&self));
            match tenure.run(&shutdown).await {
                TenureEnd::Shutdown => return,
                TenureEnd::LeaseLost | TenureEnd::TaskLost => tokio::time::sleep(RETRY).await,
            }
        }
    }
}
