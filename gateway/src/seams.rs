//! What a gateway needs from outside. It can't take, settle or post a job: it isn't given the parts of the ledger that do.

use std::sync::Arc;

use infera_broker::Broker;
use infera_ledger::{AccountBook, JobIntake, JobReader, NetworkBook};

/// Holds the seams that a gateway works on.
#[derive(Clone, Debug)]
pub struct Seams {
    /// Accepts and cancels jobs.
    pub intake: Arc<dyn JobIntake>,
    /// Reads jobs.
    pub reader: Arc<dyn JobReader>,
    /// Holds accounts and keys.
    pub accounts: Arc<dyn AccountBook>,
    /// Holds the catalogue and the epoch, and puts nodes on record.
    pub network: Arc<dyn NetworkBook>,
    /// Takes notices out and brings completions in.
    pub broker: Arc<dyn Broker>,
}
