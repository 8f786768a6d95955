//! Everything that requests share, made once. It holds the parts together and does nothing itself: the layers and the table
//! of paths (`http`) hand each part to what needs it.

use std::sync::Arc;

use infera_ledger::AccountBook;
use infera_types::shutdown::Shutdown;

use crate::access::{KeyCache, Limits};
use crate::config::Config;
use crate::jobs::Jobs;
use crate::memory::MemoryBudget;
use crate::metrics::{ConnectionMetrics, RequestMetrics};
use crate::readiness::Probe;
use crate::routes::{Conversations, NetworkCounts, Nodes};

/// Holds what serving requests takes.
#[derive(Debug)]
pub(crate) struct State {
    /// The operator's settings.
    pub(crate) config: Config,
    /// Accepts jobs and follows them.
    pub(crate) jobs: Jobs,
    /// Reads conversations.
    pub(crate) conversations: Conversations,
    /// Holds the accounts that sign up.
    pub(crate) accounts: Arc<dyn AccountBook>,
    /// Holds the keys that were seen lately.
    pub(crate) keys: KeyCache,
    /// Counts how much each caller asked.
    pub(crate) limits: Limits,
    /// Lets nodes in from outside.
    pub(crate) nodes: Nodes,
    /// Counts the whole network.
    pub(crate) counts: NetworkCounts,
    /// Tells whether this gateway can take work.
    pub(crate) probe: Arc<Probe>,
    /// Bounds the memory of large bodies and replies.
    pub(crate) memory: MemoryBudget,
    /// Counts requests.
    pub(crate) requests: RequestMetrics,
    /// Counts connections.
    pub(crate) connections: ConnectionMetrics,
    /// Is cancelled when the shutdown begins.
    pub(crate) stop: Shutdown,
    /// Is cancelled when waiting requests must be answered at once: the drain's time is over.
    pub(crate) force: Shutdown,
}
