//! What requests that make, follow or end jobs are given.

use std::sync::Arc;
use std::time::Duration;

use infera_ledger::{JobIntake, JobReader, Room};
use infera_types::ids::GatewayId;
use infera_types::shutdown::Shutdown;

use super::abandonment::Canceller;
use super::waiters::Waiters;
use crate::config::Config;
use crate::metrics::JobMetrics;
use crate::network::{Capacity, Catalogue};
use crate::outbox::Outbox;

/// Holds all that accepting a job and waiting for its end takes.
#[derive(Debug)]
pub(crate) struct Jobs {
    /// Says on which terms jobs are accepted.
    pub(crate) terms: Terms,
    /// Names the gateway that accepts them, to which their ends are told.
    pub(crate) gateway: GatewayId,
    /// Accepts and cancels them.
    pub(crate) intake: Arc<dyn JobIntake>,
    /// Reads them.
    pub(crate) reader: Arc<dyn JobReader>,
    /// Tells which models there are.
    pub(crate) catalogue: Arc<Catalogue>,
    /// Tells what there is room for.
    pub(crate) capacity: Arc<Capacity>,
    /// Holds the clients that wait.
    pub(crate) waiters: Arc<Waiters>,
    /// Takes their notices to the broker.
    pub(crate) outbox: Outbox,
    /// Cancels those whose clients went away.
    pub(crate) canceller: Canceller,
    /// Counts them.
    pub(crate) metrics: JobMetrics,
    /// Is cancelled when waiting clients must be answered at once.
    pub(crate) answer_now: Shutdown,
}

/// Says on which terms jobs are accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Bounds how long a submitted job may take.
    pub(crate) submit_deadline: Duration,
    /// Bounds the waiting jobs of one account.
    pub(crate) waiting_max: u32,
    /// Bounds what requests take up in the ledger.
    pub(crate) room: Room,
}

impl From<&Config> for Terms {
    fn from(config: &Config) -> Self {
        Self {
            submit_deadline: Duration::from_millis(config.submit_deadline_ms),
            waiting_max: config.waiting_limit(),
            room: config.room(),
        }
    }
}
