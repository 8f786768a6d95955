//! Everything that requests share, made once. It holds the parts together and does nothing itself: the layers and the
//! table of paths (`http`) give each handler the parts that it needs.

use std::sync::Arc;

use infera_ledger::{AccountBook, ErasureOrders, KeyBook};
use infera_types::shutdown::Shutdown;

use crate::access::{KeyCache, Limits};
use crate::config::Config;
use crate::jobs::Jobs;
use crate::mail::Post;
use crate::memory::MemoryBudget;
use crate::metrics::{ConnectionMetrics, RequestMetrics};
use crate::readiness::Probe;
use crate::routes::{Conversations, Documents, ModelTerms, NetworkCounts, NodeModels, Nodes, Runners};

/// The parts that serving requests needs.
#[derive(Debug)]
pub(crate) struct State {
    /// The operator's settings.
    pub(crate) config: Config,
    /// What accepting jobs and waiting for them needs.
    pub(crate) jobs: Arc<Jobs>,
    /// The reader of conversations.
    pub(crate) conversations: Conversations,
    /// The ledger's accounts, for sign-ups.
    pub(crate) accounts: Arc<dyn AccountBook>,
    /// What mails need; none if this network sends none.
    pub(crate) post: Option<Post>,
    /// The ledger's keys by their ids.
    pub(crate) key_book: Arc<dyn KeyBook>,
    /// The ledger's part that takes orders to erase text.
    pub(crate) erasures: Arc<dyn ErasureOrders>,
    /// The cache of keys that were used lately.
    pub(crate) keys: KeyCache,
    /// The limits per key and per address.
    pub(crate) limits: Arc<Limits>,
    /// What letting in nodes from outside needs.
    pub(crate) nodes: Nodes,
    /// What owners need to see and manage their nodes.
    pub(crate) runners: Runners,
    /// The nodes that served lately.
    pub(crate) node_models: NodeModels,
    /// The counts of the whole network.
    pub(crate) counts: NetworkCounts,
    /// The description of this API.
    pub(crate) documents: Documents,
    /// The check of whether this gateway can take work.
    pub(crate) probe: Arc<Probe>,
    /// The budget of large bodies and replies.
    pub(crate) memory: MemoryBudget,
    /// The metrics of requests.
    pub(crate) requests: RequestMetrics,
    /// The metrics of connections.
    pub(crate) connections: ConnectionMetrics,
    /// The signal that a shutdown has begun.
    pub(crate) stop: Shutdown,
    /// The signal that the drain's time is over and waiting requests must be answered at once.
    pub(crate) force: Shutdown,
}

impl State {
    /// Returns the terms on which models are offered.
    pub(crate) const fn model_terms(&self) -> ModelTerms<'_> {
        ModelTerms { answers: self.conversations.bounds(), currency: &self.config.currency }
    }
}
