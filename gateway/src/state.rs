//! Everything that requests share, made once. It holds the parts together and does nothing itself.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use infera_broker::Broker;
use infera_ledger::{AccountBook, JobIntake, JobReader, NetworkBook, Statistics};
use infera_types::ids::GatewayId;
use infera_types::shutdown::Shutdown;
use tokio_util::task::TaskTracker;

use crate::capacity::Capacity;
use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::keys::KeyCache;
use crate::layers::body::ParsingPool;
use crate::layers::rate_limit::Limits;
use crate::memory::MemoryBudget;
use crate::meters::Meters;
use crate::nodes::Admission;
use crate::outbox::Outbox;
use crate::readiness::Looks;
use crate::waiters::Waiters;

/// What a gateway needs from outside. It can't take, settle or post: it isn't given the halves of the ledger that do.
#[derive(Clone, Debug)]
pub struct Seams {
    /// Accepting and cancelling.
    pub intake: Arc<dyn JobIntake>,
    /// Reading jobs.
    pub reader: Arc<dyn JobReader>,
    /// Accounts and keys.
    pub accounts: Arc<dyn AccountBook>,
    /// Catalogue and epoch.
    pub network: Arc<dyn NetworkBook>,
    /// Notices out, completions in.
    pub broker: Arc<dyn Broker>,
}

/// What every request is given.
#[derive(Debug)]
pub struct State {
    /// The settings.
    pub config: Config,
    /// This process.
    pub gateway: GatewayId,
    /// The outside.
    pub seams: Seams,
    /// Models and epoch.
    pub catalogue: Catalogue,
    /// Room on nodes.
    pub capacity: Arc<Capacity>,
    /// Clients that wait.
    pub waiters: Arc<Waiters>,
    /// Notices on their way.
    pub outbox: Outbox,
    /// What is counted.
    pub meters: Arc<Meters>,
    /// Keys seen lately.
    pub keys: KeyCache,
    /// Counts how much each caller asked.
    pub limits: Limits,
    /// Memory for large bodies and replies.
    pub memory: MemoryBudget,
    /// Where large bodies are understood.
    pub parsing: ParsingPool,
    /// Lets nodes in from outside, where this gateway does.
    pub admission: OnceLock<Admission>,
    /// Whether completions are being consumed.
    pub completions_ready: Arc<AtomicBool>,
    /// The network's counts, for as long as they are worth showing.
    pub statistics: tokio::sync::Mutex<Option<(Instant, Statistics)>>,
    /// What ledger and broker answered when somebody last asked whether this gateway is ready.
    pub looks: Looks,
    /// Cancelled when waiting requests must be answered at once: the drain's time is over.
    pub force: Shutdown,
    /// Cancelled when the shutdown begins.
    pub stop: Shutdown,
    /// Small pieces of work that outlive their request, such as cancelling a job whose client went away.
    pub tasks: TaskTracker,
}
