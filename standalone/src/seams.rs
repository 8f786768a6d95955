//! The embedded seams of one data folder, opened once at start. Other modules use them.

use std::sync::Arc;

use infera_archive::ArchiveError;
use infera_archive::local::LocalArchive;
use infera_broker::Broker;
use infera_broker::memory::MemoryBroker;
use infera_ledger::{LedgerError, Sweeping as _};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::time::Timestamp;

use crate::data_folder::DataFolder;

/// Why the seams of a data folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SeamsError {
    /// The ledger cannot be opened.
    #[error("the ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The archive cannot be opened.
    #[error("the archive: {0}")]
    Archive(#[from] ArchiveError),
}

/// Broker, ledger and archive of one network.
#[derive(Clone, Debug)]
pub struct Seams {
    /// All halves of the ledger.
    pub ledger: Arc<SqliteLedger>,
    /// The broker inside this process.
    pub broker: Arc<dyn Broker>,
    /// The archive, which is a directory.
    pub archive: Arc<LocalArchive>,
}

impl Seams {
    /// Opens the seams and ends all leases: no earlier holder can be alive, because this process has the data
    /// folder's lock.
    ///
    /// # Errors
    /// [`SeamsError`]; a damaged ledger is named with its remedy and left alone.
    pub async fn open(data: &DataFolder) -> Result<Self, SeamsError> {
        let path = data.ledger();
        let opened = tokio::task::spawn_blocking(move || SqliteLedger::open(&path)).await;
        let ledger = opened.map_err(|panic| LedgerError::Unavailable(panic.to_string()))??;
        ledger.end_leases(Timestamp::now()).await?;
        let archive = LocalArchive::open(data.archive())?;
        let broker = MemoryBroker::new();
        Ok(Self { ledger, broker, archive })
    }

    /// Returns the part that a gateway may hold.
    #[must_use]
    pub fn of_gateway(&self) -> infera_gateway::Seams {
        infera_gateway::Seams {
            intake: self.ledger.clone(),
            reader: self.ledger.clone(),
            batches: self.ledger.clone(),
            lists: self.ledger.clone(),
            accounts: self.ledger.clone(),
            keys: self.ledger.clone(),
            erasures: self.ledger.clone(),
            network: self.ledger.clone(),
            roster: self.ledger.clone(),
            node_reader: self.ledger.clone(),
            groups: self.ledger.clone(),
            broker: Arc::clone(&self.broker),
        }
    }

    /// Returns the part that a verifier may hold.
    #[must_use]
    pub fn of_verifier(&self) -> infera_verifier::Seams {
        infera_verifier::Seams {
            owner: self.ledger.clone(),
            reader: self.ledger.clone(),
            standing: self.ledger.clone(),
            sweeping: self.ledger.clone(),
            feeding: self.ledger.clone(),
            network: self.ledger.clone(),
            nodes: self.ledger.clone(),
            index: self.ledger.clone(),
            pruning: self.ledger.clone(),
            erasing: self.ledger.clone(),
            segments: self.ledger.clone(),
            archive: self.archive.clone(),
            broker: Arc::clone(&self.broker),
        }
    }
}
