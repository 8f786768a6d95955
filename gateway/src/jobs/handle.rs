//! The parts that requests need to make, follow or end jobs.

use std::sync::Arc;
use std::time::Duration;

use infera_ledger::{JobBatches, JobIntake, JobLists, JobReader, NodeGroupBook, Room};
use infera_types::ids::GatewayId;
use infera_types::shutdown::Shutdown;

use super::abandonment::Canceller;
use super::collecting::Collectors;
use super::streams::Streams;
use super::waiters::Waiters;
use crate::config::Config;
use crate::metrics::JobMetrics;
use crate::network::{Capacity, Catalogue};
use crate::outbox::Outbox;

/// Everything that accepting a job and waiting for its end needs.
#[derive(Debug)]
pub(crate) struct Jobs {
    /// The terms on which jobs are accepted.
    pub(crate) terms: Terms,
    /// The id of the gateway that accepts the jobs, to which their ends are sent.
    pub(crate) gateway: GatewayId,
    /// The ledger's part that accepts and cancels jobs.
    pub(crate) intake: Arc<dyn JobIntake>,
    /// The ledger's part that reads jobs.
    pub(crate) reader: Arc<dyn JobReader>,
    /// The ledger's part that accepts and cancels several jobs at once.
    pub(crate) batches: Arc<dyn JobBatches>,
    /// The ledger's part that reads lists of jobs and their ends.
    pub(crate) lists: Arc<dyn JobLists>,
    /// The ledger's groups of nodes.
    pub(crate) groups: Arc<dyn NodeGroupBook>,
    /// The models that exist.
    pub(crate) catalogue: Arc<Catalogue>,
    /// The capacity that the network has.
    pub(crate) capacity: Arc<Capacity>,
    /// The clients that wait.
    pub(crate) waiters: Arc<Waiters>,
    /// The clients that see their answers as they are written.
    pub(crate) streams: Arc<Streams>,
    /// The clients that wait for ends of any of their jobs.
    pub(crate) collectors: Arc<Collectors>,
    /// The outbox, which takes the jobs' notices to the broker.
    pub(crate) outbox: Outbox,
    /// The canceller of jobs whose clients went away.
    pub(crate) canceller: Canceller,
    /// The metrics of jobs.
    pub(crate) metrics: JobMetrics,
    /// The signal that waiting clients must be answered at once.
    pub(crate) answer_now: Shutdown,
}

/// The terms on which jobs are accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// The longest time that a submitted job may take.
    pub(crate) submit_deadline: Duration,
    /// The largest number of jobs of one account that wait or run.
    pub(crate) waiting_max: u32,
    /// The largest number of jobs of one share in a model's first queue.
    pub(crate) offered_max: u32,
    /// The room that requests may take up in the ledger.
    pub(crate) room: Room,
    /// The time from the end of a job that isn't stored until its text is erased.
    pub(crate) unstored: Duration,
    /// The most days that a key's retention counts for.
    pub(crate) retention_days_max: u32,
}

impl From<&Config> for Terms {
    fn from(config: &Config) -> Self {
        Self {
            submit_deadline: Duration::from_millis(config.submit_deadline_ms),
            waiting_max: config.waiting_limit(),
            offered_max: config.offered_limit(),
            room: config.room(),
            unstored: Duration::from_millis(config.unstored_ms),
            retention_days_max: config.retention_days_max,
        }
    }
}
