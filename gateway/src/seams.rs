//! What a gateway is given from outside. It can't take, settle or post a job, because it isn't given the parts of the
//! ledger that do this.

use std::sync::Arc;

use infera_broker::Broker;
use infera_ledger::{
    AccountBook, ErasureOrders, JobBatches, JobIntake, JobLists, JobReader, KeyBook, NetworkBook,
    NodeGroupBook, NodeReader, NodeRoster,
};

/// The seams that a gateway works on.
#[derive(Clone, Debug)]
pub struct Seams {
    /// The ledger's part that accepts and cancels jobs.
    pub intake: Arc<dyn JobIntake>,
    /// The ledger's part that reads jobs.
    pub reader: Arc<dyn JobReader>,
    /// The ledger's part that accepts and cancels several jobs at once.
    pub batches: Arc<dyn JobBatches>,
    /// The ledger's part that reads lists of jobs and their ends.
    pub lists: Arc<dyn JobLists>,
    /// The ledger's accounts and keys.
    pub accounts: Arc<dyn AccountBook>,
    /// The ledger's part that manages accounts' keys.
    pub keys: Arc<dyn KeyBook>,
    /// The ledger's part that takes orders to erase text.
    pub erasures: Arc<dyn ErasureOrders>,
    /// The ledger's catalogue, epochs and records of nodes.
    pub network: Arc<dyn NetworkBook>,
    /// The ledger's part by which owners see and manage their nodes.
    pub roster: Arc<dyn NodeRoster>,
    /// The ledger's part that reads what nodes did.
    pub node_reader: Arc<dyn NodeReader>,
    /// The ledger's part that keeps groups of nodes.
    pub groups: Arc<dyn NodeGroupBook>,
    /// The broker, which takes notices and delivers completions.
    pub broker: Arc<dyn Broker>,
}
