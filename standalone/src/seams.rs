//! The embedded seams of one data folder, opened once, at start. Not what is done with them.

use std::sync::Arc;

use infera_archive::ArchiveError;
use infera_archive::local::LocalArchive;
use infera_broker::Broker;
use infera_broker::memory::MemoryBroker;
use infera_ledger::{LedgerError, Sweeping as _};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::time::Timestamp;

use crate::data_folder::DataFolder;

/// Why the seams of a data folder can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum SeamsError {
    /// The ledger says why.
    #[error("the ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The archive says why.
    #[error("the archive: {0}")]
    Archive(#[from] ArchiveError),
}

/// Broker, ledger and archive of one network.
#[derive(Clone, Debug)]
pub struct Seams {
    /// All halves of the ledger.
    pub ledger: Arc<SqliteLedger>,
    /// In this process.
    pub broker: Arc<dyn Broker>,
    /// A directory.
    pub archive: Arc<LocalArchive>,
}

impl Seams {
    /// Opens the seams. The holder of an earlier lease can't live any more: the data folder's lock is ours.
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

    /// What a gateway may hold.
    #[must_use]
    pub fn of_gateway(&self) -> infera_gateway::Seams {
        infera_gateway::Seams {
            intake: self.ledger.clone(),
            reader: self.ledger.clone(),
            accounts: self.ledger.clone(),
            network: self.ledger.clone(),
            broker: Arc::clone(&self.broker),
        }
    }

    /// What a verifier may hold.
    #[must_use]
    pub fn of_verifier(&self) -> infera_verifier::Seams {
        infera_verifier::Seams {
            owner: self.ledger.clone(),
            reader: self.ledger.clone(),
            standing: self.ledger.clone(),
            sweeping: self.ledger.clone(),
            network: self.ledger.clone(),
            index: self.ledger.clone(),
            pruning: self.ledger.clone(),
            archive: self.archive.clone(),
            broker: Arc::clone(&self.broker),
        }
    }
}
